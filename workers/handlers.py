"""Who handles which job: functions register here for a job type, and are handed back unchanged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ingest.errors import Permanent
from ingest.jobs.types import JobType, read_job
from ingest.runtime import Runtime
from ingest.store.jobs import ClaimedJob
from ingest.store.unit_of_work import UnitOfWork

J = TypeVar("J", bound=JobType)
Run = Callable[[Runtime, UnitOfWork, Sequence[ClaimedJob]], None]
Split = Callable[[bytes, int], list[tuple[bytes, int]]]
"""Cuts a body into about so many bodies, each with its weight."""


@dataclass(frozen=True, slots=True)
class Handler:
    """How jobs of one name are handled. `split` cuts a row's body into smaller ones, where a row holds several items."""

    run: Run
    split: Split | None = None


HANDLERS: dict[tuple[str, str], Handler] = {}


def _refuse_unknown(_runtime: Runtime, _uow: UnitOfWork, rows: Sequence[ClaimedJob]) -> None:
    raise Permanent(f"unknown_job: {rows[0].name}")


UNKNOWN = Handler(_refuse_unknown)


def handles(
    job_type: type[J],
) -> Callable[[Callable[[UnitOfWork, Sequence[J]], object]], Callable[[UnitOfWork, Sequence[J]], object]]:
    """Register a function for a job type and hand it back unchanged, so that tests call it plainly.

    It is given all jobs of one claim and their transaction; the jobs' rows are deleted in that same transaction.
    """

    def register(function: Callable[[UnitOfWork, Sequence[J]], object]) -> Callable[[UnitOfWork, Sequence[J]], object]:
        def run(_runtime: Runtime, uow: UnitOfWork, rows: Sequence[ClaimedJob]) -> None:
            jobs: Sequence[Any] = [read_job(row.name, row.workspace_id, row.args) for row in rows]
            function(uow, jobs)

        HANDLERS[job_type.queue, job_type.name] = Handler(run)
        return function

    return register


def handles_rows(job_type: type[JobType], split: Split | None = None) -> Callable[[Run], Run]:
    """Register a function that works on the rows themselves, because they carry more than ids."""

    def register(function: Run) -> Run:
        HANDLERS[job_type.queue, job_type.name] = Handler(function, split)
        return function

    return register
