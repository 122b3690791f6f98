"""What every task shares, written once: the claim, the transaction, retries, splitting, dead letters.

A bell wakes a worker, which then claims and handles jobs until nothing is due. A claim that fails is made smaller until
the culprit stands alone; alone it has three tries, unless the fault is outside (a lock, a lost connection), which is
waited for as long as it takes.
"""

import random
import time
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ingest import fault
from ingest.errors import Permanent, Transient
from ingest.runtime import Runtime
from ingest.store.dead_letters import NewDeadLetter, add_dead_letters
from ingest.store.jobs import (
    Claim,
    ClaimedJob,
    LeaseLost,
    complete_jobs,
    is_table_held,
    limit_lock_wait,
    release_jobs,
    split_job,
)
from ingest.store.tallies import Outcome, Tally, add_tally
from workers.failures import (
    MAX_BACKOFF_SECONDS,
    PATIENCE,
    backoff_seconds,
    is_held,
    is_transient,
    lock_wait_of,
    reason_of,
)
from workers.handlers import HANDLERS, UNKNOWN, Handler
from workers.metrics import count_claim, count_failure
from workers.turns import Turns

log = structlog.get_logger()

SOLO_TRIES = 3
RETRIES_IN_PLACE = 3
DRAIN_SECONDS = 5.0
# A drain that took so long has slept through many bells.
BUSY_SECONDS = 1.0
AWAY_SECONDS = 0.5
# A job alone whose worker died with it goes behind those that wait before it is tried again: what never ends holds its worker
# until the hard limit at every try, and two of them would hold two workers all the time.
AGAIN_SECONDS = 1.0
# Of a batch that needs a row which somebody holds, the job that needs it is found in a few steps, and asks again later.
HELD_PIECES = 8
HELD_DELAY_SECONDS = (1.0, 5.0)


def drain(runtime: Runtime, queue: str, on_progress: Callable[[], None] = lambda: None) -> int:
    """Handle the queue's due jobs until there are none, for at most five seconds; return how many claims were made."""
    began = time.monotonic()
    ends_at = began + DRAIN_SECONDS
    claims = 0
    is_quiet = False
    turns = Turns(runtime, queue)
    while True:
        claim = turns.claim()
        if not claim:
            if is_quiet or time.monotonic() - began < BUSY_SECONDS:
                return claims
            # The bells of what was done meanwhile would wake us for nothing, one by one. Then a last look, for a job whose
            # bell was among them.
            runtime.publisher.hush(queue)
            is_quiet = True
            continue
        if claim.is_crowded or claim.weight >= runtime.settings.batch_events:
            # There is more than one worker's worth: wake another.
            runtime.publisher.ring([queue])
        fault.point("claimed")
        started = time.monotonic()
        handle_claim(runtime, queue, claim)
        on_progress()
        turns.rest(claim, time.monotonic() - started)
        claims += 1
        if time.monotonic() > ends_at:
            # One bell stands for all: under steady traffic they come faster than drains end, and would pile up.
            runtime.publisher.hush(queue)
            runtime.publisher.ring([queue])
            return claims


def handle_claim(runtime: Runtime, queue: str, claim: Claim) -> None:
    """Handle a claim's jobs, those of one name together. Never raises for what a job does."""
    suspects = [job for job in claim.jobs if job.attempts > 1 and job.last_error is None]
    for job in suspects:
        try:
            _handle_suspect(runtime, queue, claim, job)
        except LeaseLost:
            log.warning("lease.lost", jobs=1)
    names: dict[str, list[ClaimedJob]] = {}
    set_apart = {job.id for job in suspects}
    for job in claim.jobs:
        if job.id not in set_apart:
            names.setdefault(job.name, []).append(job)
    for name, jobs in names.items():
        _handle_together(runtime, queue, claim, jobs, HANDLERS.get((queue, name)))


