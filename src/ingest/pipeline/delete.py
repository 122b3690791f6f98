"""Step `delete`: accept a deletion, which detaches its contacts at once, and purge them batch by batch.

From the acceptance on the contacts are gone for everybody: hidden, their addresses free, their runs ended. What follows
takes as long as it takes, in transactions of bounded size, each of which may be killed and repeated.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from ingest.domain.actors import API, Actor
from ingest.domain.blocks import address_hash
from ingest.domain.deletions import (
    BATCH_CONTACTS,
    BATCH_ROWS,
    FINGERPRINT_SPAN,
    MAX_ATTEMPTS,
    DeletionAccepted,
    certificate,
)
from ingest.domain.refusals import Conflict, Gone, NotFound
from ingest.jobs.act_types import PurgeDeletion
from ingest.jobs.types import DetectDuplicates
from ingest.pipeline.sweep import is_swept, sweep
from ingest.store import deletions, purges
from ingest.store.blocks import close_suggestions
from ingest.store.deletions import Locked, NewDeletion, Record
from ingest.store.erased_addresses import forget_addresses, remember_addresses
from ingest.store.runs import RunEnd, end_runs_of_contacts
from ingest.store.unit_of_work import UnitOfWork

# While requests wait that were accepted before the deletion, it looks again after so long.
WAIT_FOR_REQUESTS = timedelta(seconds=1)

Purge = Callable[[UnitOfWork, Record, Sequence[int]], tuple[dict[str, int], bool]]
"""Removes rows of contacts; returns how many of each table, and whether that was all."""


@dataclass(frozen=True, slots=True)
class DeletionRequest:
    """What is to be deleted. `contact_ids` None means every contact of the workspace.

    `typed_count` is what the person typed; it must be the number of contacts. `salt` is a secret of the installation, for
    the hashes of the addresses whose block is kept.
    """

    workspace_id: int
    contact_ids: Sequence[int] | None
    selection: str = "ids"
    typed_count: int | None = None
    keep_block: bool = False
    salt: bytes = b""
    grace: timedelta = timedelta(0)
    actor: Actor = API
    idempotency_key: str | None = None


def accept_deletion(uow: UnitOfWork, request: DeletionRequest) -> DeletionAccepted:
    """Freeze and detach the contacts and add the job that purges them. A repeated request joins the first one's job.

    Raises NotFound when none of the contacts is there, Conflict `wrong_count` with the true number, Conflict
    `merged_into` or Gone for a single contact that was merged away or is being deleted.
    """
    workspace_id = request.workspace_id
    asked = sorted(set(request.contact_ids)) if request.contact_ids is not None else None
    repeat = deletions.find_repeat(uow.tx, workspace_id, request.idempotency_key, asked or ())
    if repeat is not None:
        return DeletionAccepted(repeat.id, repeat.contact_count, repeat.absorbed_count, 0, is_repeat=True)
    candidates = deletions.list_all_live(uow.tx, workspace_id) if asked is None else asked
    absorbed = deletions.list_absorbed(uow.tx, workspace_id, candidates)
    found = deletions.lock_for_deletion(uow.tx, workspace_id, candidates, absorbed)
    _check(request, found)
    return _detach(uow, request, found)


def _check(request: DeletionRequest, found: Locked) -> None:
    count = len(found.live_ids)
    if not count and found.deletion_job_id is not None:
        raise Gone("the contact is being deleted", details={"deletion_job_id": found.deletion_job_id})
    if not count and found.merged_into is not None:
        raise Conflict("the contact was merged away", word="merged_into", details={"merged_into": found.merged_into})
    if not count:
        raise NotFound("no such contact")
    if request.typed_count is not None and request.typed_count != count:
        raise Conflict(f"{count} contacts are selected", word="wrong_count", details={"contact_count": count})


def _detach(uow: UnitOfWork, request: DeletionRequest, found: Locked) -> DeletionAccepted:
    workspace_id, selected_ids = request.workspace_id, found.live_ids
    # Under the locks: nothing can be merged into the contacts any more, or taken out of them.
    absorbed_ids = deletions.list_absorbed(uow.tx, workspace_id, selected_ids)
    new = NewDeletion(
        workspace_id,
        request.selection,
        selected_ids,
        absorbed_ids,
        request.keep_block,
        request.actor,
        request.idempotency_key,
        uow.now + request.grace,
    )
    if request.keep_block:
        blocked = deletions.list_blocked_addresses(uow.tx, workspace_id, selected_ids)
        kept = [(channel_id, address_hash(request.salt, channel_id, address)) for channel_id, address in blocked]
        deletions.keep_blocks(uow.tx, workspace_id, kept)
    end_runs_of_contacts(uow.tx, workspace_id, new.ids, RunEnd("deleted", uow.now, request.actor))
    close_suggestions(uow.tx, workspace_id, new.ids, "party_deleted", uow.now)
    job_id = deletions.add_deletion(uow.tx, new, uow.now)
    uow.add_job(PurgeDeletion(workspace_id, job_id), due_at=new.purge_after)
    return DeletionAccepted(job_id, len(selected_ids), len(absorbed_ids), found.blocked_count)


def cancel_deletion(uow: UnitOfWork, workspace_id: int, deletion_job_id: int) -> str:
    """Cancel a deletion within its grace period: the contacts are back; runs stay ended. Returns the job's state.

    Raises NotFound, and Conflict when the purge has begun. Safe to repeat.
    """
    job = deletions.lock_deletion(uow.tx, workspace_id, deletion_job_id)
    if job is None:
        raise NotFound("no such deletion")
    if job.state == "cancelled":
        return "cancelled"
    if job.state != "waiting" or job.purge_after <= uow.now:
        raise Conflict("the deletion has begun", word="deletion_begun", details={"state": job.state})
    ids = deletions.list_frozen(uow.tx, workspace_id, deletion_job_id)
    deletions.lock_for_deletion(uow.tx, workspace_id, ids)
    forget_addresses(uow.tx, workspace_id, deletion_job_id)
    deletions.cancel_deletion(uow.tx, workspace_id, deletion_job_id, ids, uow.now)
    uow.add_jobs([DetectDuplicates(workspace_id, tuple(ids[at : at + 500])) for at in range(0, len(ids), 500)])
    return "cancelled"


@dataclass(frozen=True, slots=True)
class PurgeTerms:
    """How a part is purged.

    `salt` is a secret of the installation, for the hashes that are kept of the addresses; without it none are. Of each
    table at most `rows` rows are removed, and at most so many contacts.
    """

    salt: bytes = b""
    rows: int = BATCH_ROWS
    contacts: int = BATCH_CONTACTS


def purge_deletion(uow: UnitOfWork, job: PurgeDeletion, terms: PurgeTerms = PurgeTerms()) -> str:
    """Purge the next part of a deletion and come back for more; return the job's state. Safe to run twice."""
    deletion = deletions.lock_deletion(uow.tx, job.workspace_id, job.deletion_job_id)
    if deletion is None or deletion.state in {"completed", "completed_with_errors", "cancelled"}:
        return deletion.state if deletion is not None else "completed"
    batch = purges.find_next_batch(uow.tx, job.workspace_id, job.deletion_job_id)
    if batch is None:
        return _finish(uow, deletion)
    given_up = purges.list_given_up(uow.tx, job.workspace_id, deletion.id, MAX_ATTEMPTS)
    there = purges.list_still_there(uow.tx, job.workspace_id, deletion.id, batch.contact_ids)
    ids = sorted(set(there) - set(given_up))
    counts, due_at = _purge_next(uow, deletion, batch.position, ids, terms)
    purges.add_progress(uow.tx, deletion, counts, uow.now)
    uow.add_job(job, due_at=due_at)
    return "running"


