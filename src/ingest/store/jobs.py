"""Jobs: rows of work to do. Added with their cause, claimed for a while, deleted with their effect.

A claim is a transaction of its own that leases due rows: nobody else takes them until the lease ends. The work and the
deletion of its rows share one later transaction, and the deletion is fenced by the lease: a worker that slept past its
lease deletes nothing and so must roll back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import Connection, text

from ingest.errors import Transient
from ingest.jobs.types import JobType

# How much a claim takes while somebody has a backlog and somebody else has not.
CROWDED_WEIGHT = 50
# What came within this span is fresh: as long as fresh work is claimed in time, it does not age into a backlog.
FRESH_SECONDS = 0.5
# Of what is fresh beside a backlog, a claim takes a batch divided by this: a flood itself is fresh at first.
FRESH_SHARE = 4


class LeaseLost(Transient):
    """Somebody else holds the job now: roll back, the other one does the work."""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A leased row. `attempts` counts this claim too. `body` carries raw requests and is None for most."""

    id: int
    workspace_id: int
    name: str
    args: dict[str, Any]
    body: bytes | None
    weight: int
    attempts: int
    is_solo: bool
    last_error: str | None
    trace_id: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """The rows one claim took, and the lease they are held under. Empty when nothing is due.

    `is_crowded` says that some workspace had a whole batch waiting.
    """

    lease_id: UUID
    jobs: tuple[ClaimedJob, ...]
    is_crowded: bool = False

    def __bool__(self) -> bool:
        return bool(self.jobs)

    @property
    def weight(self) -> int:
        """How many items the claimed rows hold."""
        return sum(job.weight for job in self.jobs)

    @property
    def ids(self) -> list[int]:
        """The ids of the claimed rows."""
        return [job.id for job in self.jobs]


ADD_JOBS = text("""
    insert into job (workspace_id, queue, name, args, due_at, key)
    select workspace_id, queue, name, args::jsonb, coalesce(cast(:due_at as timestamptz), now()), key
    from unnest(cast(:workspace_ids as bigint[]), cast(:queues as text[]), cast(:names as text[]), cast(:args as text[]),
                cast(:keys as text[])) as new (workspace_id, queue, name, args, key)
    on conflict (workspace_id, queue, key) where key is not null do nothing
""")

# A queue is empty at one moment and long at the next, so statistics about it are always wrong: indexes are always right.
PREPARE_CLAIM = text("""
    select set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true),
           set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)
""")

