"""Queue `delete`: detached contacts are purged, one bounded part a transaction."""

from collections.abc import Sequence

import structlog

from ingest.domain.deletions import BATCH_CONTACTS, BATCH_ROWS
from ingest.jobs.act_types import PurgeDeletion
from ingest.pipeline.delete import PurgeTerms, purge_deletion
from ingest.runtime import Runtime
from ingest.store.jobs import ClaimedJob
from ingest.store.unit_of_work import UnitOfWork
from workers.handlers import handles_rows
from workers.turns import TRAFFIC

log = structlog.get_logger()

# A part of a deletion beside many messages: some milliseconds, which nobody notices who comes during them.
ROWS_BESIDE, CONTACTS_BESIDE = 250, 25


@handles_rows(PurgeDeletion)
def purge(runtime: Runtime, uow: UnitOfWork, rows: Sequence[ClaimedJob]) -> None:
    """Purge the next part of each deletion. Safe to run twice."""
    terms = PurgeTerms(
        salt=runtime.salts[0],
        rows=round(TRAFFIC.between(BATCH_ROWS, ROWS_BESIDE)),
        contacts=round(TRAFFIC.between(BATCH_CONTACTS, CONTACTS_BESIDE)),
    )
    for row in rows:
        job = PurgeDeletion(row.workspace_id, int(row.args["deletion_job_id"]))
        state = purge_deletion(uow, job, terms)
        log.info("deletion.purged", deletion_id=job.deletion_job_id, state=state)