def _purge_next(
    uow: UnitOfWork, deletion: Record, position: int, ids: Sequence[int], terms: PurgeTerms
) -> tuple[Counter[str], datetime | None]:
    """Purge the next part of the batch at that position; return the rows removed, and when to come back, None for now."""
    counts: Counter[str] = Counter()
    if not is_swept(deletion, position):
        # Their messages may go at once; they themselves are needed until everything that names them has been found.
        removed, is_all = _purge_batch(uow, deletion, ids, partial(_purge_messages, terms=terms))
        counts.update(removed)
        if not is_all:
            return counts, None
        changed, progress = sweep(uow, deletion, position)
        counts.update(changed)
        if progress != "done":
            return counts, uow.now + WAIT_FOR_REQUESTS if progress == "waiting" else None
    part = ids[: terms.contacts]
    removed, is_all = _purge_batch(uow, deletion, part, partial(_purge, terms=terms))
    counts.update(removed)
    if is_all and len(part) == len(ids):
        purges.mark_batch_done(uow.tx, deletion.workspace_id, deletion.id, position, uow.now)
    return counts, None


def _purge_batch(uow: UnitOfWork, deletion: Record, ids: Sequence[int], purge: Purge) -> tuple[dict[str, int], bool]:
    """Purge the contacts together; if one of them resists, each alone, so that the others are not held up."""
    try:
        with uow.tx.begin_nested():
            return purge(uow, deletion, ids)
    except purges.FAULTS_OF_DATA:
        counts: dict[str, int] = {}
        is_all = True
        for contact_id in ids:
            removed, is_done = _purge_alone(uow, deletion, contact_id, purge)
            counts = {table: counts.get(table, 0) + removed.get(table, 0) for table in {*counts, *removed}}
            is_all = is_all and is_done
        return counts, is_all


