"""Acts that have work left and no job that would do it: their job was set aside after its worker died again and again."""

from datetime import datetime

from sqlalchemy import Connection, text

from ingest.jobs.act_types import ContinueBulkAct, PurgeDeletion
from ingest.store.runs import Timer

ABANDONED_DELETIONS = text("""
    select workspace_id, id from deletion_job
    where state in ('waiting', 'queued', 'running') and purge_after < cast(:before as timestamptz)
      and not exists (select from job where job.workspace_id = deletion_job.workspace_id and job.queue = :queue
                      and job.name = :name and job.args ->> 'deletion_job_id' = deletion_job.id::text)
    order by id limit 100
""")
ABANDONED_BULK_ACTS = text("""
    select workspace_id, id from bulk_act
    where state in ('queued', 'running') and created_at < cast(:before as timestamptz)
      and not exists (select from job where job.workspace_id = bulk_act.workspace_id and job.queue = :queue
                      and job.name = :name and job.args ->> 'bulk_act_id' = bulk_act.id::text)
    order by id limit 100
""")
OVERDUE_RUNS = text("""
    select workspace_id, id, contact_id, wait_number from workflow_run
    where state = 'active' and wake_at < cast(:before as timestamptz)
      and not exists (select from job where job.workspace_id = workflow_run.workspace_id and job.queue = 'react'
                      and job.key = 'run:' || workflow_run.id || ':' || workflow_run.wait_number)
    order by wake_at limit 500
""")


def list_abandoned_deletions(tx: Connection, before: datetime) -> list[PurgeDeletion]:
    """Return a job for each deletion that should have been at work since then and has none; at most 100."""
    given = {"before": before, "queue": PurgeDeletion.queue, "name": PurgeDeletion.name}
    return [PurgeDeletion(row.workspace_id, row.id) for row in tx.execute(ABANDONED_DELETIONS, given)]


def list_abandoned_bulk_acts(tx: Connection, before: datetime) -> list[ContinueBulkAct]:
    """Return a job for each bulk act that should have been at work since then and has none; at most 100."""
    given = {"before": before, "queue": ContinueBulkAct.queue, "name": ContinueBulkAct.name}
    return [ContinueBulkAct(row.workspace_id, row.id) for row in tx.execute(ABANDONED_BULK_ACTS, given)]


def list_overdue_timers(tx: Connection, before: datetime, now: datetime) -> list[tuple[int, Timer]]:
    """Return (workspace, timer due now) for each run that should have been woken by then and has none; at most 500."""
    rows = tx.execute(OVERDUE_RUNS, {"before": before})
    return [(row.workspace_id, Timer(row.id, row.contact_id, row.wait_number, now)) for row in rows]
