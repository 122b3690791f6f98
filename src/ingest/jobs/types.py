"""The job types: what each kind of work needs to know. Ids only, never a message's text, a phone number or an address.

Names and fields are wire format, because rows written by an older release are read by a newer one: add, never rename.
A new field needs a default.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ingest.errors import Permanent
from ingest.jobs import queues

JOB_TYPES: dict[str, type["JobType"]] = {}


@dataclass(frozen=True, slots=True)
class JobType:
    """The root of the job types. `queue` says who works it off, `name` is how the row names it."""

    queue: ClassVar[str]
    name: ClassVar[str]

    workspace_id: int

    def __init_subclass__(cls) -> None:
        # A dataclass with slots is made twice; the second one is the class that everybody imports.
        if "name" in cls.__dict__:
            JOB_TYPES[cls.name] = cls

    def args(self) -> dict[str, Any]:
        """Return the fields as the row keeps them, JSON-safe; the workspace has a column of its own."""
        fields = asdict(self)
        del fields["workspace_id"]
        return fields


@dataclass(frozen=True, slots=True)
class ResolveRequests(JobType):
    """Accepted requests to be parsed and stored; they travel in the row's body (see `store.intake`)."""

    queue: ClassVar[str] = queues.RESOLVE
    name: ClassVar[str] = "resolve_requests"


@dataclass(frozen=True, slots=True)
class ApplyEffects(JobType):
    """Statuses, edits and reactions that found no message are tried once more, after their neighbours have committed."""

    queue: ClassVar[str] = queues.RESOLVE
    name: ClassVar[str] = "apply_effects"

    channel_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DetectDuplicates(JobType):
    """Contacts whose keys or state changed: their merge suggestions are opened, shrunk or closed."""

    queue: ClassVar[str] = queues.DETECT
    name: ClassVar[str] = "detect_duplicates"

    contact_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SweepDuplicates(JobType):
    """Every contact of the workspace from this id on is reviewed, a batch a job: it repairs what a lost job left behind."""

    queue: ClassVar[str] = queues.DETECT
    name: ClassVar[str] = "sweep_duplicates"

    after_contact_id: int = 0


@dataclass(frozen=True, slots=True)
class ReactToMessages(JobType):
    """Contacts that wrote: runs waiting for an answer are advanced, in the messages' order."""

    queue: ClassVar[str] = queues.REACT
    name: ClassVar[str] = "react_to_messages"

    contact_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReactToConversations(JobType):
    """Conversations that were opened or closed (`trigger`): workflows with that trigger start."""

    queue: ClassVar[str] = queues.REACT
    name: ClassVar[str] = "react_to_conversations"

    trigger: str = "conversation_opened"
    source: str = "contact"
    conversation_ids: tuple[int, ...] = ()
    # How many workflows in a row have led to this.
    depth: int = 0


@dataclass(frozen=True, slots=True)
class StopRuns(JobType):
    """Contacts that opted out on a channel: their waiting runs there stop."""

    queue: ClassVar[str] = queues.REACT
    name: ClassVar[str] = "stop_runs"

    contact_ids: tuple[int, ...] = ()
    reason: str = "opted_out"


def read_job(name: str, workspace_id: int, args: Mapping[str, Any]) -> JobType:
    """Return the job that a row describes. Fields this release does not know are left out.

    Raises Permanent for a name this release does not know: the row becomes a dead letter, to be replayed by a newer one.
    """
    job_type = JOB_TYPES.get(name)
    if job_type is None:
        raise Permanent(f"no job type is called {name}")
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in args.items()}
    fields = job_type.__dataclass_fields__
    return job_type(workspace_id=workspace_id, **{key: value for key, value in known.items() if key in fields})
