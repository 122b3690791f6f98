"""The job types of contact management. The rules of `jobs.types` hold: ids only, add, never rename."""

from dataclasses import dataclass
from typing import ClassVar

from ingest.jobs import queues
from ingest.jobs.types import JobType


@dataclass(frozen=True, slots=True)
class EndSnooze(JobType):
    """A conversation that was to come back now. Void when it is awake, closed, or snoozed for longer since."""

    queue: ClassVar[str] = queues.TRANSFER
    name: ClassVar[str] = "end_snooze"

    contact_id: int = 0
