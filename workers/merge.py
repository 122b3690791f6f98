"""Queue `merge`: acts on contacts that take their time, or wait for it: bulk acts, ends of timed blocks, auto-merges."""

from collections.abc import Sequence

import structlog

from ingest.jobs.act_types import AutoMerge, ContinueBulkAct, EndTimedBlock
from ingest.pipeline.auto_merge import auto_merge
from ingest.pipeline.block import continue_bulk_act, end_timed_block
from ingest.store.unit_of_work import UnitOfWork
from workers.handlers import handles

log = structlog.get_logger()


@handles(ContinueBulkAct)
def go_on(uow: UnitOfWork, jobs: Sequence[ContinueBulkAct]) -> None:
    """Do the next batch of each bulk act. Safe to run twice."""
    for job in jobs:
        log.info("bulk_act.continued", workspace_id=job.workspace_id, state=continue_bulk_act(uow, job))


@handles(EndTimedBlock)
def end_blocks(uow: UnitOfWork, jobs: Sequence[EndTimedBlock]) -> None:
    """Unblock contacts whose time has come. Safe to run twice."""
    for job in sorted(jobs, key=lambda each: (each.workspace_id, each.contact_id)):
        if end_timed_block(uow, job):
            log.info("block.ended", contact_id=job.contact_id)


@handles(AutoMerge)
def merge_by_rules(uow: UnitOfWork, jobs: Sequence[AutoMerge]) -> None:
    """Merge what the workspaces' rules say. Safe to run twice."""
    for job in sorted(jobs, key=lambda each: each.workspace_id):
        log.info("contacts.merged", workspace_id=job.workspace_id, count=auto_merge(uow, job))