def _handle_suspect(runtime: Runtime, queue: str, claim: Claim, job: ClaimedJob) -> None:
    """Have a job whose worker died or hung with it handled alone, behind its neighbours; set it aside after three tries."""
    handler = HANDLERS.get((queue, job.name))
    if pieces := _cut(handler, job, job.weight):
        _split(runtime, claim, job, pieces)
    elif not job.is_solo:
        _release(runtime, claim, [job], "worker_died", delay_seconds=0, solo=True)
    elif job.attempts > SOLO_TRIES:
        _set_aside(runtime, queue, claim, job, "worker_died")
    else:
        _release(runtime, claim, [job], "worker_died", delay_seconds=AGAIN_SECONDS, solo=True, counts=False)


def _handle_together(  # noqa: PLR0917 - what every step of handling is told
    runtime: Runtime,
    queue: str,
    claim: Claim,
    jobs: Sequence[ClaimedJob],
    handler: Handler | None,
    is_piece: bool = False,
) -> None:
    started = time.monotonic()
    with structlog.contextvars.bound_contextvars(queue=queue, job_id=jobs[0].id, trace_id=_trace(jobs)):
        try:
            _run_with_retries(runtime, claim, jobs, handler or UNKNOWN, lock_wait_of(jobs, is_piece))
        except LeaseLost:
            log.warning("lease.lost", jobs=len(jobs))
        except Exception as failure:
            _settle_failure(runtime, queue, claim, jobs, failure)
        else:
            count_claim(queue, sum(job.weight for job in jobs), time.monotonic() - started)


def _run_with_retries(
    runtime: Runtime, claim: Claim, jobs: Sequence[ClaimedJob], handler: Handler, lock_wait: int | None = None
) -> None:
    for attempt in range(RETRIES_IN_PLACE):
        try:
            with runtime.unit_of_work() as uow:
                if lock_wait is not None:
                    limit_lock_wait(uow.tx, lock_wait)
                handler.run(runtime, uow, jobs)
                complete_jobs(uow.tx, claim, [job.id for job in jobs])
                fault.point("completed")
            fault.point("committed")
        except Exception as failure:
            if is_held(failure) and lock_wait is None:
                PATIENCE.lost_at = time.monotonic()
            is_last = attempt == RETRIES_IN_PLACE - 1
            if is_last or isinstance(failure, LeaseLost) or not is_transient(failure) or is_held(failure):
                raise
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
        else:
            return


def _settle_failure(runtime: Runtime, queue: str, claim: Claim, jobs: Sequence[ClaimedJob], failure: Exception) -> None:
    reason = (
        f"{type(failure).__name__}: {failure}" if isinstance(failure, Permanent | Transient) else reason_of(failure)
    )
    count_failure(queue, reason.split(":", maxsplit=1)[0])
    log.warning("job.failed", jobs=len(jobs), error=reason, attempts=jobs[0].attempts)
    # Where the database itself was lost, it comes back sooner than the lease ends, and a job whose failure nobody noted
    # would look as if it had killed its worker.
    ends_at = time.monotonic() + min(runtime.settings.lease_seconds, MAX_BACKOFF_SECONDS)
    while True:
        try:
            _make_smaller(runtime, queue, claim, jobs, failure, reason)
        except (DBAPIError, PoolTimeout) as away:
            if time.monotonic() > ends_at:
                # The lease has ended, and somebody else begins anew.
                log.warning("job.abandoned", jobs=len(jobs), error=type(away).__name__)
                return
            time.sleep(AWAY_SECONDS)
        except LeaseLost:
            # An earlier try was committed, and its answer lost.
            log.warning("lease.lost", jobs=len(jobs))
            return
        else:
            return


