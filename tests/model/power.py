"""A process that can lose its power: between any two statements, or after a commit whose answer it never sees.

Everything runs on one connection. What would be a transaction is a savepoint, so that an example of a thousand steps is
taken back by one rollback; what the process does with it is the real thing.
"""

from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from psycopg import OperationalError as LostConnection
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from ingest.jobs.publisher import NoPublisher
from ingest.store.intake import RawRequest, add_intake_rows, encode_rows
from ingest.store.unit_of_work import UnitOfWork, unit_of_work
from tests.pipeline_world import SEALER

UNHEARD = "unheard"
"""The fault in which a commit succeeds and its answer is lost. Every other fault is a number of statements."""
Fault = int | str | None


class Died(BaseException):
    """The process is gone: nothing in it catches this, nothing of it is cleaned up but what the server does."""


class Settings:
    """The settings that workers read, with small batches."""

    batch_events = 4
    lease_seconds = 20
    late_after_seconds = 900


class Process:
    """What workers and the API take for their runtime. `tx` is the one connection; `now` the time that it goes by."""

    settings = Settings()
    publisher = NoPublisher()
    sealer = SEALER
    salts = (b"salt of the model",)

    def __init__(self, tx: Connection, now: datetime) -> None:
        self.tx = tx
        self.now = now
        self._statements_left = 0
        self._is_unheard = False
        event.listen(tx, "before_execute", self._spend)

    def close(self) -> None:
        """Let go of the connection."""
        event.remove(self.tx, "before_execute", self._spend)

    def clock(self) -> datetime:
        """Return the time."""
        return self.now

    # Faults

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """Have the process die, or miss an answer, within. If it is done sooner, nothing happens."""
        self._is_unheard = fault == UNHEARD
        self._statements_left = fault if isinstance(fault, int) else 0
        try:
            yield
        finally:
            self._statements_left, self._is_unheard = 0, False

    def _spend(self, *_args: Any) -> None:
        if self._statements_left:
            self._statements_left -= 1
            if not self._statements_left:
                raise Died

    # What a runtime does

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Give a transaction, committed at the end."""
        self.tx.exec_driver_sql("savepoint process")
        try:
            yield self.tx
            self._spend()
            self.tx.exec_driver_sql("release savepoint process")
        except BaseException:
            self._statements_left = 0
            while (nested := self.tx.get_nested_transaction()) is not None:
                nested.rollback()
            self.tx.exec_driver_sql("rollback to savepoint process")
            self.tx.exec_driver_sql("release savepoint process")
            raise
        if self._is_unheard:
            self._is_unheard = False
            raise OperationalError("commit", {}, LostConnection("the answer was lost"), connection_invalidated=True)

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """Give a unit of work, as the real runtime does."""
        with unit_of_work(self, self.publisher, self.clock) as uow:  # type: ignore[arg-type]
            yield uow

    def accept(self, requests: Iterable[RawRequest]) -> None:
        """Make the requests durable with the statement of the edge."""
        with self.begin() as tx:
            _run(add_intake_rows(_Plain(tx), encode_rows(list(requests))))  # type: ignore[arg-type]

    # Time

    def pass_time(self, seconds: float) -> None:
        """Let time pass until every lease has ended, every backoff is over, and timers up to the new time are due."""
        self.now += timedelta(seconds=seconds)
        self.tx.exec_driver_sql(
            "update job set leased_until = case when leased_until is not null then now() - interval '1 second' end, "
            "due_at = case when due_at <= %s or name not in ('wake_run', 'end_timed_block') "
            "then least(due_at, now()) else due_at end",
            (self.now,),
        )


class _Plain:
    """The connection as the edge knows it, which is asyncio."""

    def __init__(self, tx: Connection) -> None:
        self._connection = tx.connection.driver_connection

    async def execute(self, statement: str, values: Any) -> None:
        self._connection.execute(statement, values)


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited for something")
