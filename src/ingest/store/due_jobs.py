"""Which queues have work that is due, or soon will be.

Asked every second, whatever waits: a queue may hold timers by the hundred thousand. So each queue and workspace costs one
step in the index of due times, and no row is read before its time has nearly come.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from ingest.jobs.queues import QUEUES

# Statistics on the queue are always old; see `store.jobs`.
PREPARE = text("""
    select set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
           set_config('enable_mergejoin', 'off', true)
""")

# The recursion walks the index from one workspace of a queue to the next.
FIRST_OF_EACH = """
    with recursive tenant (queue, workspace_id) as (
        select queue, (select workspace_id from job where job.queue = wanted.queue order by workspace_id limit 1)
        from unnest(cast(:queues as text[])) as wanted (queue)
        union all
        select queue, (select workspace_id from job
                       where job.queue = tenant.queue and workspace_id > tenant.workspace_id
                       order by workspace_id limit 1)
        from tenant where workspace_id is not null
    )
    select tenant.queue, first.due_at from tenant cross join lateral (
        select due_at from job
        where job.queue = tenant.queue and job.workspace_id = tenant.workspace_id
          and due_at <= now() + make_interval(secs => :ahead) and (leased_until is null or leased_until < now())
        order by due_at limit 1
    ) as first
"""
COMING = text(f"""
    select queue, extract(epoch from greatest(min(due_at) - now(), interval '0'))
    from ({FIRST_OF_EACH}) as first group by queue order by queue
""")  # noqa: S608 - constant parts only
OLDEST = text(f"select coalesce(extract(epoch from now() - min(due_at)), 0) from ({FIRST_OF_EACH}) as first")  # noqa: S608


def list_coming_queues(tx: Connection, ahead_seconds: float) -> dict[str, float]:
    """Return the queues with jobs that nobody holds and that are due within so many seconds: in how many, 0 for now."""
    tx.execute(PREPARE)
    return {row[0]: float(row[1]) for row in tx.execute(COMING, {"queues": list(QUEUES), "ahead": ahead_seconds})}


def oldest_due_seconds(tx: Connection, queues: Sequence[str]) -> float:
    """Return how long the oldest job that is due and held by nobody has been due; 0 when there is none."""
    tx.execute(PREPARE)
    return float(tx.execute(OLDEST, {"queues": list(queues), "ahead": 0.0}).scalar_one())
