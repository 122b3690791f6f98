"""Ending workflow runs, in the transaction of whatever ends them, and the timers that wake them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection, TextClause, text

from ingest.domain.actors import WORKFLOW, Actor
from ingest.jobs import queues
from ingest.jobs.act_types import WakeRun

END = """
    with ended as (
        update workflow_run
        set state = 'ended', reason = :reason, ended_at = :now, waits_for = null, wake_at = null,
            wait_number = wait_number + 1
        where workspace_id = :workspace_id and state = 'active' and {which}
        returning id, contact_id, workflow_id, wait_number
    ), void as (
        -- A timer that a worker holds at this moment finds the run ended.
        delete from job where id in (
            select job.id from job join ended on job.key = 'run:' || ended.id || ':' || ended.wait_number - 1
            where job.workspace_id = :workspace_id and job.queue = :queue
              and (job.leased_until is null or job.leased_until < now())
            for update of job skip locked
        )
    )
    insert into contact_event (workspace_id, contact_id, origin_contact_id, kind, source, actor_id, data, at)
    select :workspace_id, contact_id, contact_id, 'workflow.stopped', :source, cast(:actor_id as bigint),
           jsonb_build_object('run_id', id, 'workflow_id', workflow_id, 'reason', cast(:reason as text)), :now
    from ended order by contact_id, id
"""  # constant parts only
END_OF_CONTACTS = text(END.format(which="contact_id = any(cast(:ids as bigint[]))"))
END_OF_WORKFLOW = text(END.format(which="workflow_id = any(cast(:ids as bigint[]))"))
END_RUNS = text(END.format(which="id = any(cast(:ids as bigint[]))"))

# The timer that woke the run is leased and goes with its claim.
VOID_TIMERS = text("""
    delete from job where id in (
        select id from job
        where workspace_id = :workspace_id and queue = :queue and key = any(cast(:keys as text[]))
          and (leased_until is null or leased_until < now())
        for update skip locked
    )
""")

# A timer is named for its run and its wait. The one that woke the run is still there, leased, when the next is set.
SET_TIMERS = text("""
    insert into job (workspace_id, queue, name, args, due_at, key)
    select :workspace_id, :queue, :name, args::jsonb, due_at, key
    from unnest(cast(:args as text[]), cast(:due_ats as timestamptz[]), cast(:keys as text[])) as new (args, due_at, key)
    on conflict (workspace_id, queue, key) where key is not null do nothing
""")


@dataclass(frozen=True, slots=True)
class WaitKey:
    """A wait of a run: what a timer is named for."""

    run_id: int
    wait_number: int

    def __str__(self) -> str:
        return f"run:{self.run_id}:{self.wait_number}"


@dataclass(frozen=True, slots=True)
class RunEnd:
    """Why, when and through whom runs end."""

    reason: str
    at: datetime
    actor: Actor = WORKFLOW


@dataclass(frozen=True, slots=True)
class Timer:
    """When a waiting run is to be woken."""

    run_id: int
    contact_id: int
    wait_number: int
    wake_at: datetime


def end_runs_of_contacts(tx: Connection, workspace_id: int, contact_ids: Collection[int], end: RunEnd) -> int:
    """End every active run of the contacts, void their timers, and return how many ended. The caller holds the locks."""
    return _end(tx, END_OF_CONTACTS, workspace_id, contact_ids, end)


def end_runs_of_workflow(tx: Connection, workspace_id: int, workflow_id: int, end: RunEnd) -> int:
    """End every active run of the workflow and return how many ended."""
    return _end(tx, END_OF_WORKFLOW, workspace_id, [workflow_id], end)


def end_runs(tx: Connection, workspace_id: int, run_ids: Collection[int], end: RunEnd) -> int:
    """End these runs where they are active and return how many ended."""
    return _end(tx, END_RUNS, workspace_id, run_ids, end)


def _end(tx: Connection, statement: TextClause, workspace_id: int, ids: Collection[int], end: RunEnd) -> int:
    given = {
        "workspace_id": workspace_id,
        "ids": sorted(ids),
        "reason": end.reason,
        "now": end.at,
        "queue": queues.REACT,
        "source": end.actor.source,
        "actor_id": end.actor.id,
    }
    return tx.execute(statement, given).rowcount


def void_timers(tx: Connection, workspace_id: int, waits: Collection[WaitKey]) -> None:
    """Remove the timers of waits that are over."""
    if waits:
        keys = [str(wait) for wait in waits]
        tx.execute(VOID_TIMERS, {"workspace_id": workspace_id, "queue": queues.REACT, "keys": keys})


def set_timers(tx: Connection, workspace_id: int, timers: Sequence[Timer]) -> None:
    """Have each run woken at its time, in one statement; the same wait has one timer."""
    if not timers:
        return
    tx.execute(
        SET_TIMERS,
        {
            "workspace_id": workspace_id,
            "queue": queues.REACT,
            "name": WakeRun.name,
            "args": [
                msgspec.json.encode(
                    WakeRun(workspace_id, each.run_id, each.contact_id, each.wait_number).args()
                ).decode()
                for each in timers
            ],
            "due_ats": [each.wake_at for each in timers],
            "keys": [str(WaitKey(each.run_id, each.wait_number)) for each in timers],
        },
    )
