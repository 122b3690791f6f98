"""Step `merge`, the way back: undo a merge as if it had not been, or take an absorbed contact out again later."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ingest.domain.actors import API, Actor
from ingest.domain.merges import (
    Merged,
    Snapshot,
    covered_keys,
    may_undo,
    primary_keys,
    reach_through,
    remaining_support,
    shared_keys,
    withdraw,
)
from ingest.domain.refusals import Conflict, Gone, NotAllowed, NotFound
from ingest.jobs.contact_types import EndSnooze
from ingest.jobs.types import DetectDuplicates
from ingest.store import merge_moves, merges, unmerge_moves
from ingest.store.contacts import LockedContact, lock_contacts
from ingest.store.merge_moves import Pair
from ingest.store.merges import Record
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.unmerge_moves import Lost


def undo_merge(
    uow: UnitOfWork, workspace_id: int, merge_id: int, actor: Actor = API, *, may_undo_any: bool = False
) -> Merged:
    """Undo a merge within ten minutes, as long as nothing new came to the contact: conversations get their status back.

    Repeating it returns the first result. Raises NotFound, NotAllowed for somebody else's merge (unless `may_undo_any`),
    Conflict when it is too late (`undo_expired`): then `unmerge_contact` is left.
    """
    record = merges.find_record(uow.tx, workspace_id, merge_id)
    if record is None:
        raise NotFound("no such merge")
    is_own = may_undo_any or (actor.id is not None and record.actor_id == actor.id)
    if not is_own:
        raise NotAllowed("only whoever merged may undo it", word="not_own_merge")
    found = _lock(uow, workspace_id, record)
    record = merges.find_record(uow.tx, workspace_id, merge_id)
    if record is None:
        raise NotFound("no such merge")
    if record.state == "undone":
        return Merged(merge_id, record.kept_contact_id, record.absorbed_contact_id, is_repeat=True)
    _refuse(record, found)
    news = merges.has_news(uow.tx, workspace_id, merge_id)
    if not may_undo(record.merged_at, uow.now, is_own=is_own, has_news=news):
        raise Conflict("too late to undo: take the contact out again instead", word="undo_expired")
    return _take_apart(uow, workspace_id, record, actor, is_undo=True)


def unmerge_contact(uow: UnitOfWork, workspace_id: int, kept_id: int, absorbed_id: int, actor: Actor = API) -> Merged:
    """Take `absorbed_id` out of `kept_id`: it gets back what it had, and what came after the merge stays.

    Repeating it returns the first result. Raises NotFound when they were never merged, Conflict when the kept contact is
    blocked, or absorbed itself (`nested_merge`: take that one out first).
    """
    record = merges.find_last_record(uow.tx, workspace_id, kept_id, absorbed_id)
    if record is None:
        raise _not_directly(uow, workspace_id, kept_id, absorbed_id)
    found = _lock(uow, workspace_id, record)
    record = merges.find_last_record(uow.tx, workspace_id, kept_id, absorbed_id)
    if record is None:
        raise NotFound("these contacts are not merged")
    if record.state != "active":
        return Merged(record.id, kept_id, absorbed_id, is_repeat=True)
    _refuse(record, found)
    return _take_apart(uow, workspace_id, record, actor, is_undo=False)


def _not_directly(uow: UnitOfWork, workspace_id: int, kept_id: int, absorbed_id: int) -> Conflict | NotFound:
    """Return why there is no such merge: perhaps the contact came inside another one."""
    outer = merges.find_outer(uow.tx, workspace_id, kept_id, absorbed_id)
    if outer is None:
        return NotFound("these contacts are not merged")
    return Conflict(
        "the contact came inside another one: take that one out first",
        word="nested_merge",
        details={"take_out_first": outer},
    )


def _lock(uow: UnitOfWork, workspace_id: int, record: Record) -> dict[int, LockedContact]:
    return lock_contacts(uow.tx, [(workspace_id, record.kept_contact_id), (workspace_id, record.absorbed_contact_id)])


def _refuse(record: Record, found: Mapping[int, LockedContact]) -> None:
    kept = found.get(record.kept_contact_id)
    if kept is None or record.absorbed_contact_id not in found:
        raise NotFound("no such contact")
    if record.state != "active":
        raise Conflict("the merge was taken apart before", word=record.state)
    if kept.deletion_job_id is not None:
        raise Gone("the contact is being deleted", details={"contact_id": kept.id})
    if kept.merged_into is not None:
        raise Conflict(
            "the contact is inside another one: take it out first",
            word="nested_merge",
            details={"take_out_first": kept.id},
        )
    if kept.blocked_at is not None:
        raise Conflict("unblock the contact first", word="blocked", details={"contact_id": kept.id})


def _take_apart(uow: UnitOfWork, workspace_id: int, record: Record, actor: Actor, *, is_undo: bool) -> Merged:
    pair = Pair(workspace_id, record.id, record.kept_contact_id, record.absorbed_contact_id, actor, uow.now)
    kept_before, absorbed_before = map(merges.read_snapshot, (record.kept_snapshot, record.absorbed_snapshot))
    kept = merges.take_snapshots(uow.tx, workspace_id, [pair.kept_id])[pair.kept_id]
    _give_fields_back(uow, pair, record, kept, kept_before)
    merge_moves.add_keys(uow.tx, pair, pair.absorbed_id, absorbed_before.keys)
    unmerge_moves.move_rows_back(uow.tx, pair)
    if is_undo:
        _restore_conversations(uow, pair, kept_before, absorbed_before)
    else:
        _part_conversations(uow, pair, record, kept, kept_before)
    unmerge_moves.mark_ended(uow.tx, pair, "undone" if is_undo else "unmerged")
    unmerge_moves.dismiss_unmerged(uow.tx, pair, shared_keys(kept_before, absorbed_before))
    facts = {"merge_id": pair.merge_id, "is_undo": is_undo}
    for contact_id in (pair.kept_id, pair.absorbed_id):
        merge_moves.add_event(uow.tx, pair, contact_id, "contact.unmerged", facts)
    uow.add_job(DetectDuplicates(workspace_id, (pair.kept_id, pair.absorbed_id)))
    return Merged(pair.merge_id, pair.kept_id, pair.absorbed_id)


def _give_fields_back(uow: UnitOfWork, pair: Pair, record: Record, kept: Snapshot, before: Snapshot) -> None:
    others = merges.list_other_records(uow.tx, pair.workspace_id, pair.kept_id, pair.merge_id)
    layers = {other.id: _reach_through(uow, pair, record, other) for other in others}
    values = withdraw(record.changes, kept, pair.merge_id)
    flag = (before if "phone" in values else kept).row["phone_valid"]
    merge_moves.set_profile(uow.tx, pair, kept, values, phone_valid=flag)
    phone, email = (values[name][0] if name in values else kept.value(name) for name in ("phone", "email"))
    lost = Lost(frozenset(record.added_keys), frozenset(record.added_tag_ids))
    support = remaining_support(
        (other.id, merges.read_snapshot(other.absorbed_snapshot), layers[other.id]) for other in others
    )
    unmerge_moves.hand_over(uow.tx, pair, support, lost, record.merged_at)
    own_keys = primary_keys(phone, email)
    covered = {key for changes in layers.values() for key in covered_keys(changes)}
    unmerge_moves.drop_keys(uow.tx, pair, lost.keys - support.keys.keys() - covered.union(own_keys))
    unmerge_moves.drop_tags(uow.tx, pair, lost.tag_ids - support.tag_ids.keys(), record.merged_at)
    merge_moves.set_primary_keys(uow.tx, pair, own_keys)


def _reach_through(uow: UnitOfWork, pair: Pair, record: Record, other: Record) -> Mapping[str, Any]:
    """Return another merge's changes, without what the one that is taken out had put under them."""
    revised = reach_through(other.changes, record.changes, pair.merge_id)
    if revised is None:
        changes: Mapping[str, Any] = other.changes
        return changes
    merges.set_changes(uow.tx, pair.workspace_id, other.id, revised)
    return revised


