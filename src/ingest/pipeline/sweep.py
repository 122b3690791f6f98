"""Step `delete`, its sweep: what names the contacts outside of their own rows is found by content and erased.

One pass over the workspace's dead letters, kept answers, transfers and segments serves ten thousand contacts. It is cut
into transactions of bounded size and goes on where it stopped. It begins once no request waits that was accepted before
the deletion: what becomes of those is then known, and what was given up on is found here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ingest.domain.sweeping import ERASED, answers_about, redact, without_contacts, without_rows
from ingest.domain.traces import Traces
from ingest.store import leftovers, purges
from ingest.store.deletions import Record
from ingest.store.unit_of_work import UnitOfWork

# Batches of two hundred contacts that one pass is for.
PASS_BATCHES = 50
# What one transaction reads at most, give or take a page.
STEP_BYTES = 8 * 1024 * 1024

Progress = Literal["waiting", "running", "done"]

ERASED_STATUS = 410
ERASED_ANSWER = b'{"code":410,"message":"the answer was erased with its contact","error":"gone"}'


@dataclass(frozen=True)
class Scope:
    """Whom a pass is for."""

    uow: UnitOfWork
    workspace_id: int
    contact_ids: frozenset[int]

    @cached_property
    def traces(self) -> Traces:
        """Their identifiers; read when there is anything to be searched at all."""
        return Traces(purges.list_identifiers(self.uow.tx, self.workspace_id, sorted(self.contact_ids)))

    def names(self, text: str) -> bool:
        """Return whether a text of ours names one of the contacts."""
        return self.traces.are_in_text(text)


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of a place came to: where the next one begins (None after the last), bytes read, rows changed."""

    after: Any
    size: int = 0
    changed: int = 0


def is_swept(deletion: Record, position: int) -> bool:
    """Return whether the contacts of the batch at that position have been swept for."""
    return bool(position < deletion.sweep.get("end", 0) and "place" not in deletion.sweep)


def sweep(uow: UnitOfWork, deletion: Record, position: int) -> tuple[dict[str, int], Progress]:
    """Go on with the pass for the batch at `position` and those after it; return the rows changed, by table.

    Beside them stands how far it is: "waiting" while older requests wait, so come back in a moment; "running" when more is
    to be read in a transaction of its own; "done".
    """
    state: dict[str, Any] = dict(deletion.sweep)
    if "place" not in state:
        if leftovers.has_older_requests(uow.tx, deletion.workspace_id, deletion.created_at):
            return {}, "waiting"
        state = {"first": position, "end": position + PASS_BATCHES, "place": 0, "after": None}
    ids = leftovers.list_frozen_between(uow.tx, deletion.workspace_id, deletion.id, state["first"], state["end"])
    scope = Scope(uow, deletion.workspace_id, frozenset(ids))
    counts: dict[str, int] = {}
    left = STEP_BYTES
    while left > 0 and state["place"] < len(PLACES):
        table, look = PLACES[state["place"]]
        page = look(scope, state["after"])
        counts[table] = counts.get(table, 0) + page.changed
        left -= page.size
        state["after"] = page.after
        if page.after is None:
            state["place"] += 1
    is_done = state["place"] == len(PLACES)
    leftovers.set_sweep(uow.tx, deletion.workspace_id, deletion.id, {"end": state["end"]} if is_done else state)
    return counts, "done" if is_done else "running"


def _dead_letters(scope: Scope, after: int | None) -> Page:
    letters = leftovers.list_letters(scope.uow.tx, scope.workspace_id, after or 0)
    theirs = [letter_id for letter_id, body in letters if scope.traces.are_in(body)]
    if theirs:
        leftovers.empty_letters(scope.uow.tx, scope.workspace_id, theirs)
    return Page(letters[-1][0] if letters else None, sum(len(body) for _, body in letters), len(theirs))


