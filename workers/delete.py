"""Queue `delete`: detached contacts are purged, one bounded part a transaction."""

from collections.abc import Sequence

import structlog

from ingest.jobs.act_types import PurgeDeletion
from ingest.pipeline.delete import purge_deletion
from ingest.store.unit_of_work import UnitOfWork
from workers.handling import handles

log = structlog.get_logger()


@handles(PurgeDeletion)
def purge(uow: UnitOfWork, jobs: Sequence[PurgeDeletion]) -> None:
    """Purge the next part of each deletion. Safe to run twice."""
    for job in jobs:
        log.info("deletion.purged", deletion_id=job.deletion_job_id, state=purge_deletion(uow, job))