# Workspaces take turns, counted in weight: what little one tenant has comes before the second helping of any other, so
# that one tenant's backlog delays nobody else much. A workspace with a whole batch waiting has a backlog. While there is
# one, claims are small, because whoever comes next waits for their end, and every second one is fresh: it takes what
# others have and, of the backlog's workspace, what came in this moment, the newest first. So a flood of one sender delays
# neither other tenants nor the other senders of its workspace.
# The recursion walks the index from one workspace to the next. A solo row is taken alone; other rows are taken in turn
# until their weights reach the limit. The last error is handed over and cleared: a claim that finds a row tried before and
# without an error knows that its worker died.
# Rows are found by due time once, and looked at again by id under the lock. `coalesce` keeps the planner from beginning
# with the due time, or with all rows, there too: when ten thousand timers that its statistics knew to be in the future
# came due at once, a claim took seconds.
CLAIM = text("""
    with recursive tenant as (
        (select workspace_id from job where queue = :queue order by workspace_id limit 1)
        union all
        select (select workspace_id from job
                where queue = :queue and workspace_id > tenant.workspace_id order by workspace_id limit 1)
        from tenant where tenant.workspace_id is not null
    ), oldest as materialized (
        select waiting.id, workspace_id, waiting.finish, waiting.is_backlog from tenant
        cross join lateral (
            select id, sum(weight) over (order by due_at, id) as finish, sum(weight) over () >= :weight as is_backlog
            from (
                select id, due_at, weight from job
                where queue = :queue and workspace_id = tenant.workspace_id
                  and due_at <= now() and (leased_until is null or leased_until < now())
                order by due_at
                limit :rows
            ) as first
        ) as waiting
    ), crowd as materialized (
        select coalesce(bool_or(is_backlog), false) as is_crowded, coalesce(bool_and(is_backlog), false) as is_all_backlog
        from oldest
    ), fresh as materialized (
        select id, finish from oldest where not is_backlog and :fresh
        union all
        select newest.id, newest.finish
        from (select distinct workspace_id from oldest where is_backlog and :fresh) as tenant
        cross join lateral (
            select id, sum(weight) over (order by due_at desc, id desc) as finish
            from (
                select id, due_at, weight from job
                where queue = :queue and workspace_id = tenant.workspace_id
                  and due_at <= now() and due_at > now() - make_interval(secs => :fresh_seconds)
                  and (leased_until is null or leased_until < now())
                order by due_at desc
                limit :rows
            ) as last
        ) as newest
    ), turn as materialized (
        select id, finish from fresh
        union all
        select id, finish from oldest where not exists (select from fresh)
    ), due as materialized (
        select job.id, weight, is_solo, due_at, finish, last_error from turn join job using (id)
        where coalesce(due_at <= now(), false) and coalesce(leased_until < now(), true)
        order by finish, due_at, job.id
        limit :rows
        for update of job skip locked
    ), ranked as (
        select id, is_solo, last_error,
               row_number() over ordered as position,
               sum(weight) over ordered - weight as weight_before,
               first_value(is_solo) over ordered as solo_first
        from due
        window ordered as (order by finish, due_at, id)
    ), room as (
        select case when not is_crowded then :weight
                    when not is_all_backlog then least(:weight, :crowded_weight)
                    when exists (select from fresh) then greatest(1, :weight / :fresh_share)
                    -- Nothing came: nobody waits for the end of this, and catching up is all there is to do.
                    when :fresh then :weight
                    else least(:weight, :at_most) end as weight, is_crowded
        from crowd
    )
    update job
    set lease_id = :lease_id,
        leased_until = now() + make_interval(secs => :lease_seconds),
        attempts = attempts + 1,
        last_error = null
    from ranked cross join room
    where job.id = ranked.id
      and case when solo_first then position = 1 else not ranked.is_solo and weight_before < room.weight end
    returning job.id, job.workspace_id, job.name, job.args, job.body, job.weight, job.attempts, job.is_solo,
              ranked.last_error, job.trace_id, job.created_at, room.is_crowded
""")

COMPLETE = text("delete from job where id = any(:ids) and lease_id = :lease_id")

RELEASE = text("""
    update job set lease_id = null, leased_until = null, last_error = :error, is_solo = is_solo or :solo,
                   attempts = case when :solo and not is_solo then 0 when is_solo and not :counts then attempts - 1
                                   else attempts end,
                   due_at = now() + make_interval(secs => :delay_seconds)
    where id = any(:ids) and lease_id = :lease_id
""")


def add_jobs(
    tx: Connection, new: Sequence[JobType], due_at: datetime | None = None, keys: Sequence[str | None] | None = None
) -> None:
    """Add jobs in one statement, due now or at `due_at`. A job whose key is already there on its queue is left out."""
    if not new:
        return
    tx.execute(
        ADD_JOBS,
        {
            "workspace_ids": [job.workspace_id for job in new],
            "queues": [job.queue for job in new],
            "names": [job.name for job in new],
            "args": [msgspec.json.encode(job.args()).decode() for job in new],
            "due_at": due_at,
            "keys": list(keys) if keys is not None else [None] * len(new),
        },
    )


