"""Step `block`: block and unblock contacts, one by one or in bulk, and end blocks whose time has come.

Everything a block stops, it stops in its own transaction: its commit is the border line for messages, runs and sends.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from ingest.domain.actors import API, Actor
from ingest.domain.blocks import BlockResult, BlockTerms, check_terms
from ingest.domain.refusals import NotFound
from ingest.jobs.act_types import ContinueBulkAct, EndTimedBlock
from ingest.jobs.types import DetectDuplicates
from ingest.store import blocks
from ingest.store.blocks import NewBulkAct
from ingest.store.contacts import LockedContact, lock_contacts
from ingest.store.runs import RunEnd, end_runs_of_contacts
from ingest.store.unit_of_work import UnitOfWork

BULK_BATCH = 500


def block_contacts(
    uow: UnitOfWork,
    workspace_id: int,
    contact_ids: Collection[int],
    terms: BlockTerms,
    actor: Actor = API,
) -> BlockResult:
    """Block the contacts: close the conversation, mark, stop all runs, void timers, close suggestions.

    A contact that is blocked already keeps its block and takes over the new end and reason. Safe to repeat. Raises
    Invalid for terms that cannot be.
    """
    terms = check_terms(terms, uow.now)
    found = lock_contacts(uow.tx, [(workspace_id, each) for each in set(contact_ids)])
    live = [contact for contact in found.values() if contact.is_live]
    fresh = [contact.id for contact in live if contact.blocked_at is None]
    already = [contact.id for contact in live if contact.blocked_at is not None]
    if fresh:
        _block(uow, workspace_id, fresh, terms, actor)
    if already:
        blocks.extend_block(uow.tx, workspace_id, already, reason=terms.reason, until=terms.until)
    if terms.until is not None:
        ends = [EndTimedBlock(workspace_id, contact.id) for contact in live]
        uow.add_jobs(ends, due_at=terms.until)
    return BlockResult(tuple(fresh), tuple(already), _missing(contact_ids, live))


def _block(uow: UnitOfWork, workspace_id: int, ids: Sequence[int], terms: BlockTerms, actor: Actor) -> None:
    blocks.close_and_block(uow.tx, workspace_id, ids, terms, actor=actor, data=json.dumps(_facts(terms)), now=uow.now)
    end_runs_of_contacts(uow.tx, workspace_id, ids, RunEnd("blocked", uow.now, actor))
    blocks.close_suggestions(uow.tx, workspace_id, ids, "party_blocked", uow.now)
    # Clusters of a shared key count the contacts that are not blocked.
    uow.add_job(DetectDuplicates(workspace_id, tuple(ids)))


def _facts(terms: BlockTerms) -> dict[str, str]:
    facts = {"reason": terms.reason, "until": terms.until.isoformat() if terms.until else None}
    return {name: value for name, value in facts.items() if value is not None}


def unblock_contacts(
    uow: UnitOfWork,
    workspace_id: int,
    contact_ids: Collection[int],
    actor: Actor = API,
) -> BlockResult:
    """Lift the contacts' blocks; their suggestions are looked at again. Runs stay ended. Safe to repeat."""
    found = lock_contacts(uow.tx, [(workspace_id, each) for each in set(contact_ids)])
    live = [contact for contact in found.values() if contact.is_live]
    blocked = [contact.id for contact in live if contact.blocked_at is not None]
    if blocked:
        blocks.unblock(uow.tx, workspace_id, blocked, actor=actor, now=uow.now)
        uow.add_job(DetectDuplicates(workspace_id, tuple(blocked)))
    unchanged = tuple(contact.id for contact in live if contact.blocked_at is None)
    return BlockResult(tuple(blocked), unchanged, _missing(contact_ids, live))


def _missing(asked: Iterable[int], live: Iterable[LockedContact]) -> tuple[int, ...]:
    return tuple(sorted(set(asked) - {contact.id for contact in live}))


def end_timed_block(uow: UnitOfWork, job: EndTimedBlock) -> bool:
    """Unblock the contact if its block has ended by now; return whether it had. A later block makes the job void."""
    lock_contacts(uow.tx, [(job.workspace_id, job.contact_id)])
    if not blocks.is_block_over(uow.tx, job.workspace_id, job.contact_id, uow.now):
        return False
    return bool(unblock_contacts(uow, job.workspace_id, [job.contact_id], Actor("timer")).changed)


def add_bulk_block(
    uow: UnitOfWork, workspace_id: int, contact_ids: Collection[int], terms: BlockTerms, actor: Actor = API
) -> int:
    """Accept a block of many contacts; return the id under which `get_bulk_act` tells its progress."""
    params = json.dumps(_facts(check_terms(terms, uow.now)))
    return _add_bulk_act(uow, NewBulkAct(workspace_id, "block", tuple(contact_ids), params, actor))


def add_bulk_unblock(uow: UnitOfWork, workspace_id: int, contact_ids: Collection[int], actor: Actor = API) -> int:
    """Accept an unblock of many contacts; return the id under which `get_bulk_act` tells its progress."""
    return _add_bulk_act(uow, NewBulkAct(workspace_id, "unblock", tuple(contact_ids), "{}", actor))


def _add_bulk_act(uow: UnitOfWork, act: NewBulkAct) -> int:
    act_id = blocks.add_bulk_act(uow.tx, act, uow.now)
    uow.add_job(ContinueBulkAct(act.workspace_id, act_id))
    return act_id


def continue_bulk_act(uow: UnitOfWork, job: ContinueBulkAct) -> str:
    """Do the next 500 contacts of a bulk act and come back for more; return its state: running or completed."""
    act = blocks.find_bulk_batch(uow.tx, job.workspace_id, job.bulk_act_id, BULK_BATCH)
    if act is None:
        return "completed"
    result = _do_batch(uow, job.workspace_id, act)
    state = blocks.mark_bulk_batch(
        uow.tx,
        job.workspace_id,
        act.id,
        taken=len(act.batch),
        changed=len(result.changed),
        skipped=[*result.unchanged, *result.missing],
        now=uow.now,
    )
    if state == "running":
        uow.add_job(job)
    return state


def _do_batch(uow: UnitOfWork, workspace_id: int, act: Any) -> BlockResult:
    if act.kind == "unblock":
        return unblock_contacts(uow, workspace_id, act.batch, Actor("bulk", act.actor_id))
    until = act.params.get("until")
    terms = BlockTerms(act.params.get("reason"), datetime.fromisoformat(until) if until else None)
    if terms.until is not None and terms.until <= uow.now:
        # The block would be over before it began.
        return BlockResult((), tuple(act.batch), ())
    return block_contacts(uow, workspace_id, act.batch, terms, Actor("bulk", act.actor_id))


def get_bulk_act(uow: UnitOfWork, workspace_id: int, bulk_act_id: int) -> Any:
    """Return the act's kind, state, counts and skipped ids. Raises NotFound."""
    act = blocks.find_bulk_act(uow.tx, workspace_id, bulk_act_id)
    if act is None:
        raise NotFound("no such bulk act")
    return act
