"""The job types of imports, exports and bulk changes. The rules of `jobs.types` hold: ids only, add, never rename.

A transfer has one job at a time: a batch adds the next one when it is done, so that batches are worked off in order.
"""

from dataclasses import dataclass
from typing import ClassVar

from ingest.jobs import queues
from ingest.jobs.types import JobType


@dataclass(frozen=True, slots=True)
class ImportBatch(JobType):
    """The rows of an import's part."""

    queue: ClassVar[str] = queues.TRANSFER
    name: ClassVar[str] = "import_batch"

    transfer_id: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class ExportBatch(JobType):
    """The next contacts of an export, after this one."""

    queue: ClassVar[str] = queues.TRANSFER
    name: ClassVar[str] = "export_batch"

    transfer_id: int = 0
    position: int = 0
    after_contact_id: int = 0


@dataclass(frozen=True, slots=True)
class BulkBatch(JobType):
    """The contacts of a bulk change's part."""

    queue: ClassVar[str] = queues.TRANSFER
    name: ClassVar[str] = "bulk_batch"

    transfer_id: int = 0
    position: int = 0