def _purge_alone(uow: UnitOfWork, deletion: Record, contact_id: int, purge: Purge) -> tuple[dict[str, int], bool]:
    try:
        with uow.tx.begin_nested():
            return purge(uow, deletion, [contact_id])
    except purges.FAULTS_OF_DATA as fault:
        error = purges.name_of_fault(fault)
        attempts = purges.add_failure(uow.tx, deletion.workspace_id, deletion.id, contact_id, error=error, now=uow.now)
        return {}, attempts >= MAX_ATTEMPTS


def _purge(uow: UnitOfWork, deletion: Record, ids: Sequence[int], terms: PurgeTerms) -> tuple[dict[str, int], bool]:
    counts, is_all = _purge_messages(uow, deletion, ids, terms)
    if not is_all or not ids:
        return counts, is_all
    workspace_id = deletion.workspace_id
    children, is_all = purges.purge_children(uow.tx, workspace_id, ids, rows=terms.rows)
    counts |= children
    if is_all:
        if terms.salt:
            remember_addresses(uow.tx, [workspace_id], ids, salt=terms.salt, span=FINGERPRINT_SPAN)
        own = purges.purge_contacts(uow.tx, workspace_id, deletion.id, ids, actor_id=deletion.actor_id, now=uow.now)
        counts = {table: counts.get(table, 0) + own.get(table, 0) for table in {*counts, *own}}
    return counts, is_all


def _purge_messages(
    uow: UnitOfWork, deletion: Record, ids: Sequence[int], terms: PurgeTerms
) -> tuple[dict[str, int], bool]:
    if not ids:
        return {}, True
    return purges.purge_messages(
        uow.tx, deletion.workspace_id, ids, rows=terms.rows, now=uow.now, remember=FINGERPRINT_SPAN
    )


def _finish(uow: UnitOfWork, deletion: Record) -> str:
    failed = purges.list_given_up(uow.tx, deletion.workspace_id, deletion.id, 1)
    state = "completed_with_errors" if failed else "completed"
    purges.finish_deletion(uow.tx, deletion.workspace_id, deletion.id, state, uow.now)
    job = {**deletion._mapping, "started_at": deletion.started_at or uow.now}
    gone = purges.list_tombstones(uow.tx, deletion.workspace_id, deletion.id)
    body, digest = certificate(job, gone, failed, uow.now, purges.get_schema_version(uow.tx))
    purges.add_certificate(uow.tx, deletion.workspace_id, deletion.id, body, digest=digest, now=uow.now)
    return state
