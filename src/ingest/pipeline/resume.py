"""Upkeep of the acts: what has work left and no job to do it gets one. Safe at any time."""

from collections import defaultdict
from datetime import timedelta

from ingest.jobs import queues
from ingest.store import act_resumption as rows
from ingest.store.runs import Timer, set_timers
from ingest.store.unit_of_work import UnitOfWork

# A job that is merely late is on its way.
PATIENCE = timedelta(minutes=1)


def resume_acts(uow: UnitOfWork) -> int:
    """Give abandoned deletions, bulk acts and waiting runs a job again; return how many."""
    before = uow.now - PATIENCE
    deletions = rows.list_abandoned_deletions(uow.tx, before)
    acts = rows.list_abandoned_bulk_acts(uow.tx, before)
    uow.add_jobs([*deletions, *acts])
    timers: defaultdict[int, list[Timer]] = defaultdict(list)
    for workspace_id, timer in rows.list_overdue_timers(uow.tx, before, uow.now):
        timers[workspace_id].append(timer)
    for workspace_id, overdue in timers.items():
        set_timers(uow.tx, workspace_id, overdue)
        uow.queues.add(queues.REACT)
    return len(deletions) + len(acts) + sum(len(each) for each in timers.values())
