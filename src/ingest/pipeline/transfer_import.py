"""Step `transfer`, imports: a file accepted in batches of 100 rows, each worked off in one transaction.

Rows are handled as sets and in the order of the file. A row that cannot be is reported and harms no other. No automation
starts; duplicates are looked for after each batch's commit. A batch that is done is not done again.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import msgspec

from ingest.domain.access import Principal
from ingest.domain.csv_cells import read_rows
from ingest.domain.fields import FieldDefinition
from ingest.domain.imports import (
    ImportOptions,
    ImportRow,
    Plan,
    RowOutcome,
    only_empty,
    plan_rows,
    read_row,
)
from ingest.domain.refusals import Invalid
from ingest.jobs.transfer_types import ImportBatch
from ingest.pipeline.contacts import Editor, create_contacts, update_contacts
from ingest.store import import_lookups as lookups
from ingest.store import transfers
from ingest.store.contact_edits import get_edited, lock_keys
from ingest.store.contacts import lock_contacts
from ingest.store.custom_fields import list_custom_fields
from ingest.store.lifecycles import list_stages
from ingest.store.tags import ensure_tags
from ingest.store.transfers import PartKey, Transfer
from ingest.store.unit_of_work import UnitOfWork

# A batch keeps the database busy for some hundredths of a second: what else it has to do waits no longer for it.
BATCH_ROWS = 100
# While a file is taken in, the process answers others: after each batch it has so many times the processor time for them.
BREATHS = 2
KEPT_DAYS = 30
IMPORT = "import"


def accept_import(uow: UnitOfWork, principal: Principal, content: bytes, options: ImportOptions, file_name: str) -> int:
    """Keep the file's rows in batches, add the first batch's job, and return the transfer's id.

    Raises Invalid for a file that cannot be read, is too large, or has no rows.
    """
    transfer_id = transfers.add_transfer(
        uow.tx,
        principal.workspace_id,
        IMPORT,
        options.as_json(),
        file_name=file_name,
        source=IMPORT,
        user_id=principal.user_id,
        token_id=principal.token_id,
        now=uow.now,
        expires_at=uow.now + timedelta(days=KEPT_DAYS),
    )
    total = 0
    began = time.thread_time()
    for position, rows in enumerate(_batches(content, options)):
        key = PartKey(principal.workspace_id, transfer_id, position)
        transfers.add_part(uow.tx, key, len(rows), msgspec.json.encode(rows))
        total += len(rows)
        time.sleep(BREATHS * (time.thread_time() - began))
        began = time.thread_time()
    if not total:
        raise Invalid("the file has no rows", field="file", word="no_rows")
    transfers.set_total(uow.tx, principal.workspace_id, transfer_id, total)
    uow.add_job(ImportBatch(principal.workspace_id, transfer_id))
    return transfer_id


def _batches(content: bytes, options: ImportOptions) -> Iterator[list[list[str]]]:
    rows = read_rows(content, options.form)
    next(rows, None)
    batch: list[list[str]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def import_batch(uow: UnitOfWork, job: ImportBatch) -> Counter[str]:
    """Work off one batch and add the next one's job; return how many rows ended how. Safe to run twice."""
    transfer = transfers.lock_transfer(uow.tx, job.workspace_id, job.transfer_id)
    key = PartKey(job.workspace_id, job.transfer_id, job.position)
    content = transfers.find_part(uow.tx, key) if transfer is not None else None
    if transfer is None or content is None:
        return Counter()
    rows: list[list[str]] = msgspec.json.decode(content)
    first = job.position * BATCH_ROWS + 1
    outcomes = _import_rows(uow, Editor(job.workspace_id, IMPORT, transfer.user_id), transfer, rows, first)
    transfers.finish_part(uow.tx, key, [each.as_json() for each in outcomes], uow.now)
    counts = Counter(each.outcome for each in outcomes)
    is_over = transfer.done_count + len(rows) >= transfer.total_count
    transfers.mark_progress(
        uow.tx, transfer, job.workspace_id, done=len(rows), counts=counts, is_over=is_over, now=uow.now
    )
    if not is_over:
        uow.add_job(ImportBatch(job.workspace_id, job.transfer_id, job.position + 1))
    return counts


def _import_rows(
    uow: UnitOfWork, editor: Editor, transfer: Transfer, rows: Sequence[Sequence[str]], first: int
) -> list[RowOutcome]:
    options = ImportOptions.from_json(transfer.options)
    definitions = list_custom_fields(uow.tx, editor.workspace_id)
    read, outcomes = _read_rows(rows, first, options, definitions)
    marks = _Marks.of(uow, editor, read)
    read, unknown = marks.check(read)
    found = _find(uow, editor.workspace_id, read)
    plan = plan_rows(read, options, found)
    done = _carry_out(uow, editor, plan, options)
    marks.put(uow, editor, done)
    told = {**{each.number: each for each in (*outcomes, *unknown, *plan.outcomes)}, **_tell(plan, done)}
    return [told[number] for number in sorted(told)]


