"""The job types of the acts on contacts and of workflow runs. The rules of `jobs.types` hold: ids only, add, never rename."""

from dataclasses import dataclass
from typing import ClassVar

from ingest.jobs import queues
from ingest.jobs.types import JobType


@dataclass(frozen=True, slots=True)
class ContinueBulkAct(JobType):
    """A bulk act that has contacts left: the next batch of them."""

    queue: ClassVar[str] = queues.MERGE
    name: ClassVar[str] = "continue_bulk_act"

    bulk_act_id: int = 0


@dataclass(frozen=True, slots=True)
class EndTimedBlock(JobType):
    """A block that was set to end now. A later block or an unblock makes it void."""

    queue: ClassVar[str] = queues.MERGE
    name: ClassVar[str] = "end_timed_block"

    contact_id: int = 0


@dataclass(frozen=True, slots=True)
class AutoMerge(JobType):
    """Open suggestions of the workspace are held against its auto-merge rules."""

    queue: ClassVar[str] = queues.MERGE
    name: ClassVar[str] = "auto_merge"


@dataclass(frozen=True, slots=True)
class PurgeDeletion(JobType):
    """A deletion that has contacts left: the next batch of them."""

    queue: ClassVar[str] = queues.DELETE
    name: ClassVar[str] = "purge_deletion"

    deletion_job_id: int = 0


@dataclass(frozen=True, slots=True)
class ReactToTags(JobType):
    """Contacts that got or lost a tag (`action`: add or remove): workflows with that trigger start."""

    queue: ClassVar[str] = queues.REACT
    name: ClassVar[str] = "react_to_tags"

    tag_id: int = 0
    action: str = "add"
    contact_ids: tuple[int, ...] = ()
    # How many workflows in a row have led to this.
    depth: int = 0


@dataclass(frozen=True, slots=True)
class ReactToFields(JobType):
    """Contacts whose fields changed: workflows with that trigger start."""

    queue: ClassVar[str] = queues.REACT
    name: ClassVar[str] = "react_to_fields"

    fields: tuple[str, ...] = ()
    contact_ids: tuple[int, ...] = ()
    depth: int = 0


@dataclass(frozen=True, slots=True)
class StartRuns(JobType):
    """Contacts for whom a workflow is started by hand."""

    queue: ClassVar[str] = queues.REACT
    name: ClassVar[str] = "start_runs"

    workflow_id: int = 0
    contact_ids: tuple[int, ...] = ()
    actor_id: int = 0


@dataclass(frozen=True, slots=True)
class WakeRun(JobType):
    """A run whose time has come. `wait_number` names the wait: if the run has moved on since, nothing happens."""

    queue: ClassVar[str] = queues.REACT
    name: ClassVar[str] = "wake_run"

    run_id: int = 0
    contact_id: int = 0
    wait_number: int = 0
