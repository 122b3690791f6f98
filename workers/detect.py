"""Queue `detect`: contacts that share a phone or email key."""

from collections.abc import Sequence

import structlog

from ingest.jobs.types import DetectDuplicates, SweepDuplicates
from ingest.pipeline.detect import detect_duplicates, sweep_duplicates
from ingest.store.unit_of_work import UnitOfWork
from workers.handlers import handles

log = structlog.get_logger()


@handles(DetectDuplicates)
def detect(uow: UnitOfWork, jobs: Sequence[DetectDuplicates]) -> None:
    """Open, shrink and close the merge suggestions of the jobs' contacts. Safe to run twice."""
    counts = detect_duplicates(uow, jobs).counts
    log.info(
        "duplicates.detected",
        contact_count=counts["contact_count"],
        opened_count=counts["opened_count"],
        closed_count=counts["closed_count"],
    )


@handles(SweepDuplicates)
def sweep(uow: UnitOfWork, jobs: Sequence[SweepDuplicates]) -> None:
    """Review a batch of each workspace's contacts and leave the rest to a further job. Safe to run twice."""
    for job in jobs:
        after_contact_id = sweep_duplicates(uow, job.workspace_id, job.after_contact_id)
        if after_contact_id is not None:
            uow.add_job(SweepDuplicates(job.workspace_id, after_contact_id))