def _read_rows(
    rows: Sequence[Sequence[str]], first: int, options: ImportOptions, definitions: Sequence[FieldDefinition]
) -> tuple[list[ImportRow], list[RowOutcome]]:
    read, failed = [], []
    for number, cells in enumerate(rows, first):
        try:
            read.append(read_row(number, cells, options, definitions))
        except Invalid as wrong:
            failed.append(RowOutcome(number, "failed", 0, wrong.field or "", wrong.message))
    return read, failed


def _find(uow: UnitOfWork, workspace_id: int, rows: Sequence[ImportRow]) -> dict[str | int, list[int]]:
    keys = [row.key for row in rows if row.key]
    lock_keys(uow.tx, workspace_id, keys)
    found = lookups.find_by_keys(uow.tx, workspace_id, keys)
    found.update(lookups.find_by_ids(uow.tx, workspace_id, [row.contact_id for row in rows if row.contact_id]))
    ids = {contact_id for each in found.values() for contact_id in each}
    locked = lock_contacts(uow.tx, [(workspace_id, each) for each in ids])
    live = {each for each, contact in locked.items() if contact.is_live}
    return {name: kept for name, each in found.items() if (kept := [one for one in each if one in live])}


def _carry_out(uow: UnitOfWork, editor: Editor, plan: Plan, options: ImportOptions) -> dict[int, tuple[int, str]]:
    """Make and change the contacts; return the contact and outcome of each row by its number."""
    made = create_contacts(uow, editor, plan.new)
    changes = plan.changes
    if not options.overwrites and changes:
        current = get_edited(uow.tx, editor.workspace_id, list(changes))
        changes = {
            contact_id: only_empty(each, current[contact_id].columns, current[contact_id].fields)
            for contact_id, each in changes.items()
        }
    changed = update_contacts(uow, editor, changes, starts_automation=False)
    done: dict[int, tuple[int, str]] = {}
    for contact_id, rows in zip(made, plan.new_rows, strict=True):
        done.update({row.number: (contact_id, "updated" if place else "created") for place, row in enumerate(rows)})
    for contact_id, rows in plan.changed_rows.items():
        outcome = "updated" if contact_id in changed else "unchanged"
        done.update({row.number: (contact_id, outcome) for row in rows})
    return done


def _tell(plan: Plan, done: Mapping[int, tuple[int, str]]) -> dict[int, RowOutcome]:
    return {number: RowOutcome(number, outcome, contact_id) for number, (contact_id, outcome) in done.items()}


class _Marks:
    """Tags, assignees and lifecycle stages of a batch: looked up as sets, then put on the rows' contacts."""

    def __init__(self, rows: Sequence[ImportRow], users: dict[str, int], stages: dict[str, int]) -> None:
        self._rows = {row.number: row for row in rows}
        self._users = users
        self._stages = stages

    @classmethod
    def of(cls, uow: UnitOfWork, editor: Editor, rows: Sequence[ImportRow]) -> "_Marks":
        """Return the marks of the rows."""
        users = lookups.find_users(uow.tx, editor.workspace_id, {row.assignee for row in rows if row.assignee})
        stages: dict[str, int] = {}
        if any(row.lifecycle for row in rows):
            stages = {each.name.lower(): each.id for each in list_stages(uow.tx, editor.workspace_id)}
        return cls(rows, users, stages)

    def check(self, rows: Sequence[ImportRow]) -> tuple[list[ImportRow], list[RowOutcome]]:
        """Return the rows whose assignee and stage exist, and what became of the others."""
        kept, failed = [], []
        for row in rows:
            if row.assignee and row.assignee.lower() not in self._users:
                failed.append(RowOutcome(row.number, "failed", 0, "assignee", "no user has this email"))
            elif row.lifecycle and row.lifecycle.lower() not in self._stages:
                failed.append(RowOutcome(row.number, "failed", 0, "lifecycle", "there is no such stage"))
            else:
                kept.append(row)
        return kept, failed

    def put(self, uow: UnitOfWork, editor: Editor, done: Mapping[int, tuple[int, str]]) -> None:
        """Put them on the contacts of the rows; a later row's assignee and stage win."""
        rows = [(self._rows[number], contact_id) for number, (contact_id, _) in sorted(done.items())]
        names = {tag.lower(): tag for row, _ in rows for tag in row.tags}
        if names:
            tags = ensure_tags(uow.tx, editor.workspace_id, list(names.values()))
            pairs = [(contact_id, tags[tag.lower()].id) for row, contact_id in rows for tag in row.tags]
            lookups.put_tag_pairs(uow.tx, editor.workspace_id, pairs, editor.source)
        marks = {
            contact_id: (contact_id, self._users.get(row.assignee.lower()), self._stages.get(row.lifecycle.lower()))
            for row, contact_id in rows
            if row.assignee or row.lifecycle
        }
        lookups.set_marks(uow.tx, editor.workspace_id, list(marks.values()))