def _restore_conversations(uow: UnitOfWork, pair: Pair, kept: Snapshot, absorbed: Snapshot) -> None:
    """Give both contacts the conversation they had, with its status, as if they had never been merged."""
    for each in (kept, absorbed):
        _reopen(uow, pair, each)
    unmerge_moves.release(uow.tx, pair, absorbed.row["status"], absorbed.row["snoozed_until"])
    unmerge_moves.settle_kept(uow.tx, pair, kept.row["conversation_id"], kept.row["snoozed_until"])


def _part_conversations(uow: UnitOfWork, pair: Pair, record: Record, kept: Snapshot, before: Snapshot) -> None:
    """Let the taken-out contact go with its conversations, closed; what was said in them since stays here."""
    left = unmerge_moves.find_left_behind(uow.tx, pair)
    current_id, snoozed_until = kept.row["conversation_id"], kept.row["snoozed_until"]
    if left.has_rows:
        continued_id = unmerge_moves.continue_conversation(uow.tx, pair, left, current_id, record.merged_at)
        current_id = continued_id if current_id in left.conversation_ids else current_id
    elif current_id in left.conversation_ids:
        # The one that it had before may have gone with another that was taken out meanwhile.
        current_id, snoozed_until = before.row["conversation_id"], before.row["snoozed_until"]
        own_id = unmerge_moves.find_own(uow.tx, pair, current_id)
        if own_id is not None and own_id == current_id:
            _reopen(uow, pair, before)
        current_id = own_id
    unmerge_moves.close_all(uow.tx, pair)
    unmerge_moves.release(uow.tx, pair, "closed", None)
    unmerge_moves.settle_kept(uow.tx, pair, current_id, snoozed_until)


def _reopen(uow: UnitOfWork, pair: Pair, before: Snapshot) -> None:
    """Give a party's conversation its former status back. Its time to wake may have come and gone meanwhile."""
    if before.row["status"] != "closed":
        unmerge_moves.reopen(uow.tx, pair, before.id, before.row["conversation_id"], before.row["status"])
    if before.row["snoozed_until"] is not None:
        until = datetime.fromisoformat(before.row["snoozed_until"])
        uow.add_job(EndSnooze(pair.workspace_id, before.id), due_at=until)
