"""One transaction and the bells that ring after its commit."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine

from ingest.jobs.publisher import Publisher
from ingest.jobs.types import JobType
from ingest.store import jobs

Transaction = Connection
"""What steps call the connection they are given: it has begun, and they never end it."""


@dataclass(slots=True)
class UnitOfWork:
    """What a step works with: the transaction, the time it counts from (aware UTC), and follow-up jobs.

    A step never commits. What it adds with `add_job` exists exactly when the rest of its work does.
    """

    tx: Connection
    now: datetime
    queues: set[str] = field(default_factory=set)

    def add_job(self, job: JobType, due_at: datetime | None = None, key: str | None = None) -> None:
        """Add a follow-up job, due now or at `due_at`. With a `key`, at most one such job waits at a time."""
        self.add_jobs([job], due_at=due_at, keys=None if key is None else [key])

    def add_jobs(
        self, new: Sequence[JobType], due_at: datetime | None = None, keys: Sequence[str | None] | None = None
    ) -> None:
        """Add follow-up jobs in one statement, each under its key where `keys` are given."""
        jobs.add_jobs(self.tx, new, due_at=due_at, keys=keys)
        if due_at is None or due_at <= self.now:
            self.queues.update(job.queue for job in new)


@contextmanager
def unit_of_work(engine: Engine, publisher: Publisher, clock: Callable[[], datetime]) -> Iterator[UnitOfWork]:
    """Give a unit of work; commit at the end, then ring. An exception rolls everything back and rings for nobody."""
    with engine.begin() as tx:
        uow = UnitOfWork(tx, clock())
        yield uow
    ring(publisher, uow.queues)


def ring(publisher: Publisher, queues: Iterable[str]) -> None:
    """Ring for each queue once, if there is any."""
    wanted = sorted(set(queues))
    if wanted:
        publisher.ring(wanted)
