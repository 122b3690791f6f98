"""Step `merge`: merge two contacts into one, and take them apart again. One transaction each, repeatable at once.

Both contacts are locked in the order of their ids before anything is read that counts. Messages that are being stored
meanwhile wait for the same locks: they land before the commit and move, or after it and go to whoever owns the identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ingest.domain.actors import API, Actor
from ingest.domain.merges import (
    Merged,
    MergePlan,
    Obstacle,
    Snapshot,
    obstacles,
    plan_merge,
    primary_keys,
    shared_keys,
)
from ingest.domain.refusals import Conflict, Gone, Invalid, NotAllowed, NotFound, Refused
from ingest.jobs.contact_types import EndSnooze
from ingest.jobs.types import DetectDuplicates
from ingest.store import merge_moves, merges
from ingest.store.contacts import lock_contacts
from ingest.store.merge_moves import Pair
from ingest.store.merges import NewRecord
from ingest.store.runs import RunEnd, end_runs_of_contacts
from ingest.store.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """What is to be merged. `chosen` holds picked values by field, normalised; custom fields are named "fields.<id>".

    `needs_shared_key` is for those who may merge only what looks like one person.
    """

    workspace_id: int
    kept_id: int
    absorbed_id: int
    chosen: Mapping[str, Any] = field(default_factory=dict)
    actor: Actor = API
    needs_shared_key: bool = False
    suggestion_id: int | None = None
    rule_id: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class MergePreview:
    """What a merge would do: every reason against it, and if there is none, the plan and how many rows would move."""

    obstacles: tuple[tuple[Obstacle, Any], ...]
    shared_keys: tuple[str, ...] = ()
    plan: MergePlan | None = None
    kept: Snapshot | None = None
    absorbed: Snapshot | None = None
    moving_counts: Mapping[str, int] = field(default_factory=dict)


def preview_merge(uow: UnitOfWork, request: MergeRequest) -> MergePreview:
    """Return what the merge would do, without doing it. Nothing is locked, so it may be different a moment later."""
    found = merges.take_snapshots(uow.tx, request.workspace_id, [request.kept_id, request.absorbed_id])
    kept, absorbed = found.get(request.kept_id), found.get(request.absorbed_id)
    against = tuple(obstacles(kept, absorbed, needs_shared_key=request.needs_shared_key))
    if kept is None or absorbed is None:
        return MergePreview(against)
    plan = plan_merge(kept, absorbed, request.chosen, 0, source=request.actor.source, at=uow.now)
    counts = merge_moves.count_moving(uow.tx, request.workspace_id, absorbed.id)
    return MergePreview(against, tuple(shared_keys(kept, absorbed)), plan, kept, absorbed, counts)


def merge_contacts(uow: UnitOfWork, request: MergeRequest) -> Merged:
    """Merge `absorbed_id` into `kept_id`. A request that has succeeded before returns its first result.

    Raises Invalid for one contact twice, NotFound, Conflict (`blocked`, `merged_into`), Gone for one being deleted, and
    NotAllowed where a shared key is needed and missing.
    """
    pair_ids = request.kept_id, request.absorbed_id
    if request.kept_id == request.absorbed_id:
        raise _refusal("same_contact", request.kept_id)
    lock_contacts(uow.tx, [(request.workspace_id, each) for each in pair_ids])
    repeat = _first_result(uow, request)
    if repeat is not None:
        return repeat
    found = merges.take_snapshots(uow.tx, request.workspace_id, pair_ids)
    kept, absorbed = found.get(request.kept_id), found.get(request.absorbed_id)
    for obstacle, about in obstacles(kept, absorbed, needs_shared_key=request.needs_shared_key):
        raise _refusal(obstacle, about)
    if kept is None or absorbed is None:
        raise _refusal("not_found", None)
    return Merged(_merge(uow, request, kept, absorbed), kept.id, absorbed.id)


def _first_result(uow: UnitOfWork, request: MergeRequest) -> Merged | None:
    if request.idempotency_key is not None:
        record = merges.find_record_by_key(uow.tx, request.workspace_id, request.idempotency_key)
        if record is not None:
            if (record.kept_contact_id, record.absorbed_contact_id) != (request.kept_id, request.absorbed_id):
                raise Conflict("this idempotency key was used for another merge", word="idempotency_key_reused")
            return Merged(record.id, request.kept_id, request.absorbed_id, is_repeat=True)
    record = merges.find_active_record(uow.tx, request.workspace_id, request.absorbed_id)
    if record is not None and record.kept_contact_id == request.kept_id:
        return Merged(record.id, request.kept_id, request.absorbed_id, is_repeat=True)
    return None


def _refusal(obstacle: Obstacle, about: Any) -> Refused:
    match obstacle:
        case "same_contact":
            return Invalid("a contact cannot be merged with itself", word="same_contact", field="contactIds")
        case "not_found":
            return NotFound("no such contact")
        case "deleted":
            return Gone("the contact is being deleted", details={"contact_id": about})
        case "merged_into":
            return Conflict("the contact was merged away", word="merged_into", details={"merged_into": about})
        case "blocked":
            return Conflict("a blocked contact cannot be merged", word="blocked", details={"contact_id": about})
        case "no_shared_key":
            return NotAllowed("the contacts share no key", word="no_shared_key")


def _merge(uow: UnitOfWork, request: MergeRequest, kept: Snapshot, absorbed: Snapshot) -> int:
    record = NewRecord(
        request.workspace_id,
        kept,
        absorbed,
        request.chosen,
        request.actor,
        request.suggestion_id,
        request.rule_id,
        request.idempotency_key,
    )
    merge_id = merges.add_record(uow.tx, record, uow.now)
    plan = plan_merge(kept, absorbed, request.chosen, merge_id, source=request.actor.source, at=uow.now)
    pair = Pair(request.workspace_id, merge_id, kept.id, absorbed.id, request.actor, uow.now)
    end = RunEnd("merged", uow.now, request.actor)
    end_runs_of_contacts(uow.tx, request.workspace_id, [absorbed.id], end)
    _merge_rows(uow, pair, plan, kept, absorbed)
    merge_moves.add_event(uow.tx, pair, kept.id, "contact.merged", {"merge_id": merge_id, "absorbed_id": absorbed.id})
    merges.finish_record(uow.tx, request.workspace_id, merge_id, plan)
    current = plan.conversation
    if current.snoozed_until is not None and current.current_id != kept.row["conversation_id"]:
        # The absorbed contact's own job for it finds nobody.
        uow.add_job(EndSnooze(pair.workspace_id, kept.id), due_at=datetime.fromisoformat(current.snoozed_until))
    uow.add_job(DetectDuplicates(request.workspace_id, (kept.id,)))
    return merge_id


def _merge_rows(uow: UnitOfWork, pair: Pair, plan: MergePlan, kept: Snapshot, absorbed: Snapshot) -> None:
    closed_id = plan.conversation.closed_id
    if closed_id is not None:
        owner_id = kept.id if closed_id == kept.row["conversation_id"] else absorbed.id
        merge_moves.close_conversation(uow.tx, pair, owner_id, closed_id)
    merge_moves.move_rows(uow.tx, pair)
    merge_moves.merge_suggestions(uow.tx, pair)
    merge_moves.add_tags(uow.tx, pair, plan.added_tag_ids)
    values = {name: (change.after, change.after_provenance) for name, change in plan.changes.items()}
    merge_moves.set_profile(uow.tx, pair, kept, values, phone_valid=_phone_valid(plan, kept, absorbed))
    merge_moves.drop_absorbed_keys(uow.tx, pair)
    merge_moves.add_keys(uow.tx, pair, kept.id, plan.added_keys)
    phone, email = (
        plan.changes[name].after if name in plan.changes else kept.value(name) for name in ("phone", "email")
    )
    merge_moves.set_primary_keys(uow.tx, pair, primary_keys(phone, email))
    merge_moves.set_merged(uow.tx, pair, plan.conversation)


def _phone_valid(plan: MergePlan, kept: Snapshot, absorbed: Snapshot) -> bool | None:
    change = plan.changes.get("phone")
    if change is None:
        return _flag(kept)
    return _flag(absorbed) if change.after == absorbed.value("phone") else None


def _flag(contact: Snapshot) -> bool | None:
    value = contact.row["phone_valid"]
    return None if value is None else bool(value)