def _make_smaller(  # noqa: PLR0917 - one decision over everything known
    runtime: Runtime, queue: str, claim: Claim, jobs: Sequence[ClaimedJob], failure: Exception, reason: str
) -> None:
    job = jobs[0]
    handler = HANDLERS.get((queue, job.name))
    if is_held(failure) and not _is_table_held(runtime):
        _free_neighbours(runtime, queue, claim, jobs, handler, reason)
    elif is_transient(failure):
        _release(runtime, claim, jobs, reason, delay_seconds=backoff_seconds(job.attempts), solo=False, counts=False)
    elif len(jobs) > 1:
        _release(runtime, claim, jobs, reason, delay_seconds=0, solo=True)
    elif pieces := _cut(handler, job, 2):
        _split(runtime, claim, job, pieces)
    elif isinstance(failure, Permanent) or job.attempts >= SOLO_TRIES:
        _set_aside(runtime, queue, claim, job, reason)
    else:
        _release(runtime, claim, jobs, reason, delay_seconds=backoff_seconds(job.attempts), solo=True)


def _is_table_held(runtime: Runtime) -> bool:
    """Return whether a whole table is kept from writers: then everybody waits, and taking batches apart would not help."""
    with runtime.begin() as tx:
        return is_table_held(tx)


def _free_neighbours(  # noqa: PLR0917 - what every step of handling is told
    runtime: Runtime, queue: str, claim: Claim, jobs: Sequence[ClaimedJob], handler: Handler | None, reason: str
) -> None:
    """Handle the jobs in pieces, and have a job that is alone asked again later: one of them needs a row that is held.

    Now, under the claim at hand: if each were claimed alone, more would come meanwhile than could be taken.
    """
    if len(jobs) > 1:
        size = -(-len(jobs) // HELD_PIECES)
        for start in range(0, len(jobs), size):
            _handle_together(runtime, queue, claim, jobs[start : start + size], handler, is_piece=True)
    elif pieces := _cut(handler, jobs[0], HELD_PIECES):
        _split(runtime, claim, jobs[0], pieces)
    else:
        delay_seconds = random.uniform(*HELD_DELAY_SECONDS)
        _release(runtime, claim, jobs, reason, delay_seconds=delay_seconds, solo=True, counts=False)


def _release(
    runtime: Runtime,
    claim: Claim,
    jobs: Sequence[ClaimedJob],
    reason: str,
    *,
    delay_seconds: float,
    solo: bool,
    counts: bool = True,
) -> None:
    ids = [job.id for job in jobs]
    with runtime.begin() as tx:
        release_jobs(tx, claim, ids, error=reason, delay_seconds=delay_seconds, solo=solo, counts=counts)


def _cut(handler: Handler | None, job: ClaimedJob, count: int) -> list[tuple[bytes, int]]:
    """Return the job's body in about so many pieces; none where it holds one item only, or cannot even be read."""
    if handler is None or handler.split is None or job.weight <= 1:
        return []
    try:
        return handler.split(job.body or b"", count)
    except Exception as unreadable:
        log.warning("job.unreadable", job_id=job.id, error=type(unreadable).__name__)
        return []


def _split(runtime: Runtime, claim: Claim, job: ClaimedJob, pieces: list[tuple[bytes, int]]) -> None:
    """Replace the job by smaller ones, each handled alone."""
    with runtime.begin() as tx:
        split_job(tx, job, pieces)
        complete_jobs(tx, claim, [job.id])
    log.warning("job.split", job_id=job.id, pieces=len(pieces))


def _set_aside(runtime: Runtime, queue: str, claim: Claim, job: ClaimedJob, reason: str) -> None:
    with runtime.begin() as tx:
        letter = NewDeadLetter(
            job.workspace_id, queue, job.name, reason, None, job.args, job.body, job.attempts, job.trace_id
        )
        add_dead_letters(tx, [letter])
        if job.body is not None:
            outcomes = [Outcome(job.workspace_id, 0, "resolved"), Outcome(job.workspace_id, 0, "dead", "job_failed")]
            add_tally(tx, Tally(dict.fromkeys(outcomes, job.weight)))
        complete_jobs(tx, claim, [job.id])
    log.error("job.set_aside", job_id=job.id, reason=reason, attempts=job.attempts)


def _trace(jobs: Sequence[ClaimedJob]) -> str | None:
    return str(jobs[0].trace_id) if jobs[0].trace_id is not None else None
