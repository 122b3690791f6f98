"""Queue `transfer`: batches of imports, exports and bulk changes; snoozes that end."""

from collections.abc import Sequence

import structlog

from ingest.jobs.contact_types import EndSnooze
from ingest.jobs.transfer_types import BulkBatch, ExportBatch, ImportBatch
from ingest.pipeline.contacts_conversations import end_snooze
from ingest.pipeline.transfer_bulk import bulk_batch
from ingest.pipeline.transfer_export import export_batch
from ingest.pipeline.transfer_import import import_batch
from ingest.store.unit_of_work import UnitOfWork
from workers.handlers import handles

log = structlog.get_logger()


@handles(ImportBatch)
def import_rows(uow: UnitOfWork, jobs: Sequence[ImportBatch]) -> None:
    """Work off a batch of each import. Safe to run twice."""
    for job in jobs:
        counts = import_batch(uow, job)
        log.info("rows.imported", workspace_id=job.workspace_id, transfer_id=job.transfer_id, count=counts.total())


@handles(ExportBatch)
def export_contacts(uow: UnitOfWork, jobs: Sequence[ExportBatch]) -> None:
    """Write a batch of each export. Safe to run twice."""
    for job in jobs:
        count = export_batch(uow, job)
        log.info("contacts.exported", workspace_id=job.workspace_id, transfer_id=job.transfer_id, count=count)


@handles(BulkBatch)
def change_contacts(uow: UnitOfWork, jobs: Sequence[BulkBatch]) -> None:
    """Change a batch of contacts of each bulk change. Safe to run twice."""
    for job in jobs:
        counts = bulk_batch(uow, job)
        log.info("contacts.changed", workspace_id=job.workspace_id, transfer_id=job.transfer_id, count=counts.total())


@handles(EndSnooze)
def end_snoozes(uow: UnitOfWork, jobs: Sequence[EndSnooze]) -> None:
    """Wake conversations whose time has come. Safe to run twice."""
    for job in sorted(jobs, key=lambda each: (each.workspace_id, each.contact_id)):
        if end_snooze(uow, job):
            log.info("snooze.ended", contact_id=job.contact_id)
