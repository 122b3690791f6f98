"""Queue `react`: workflow runs are started, taken further and stopped."""

from collections.abc import Sequence

import structlog

from ingest.jobs.act_types import ReactToFields, ReactToTags, StartRuns, WakeRun
from ingest.jobs.types import ReactToConversations, ReactToMessages, StopRuns
from ingest.pipeline import react
from ingest.store.unit_of_work import UnitOfWork
from workers.handlers import handles

log = structlog.get_logger()


@handles(ReactToMessages)
def take_messages(uow: UnitOfWork, jobs: Sequence[ReactToMessages]) -> None:
    """Let waiting runs take messages as answers. Safe to run twice."""
    log.info("messages.taken", count=react.react_to_messages(uow, jobs))


@handles(ReactToConversations)
def follow_conversations(uow: UnitOfWork, jobs: Sequence[ReactToConversations]) -> None:
    """Start workflows for opened and closed conversations. A contact that is in one is left where it is."""
    log.info("runs.started", cause="conversation", count=react.react_to_conversations(uow, jobs))


@handles(ReactToTags)
def follow_tags(uow: UnitOfWork, jobs: Sequence[ReactToTags]) -> None:
    """Start workflows for tags put on and taken off."""
    log.info("runs.started", cause="tag", count=react.react_to_tags(uow, jobs))


@handles(ReactToFields)
def follow_fields(uow: UnitOfWork, jobs: Sequence[ReactToFields]) -> None:
    """Start workflows for changed fields."""
    log.info("runs.started", cause="field", count=react.react_to_fields(uow, jobs))


@handles(StartRuns)
def start_by_hand(uow: UnitOfWork, jobs: Sequence[StartRuns]) -> None:
    """Start a workflow for contacts that somebody picked."""
    for job in jobs:
        log.info("runs.started", cause="manual", count=react.start_workflow(uow, job))


@handles(WakeRun)
def wake_runs(uow: UnitOfWork, jobs: Sequence[WakeRun]) -> None:
    """Take runs further whose time has come. Safe to run twice."""
    log.info("runs.woken", count=react.wake_runs(uow, jobs))


@handles(StopRuns)
def stop_opted_out(uow: UnitOfWork, jobs: Sequence[StopRuns]) -> None:
    """End runs that wait on a channel their contact wants nothing from. Safe to run twice."""
    log.info("runs.stopped", count=react.stop_opted_out(uow, jobs))