def _kept_answers(scope: Scope, after: str | None) -> Page:
    """Put a refusal in the place of answers about the contacts; a key that itself names one goes."""
    answers = leftovers.list_answers(scope.uow.tx, scope.workspace_id, after or "")
    dropped = [key for key, _ in answers if scope.names(key)]
    replaced = [
        key
        for key, body in answers
        if key not in dropped and (answers_about(body, scope.contact_ids) or scope.traces.are_in(body))
    ]
    if dropped:
        leftovers.drop_answers(scope.uow.tx, scope.workspace_id, dropped)
    if replaced:
        leftovers.replace_answers(scope.uow.tx, scope.workspace_id, replaced, ERASED_STATUS, ERASED_ANSWER)
    changed = len(dropped) + len(replaced)
    return Page(answers[-1][0] if answers else None, sum(len(body) for _, body in answers), changed)


def _files(scope: Scope, after: Sequence[int] | None) -> Page:
    """Take the contacts' rows out of exports, by id, and empty those of imports that are still to come."""
    if after is None:
        leftovers.wait_for_transfers(scope.uow.tx, scope.workspace_id)
    parts = leftovers.list_parts(scope.uow.tx, scope.workspace_id, after or (0, -1))
    changed = size = 0
    for part in parts:
        content = bytes(part.content)
        size += len(content)
        if part.kind == "export":
            kept, rows = without_contacts(content, scope.contact_ids, has_header=part.position == 0)
        else:
            kept, rows = without_rows(content, scope.names)
        if rows:
            leftovers.set_part(scope.uow.tx, scope.workspace_id, part.transfer_id, part.position, kept)
        changed += rows
    return Page((parts[-1].transfer_id, parts[-1].position) if parts else None, size, changed)


def _transfers(scope: Scope, after: int | None) -> Page:
    found = leftovers.list_transfers(scope.uow.tx, scope.workspace_id, after or 0)
    changed = 0
    for each in found:
        options = redact(each.options, scope.names)
        file_name = "" if scope.names(each.file_name) else each.file_name
        if (file_name, options) != (each.file_name, each.options):
            leftovers.set_transfer(scope.uow.tx, scope.workspace_id, each.id, file_name, options)
            changed += 1
    return Page(found[-1].id if found else None, 0, changed)


def _segments(scope: Scope, _after: None) -> Page:
    """Replace what names a contact in saved filters: the condition matched that contact, and now matches nobody."""
    changed = 0
    for each in leftovers.list_segments(scope.uow.tx, scope.workspace_id):
        name = f"Segment {each.id}" if scope.names(each.name) else each.name
        given = redact(each.filter, scope.names)
        search = ERASED if scope.names(each.search) else each.search
        if (name, given, search) != (each.name, each.filter, each.search):
            leftovers.set_segment(
                scope.uow.tx, scope.workspace_id, each.id, name=name, given=given, search=search, now=scope.uow.now
            )
            changed += 1
    return Page(None, 0, changed)


def _bulk_acts(scope: Scope, after: int | None) -> Page:
    found = leftovers.list_bulk_acts(scope.uow.tx, scope.workspace_id, after or 0)
    changed = 0
    for each in found:
        params = redact(each.params, scope.names)
        if params != each.params:
            leftovers.set_bulk_act(scope.uow.tx, scope.workspace_id, each.id, params)
            changed += 1
    return Page(found[-1].id if found else None, 0, changed)


def _deletion_keys(scope: Scope, after: int | None) -> Page:
    found = leftovers.list_deletion_keys(scope.uow.tx, scope.workspace_id, after or 0)
    theirs = [each.id for each in found if scope.names(each.idempotency_key)]
    if theirs:
        leftovers.drop_deletion_keys(scope.uow.tx, scope.workspace_id, theirs)
    return Page(found[-1].id if found else None, 0, len(theirs))


PLACES: Sequence[tuple[str, Callable[[Scope, Any], Page]]] = (
    ("dead_letter", _dead_letters),
    ("idempotency_key", _kept_answers),
    ("transfer_part", _files),
    ("transfer", _transfers),
    ("segment", _segments),
    ("bulk_act", _bulk_acts),
    ("deletion_job", _deletion_keys),
)
