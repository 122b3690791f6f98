"""Queue `detect`: contacts that share a phone or email key."""

from collections.abc import Sequence

import structlog
from ingest.pipeline.detect import detect_duplicates

from ingest.jobs.types import DetectDuplicates
from ingest.store.unit_of_work import UnitOfWork
from workers.handling import handles

log = structlog.get_logger()


@handles(DetectDuplicates)
def detect(uow: UnitOfWork, jobs: Sequence[DetectDuplicates]) -> None:
    """Open, shrink and close the merge suggestions of the jobs' contacts. Safe to run twice."""
    log.info(
        "duplicates.detected",
        contacts=sum(len(job.contact_ids) for job in jobs),
        found=str(detect_duplicates(uow, jobs)),
    )