def claim_jobs(
    tx: Connection,
    queue: str,
    weight: int,
    lease_seconds: float,
    rows: int = 64,
    *,
    fresh: bool = False,
    at_most: int | None = None,
) -> Claim:
    """Lease due jobs of the queue, workspaces in turn, until their weights reach `weight`; at least one if any is due.

    Less is taken while one workspace has a backlog, that is `weight` waiting, and another has not, or where the caller
    wants `at_most` so much. With `fresh`, and where somebody has a backlog, only what came in this moment is taken, if
    there is any.

    The transaction need not wait for the disk: a lease that is forgotten in a crash is a lease that has ended.
    """
    lease_id = uuid4()
    tx.execute(PREPARE_CLAIM)
    found = tx.execute(
        CLAIM,
        {
            "queue": queue,
            "weight": weight,
            "crowded_weight": CROWDED_WEIGHT,
            "at_most": weight if at_most is None else at_most,
            "fresh": fresh,
            "fresh_seconds": FRESH_SECONDS,
            "fresh_share": FRESH_SHARE,
            "rows": rows,
            "lease_id": lease_id,
            "lease_seconds": lease_seconds,
        },
    )
    claimed = found.all()
    jobs = sorted((ClaimedJob(*row[:-1]) for row in claimed), key=lambda job: job.id)
    return Claim(lease_id, tuple(jobs), is_crowded=bool(claimed) and claimed[0].is_crowded)


def complete_jobs(tx: Connection, claim: Claim, ids: Sequence[int] | None = None) -> None:
    """Delete the claim's jobs, or those of `ids`. Raises LeaseLost when any of them is held by somebody else by now."""
    wanted = claim.ids if ids is None else list(ids)
    deleted = tx.execute(COMPLETE, {"ids": wanted, "lease_id": claim.lease_id}).rowcount
    if deleted != len(wanted):
        raise LeaseLost(f"{len(wanted) - deleted} of {len(wanted)} jobs are held by another worker")


def release_jobs(
    tx: Connection,
    claim: Claim,
    ids: Sequence[int],
    *,
    error: str,
    delay_seconds: float,
    solo: bool,
    counts: bool = True,
) -> None:
    """Give jobs back, due after the delay, with the error that stopped them; `solo` has them handled alone from now on.

    A job that becomes solo begins to count its attempts anew: those before may have been its neighbours' fault. With
    `counts` false a solo job's attempt is not one of its tries: the fault was outside.
    """
    tx.execute(
        RELEASE,
        {
            "ids": list(ids),
            "lease_id": claim.lease_id,
            "error": error,
            "delay_seconds": delay_seconds,
            "solo": solo,
            "counts": counts,
        },
    )


SPLIT = text("""
    insert into job (workspace_id, queue, name, args, body, weight, due_at, is_solo, trace_id, created_at)
    select origin.workspace_id, origin.queue, origin.name, origin.args, piece.body, piece.weight, now(), true,
           origin.trace_id, origin.created_at
    from job as origin, unnest(cast(:bodies as bytea[]), cast(:weights as int[])) as piece (body, weight)
    where origin.id = :id
""")


def split_job(tx: Connection, job: ClaimedJob, pieces: Sequence[tuple[bytes, int]]) -> None:
    """Add smaller jobs for the parts of one: (body, weight), each handled alone. The caller completes the old one."""
    tx.execute(
        SPLIT, {"id": job.id, "bodies": [body for body, _ in pieces], "weights": [weight for _, weight in pieces]}
    )


# Whoever waits for such a lock keeps writers out as well. Ids below 16384 are the server's own tables.
TABLE_HELD = text("""
    select exists (
        select from pg_locks
        where locktype = 'relation' and relation >= 16384 and pid <> pg_backend_pid()
          and database = (select oid from pg_database where datname = current_database())
          and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    )
""")


def is_table_held(tx: Connection) -> bool:
    """Return whether somebody holds, or waits for, a lock that keeps everybody from writing to one of our tables."""
    return bool(tx.execute(TABLE_HELD).scalar_one())


def limit_lock_wait(tx: Connection, milliseconds: int) -> None:
    """Have this transaction wait no longer than that for a lock."""
    tx.execute(text("select set_config('lock_timeout', :limit, true)"), {"limit": f"{milliseconds}ms"})
