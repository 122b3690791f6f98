"""Wires the settings into engine, publisher, sealer and spool. The only place that does."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import psycopg
from prometheus_client import Histogram
from psycopg.abc import PQGen
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.types.json import set_json_loads
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from ingest.errors import BadSetting
from ingest.jobs.celery import make_celery
from ingest.jobs.publisher import CeleryPublisher, NoPublisher, Publisher
from ingest.settings import Settings
from ingest.store.arrays import register_arrays
from ingest.store.durability import list_weak_settings
from ingest.store.sealing import Sealer
from ingest.store.spool import Spool
from ingest.store.unit_of_work import UnitOfWork, unit_of_work

RV = TypeVar("RV")

# No statement of ours takes long; whatever does is stuck, and is better repeated.
SESSION_SETTINGS = {
    "lock_timeout": "2s",
    "statement_timeout": "15s",
    "idle_in_transaction_session_timeout": "30s",
    "client_connection_check_interval": "5s",
    "synchronous_commit": "on",
    "timezone": "UTC",
}


# The server gives every statement up after 15 s, so whoever has heard nothing for this long never will: the network, or
# something in between, has swallowed the question or the answer.
ANSWER_SECONDS = 20.0
# A peer that is gone without a word is noticed within about as long, by the kernel.
NETWORK = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

CONNECTION_WAIT = Histogram(
    "ingest_connection_wait_seconds",
    "How long work waited for a database connection",
    buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)


class TimedPool(QueuePool):
    """The usual pool, which also tells how long one had to wait for a connection."""

    def connect(self) -> PoolProxiedConnection:
        """Return a connection, as the pool does."""
        with CONNECTION_WAIT.time():
            return super().connect()


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection that hangs up when an answer takes longer than any may."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Return what the server answers. Raises OperationalError, with the connection closed, when it does not in time."""
        started = time.monotonic()
        try:
            return super().wait(gen, interval, ANSWER_SECONDS if timeout is None else timeout)
        except psycopg.OperationalError:
            if timeout is None and time.monotonic() - started >= ANSWER_SECONDS:
                self.pgconn.finish()
            raise


def now() -> datetime:
    """Return the time, aware UTC."""
    return datetime.now(UTC)


def make_engine(database_url: str, application_name: str, pool_size: int = 4, *, is_impatient: bool = False) -> Engine:
    """Return an engine whose sessions carry our time-outs. Parameters never appear in errors: they hold people's data.

    An impatient one hangs up on a server that has not answered in 20 s; not for statements that may take long.
    """
    engine = create_engine(
        database_url,
        poolclass=TimedPool,
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=5,
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args={"application_name": application_name, **NETWORK},
    )
    if is_impatient:

        @event.listens_for(engine, "do_connect")
        def connect(_dialect: object, _record: object, arguments: Any, given: Any) -> psycopg.Connection[Any]:
            return ImpatientConnection.connect(*arguments, **given)

    @event.listens_for(engine, "connect")
    def set_session(connection: Any, _record: object) -> None:
        settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in SESSION_SETTINGS.items())
        with connection.cursor() as cursor:
            cursor.execute(f"select {settings}")
        connection.commit()
        register_arrays(connection)
        # Four times as fast as the standard library's, and a claim reads a thousand of them.
        set_json_loads(msgspec.json.decode, connection)

    @event.listens_for(engine, "handle_error")
    def leave_read_only_session(context: ExceptionContext) -> None:
        # A session that began while the database was read-only, in a failover or a full disk's emergency, stays so for ever.
        if isinstance(context.original_exception, ReadOnlySqlTransaction):
            context.is_disconnect = True

    return engine


@dataclass(frozen=True)
class Runtime:
    """Everything a process works with. `role` names the process in the database's activity view."""

    settings: Settings
    role: str = "cli"
    clock: Callable[[], datetime] = now

    @classmethod
    def from_settings(cls, settings: Settings, role: str = "cli") -> "Runtime":
        """Return the runtime; nothing is connected yet."""
        return cls(settings, role)

    @cached_property
    def engine(self) -> Engine:
        """The engine, with one pool a process. Made at first use, so that it is never inherited by a fork."""
        size, is_impatient = self.settings.database_pool_size, self.role != "cli"
        return make_engine(self.settings.database_url, f"ingest-{self.role}", size, is_impatient=is_impatient)

    @cached_property
    def publisher(self) -> Publisher:
        """Whoever rings for queues."""
        if not self.settings.broker_url:
            return NoPublisher()
        return CeleryPublisher(make_celery(self.settings.broker_url, self.settings.broker_prefix, "publisher"))

    @cached_property
    def sealer(self) -> Sealer:
        """The sealer of channel secrets."""
        return Sealer(self.settings.secret_keys)

    @cached_property
    def salts(self) -> tuple[bytes, ...]:
        """The salts of kept blocks, newest first: one a secret key, so that rotating keys forgets no block."""
        return tuple(hashlib.sha256(b"block-list:" + key.encode()).digest() for key in self.settings.secret_keys)

    @property
    def conninfo(self) -> str:
        """The database's URL as libpq reads it."""
        return make_url(self.settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)

    def spool(self) -> Spool:
        """Return this process's spool."""
        return Spool(self.settings.spool_dir, self.settings.spool_max_bytes)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Give a transaction, committed at the end."""
        with self.engine.begin() as tx:
            yield tx

    def require_durable(self) -> bool:
        """Return whether the database was there to be asked; its commits last then.

        Raises BadSetting where they would not: a 2xx would be a promise that nobody keeps.
        """
        try:
            with self.begin() as tx:
                weak = list_weak_settings(tx)
        except SQLAlchemyError:
            return False
        finally:
            self.engine.dispose()
        if weak:
            raise BadSetting(
                f"PostgreSQL would lose acknowledged messages: {', '.join(weak)} {'is' if len(weak) == 1 else 'are'} off; "
                "turn on what is off in its configuration, and reload it"
            )
        return True

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """Give a unit of work: a transaction, committed at the end, after which its follow-up jobs are rung for."""
        with unit_of_work(self.engine, self.publisher, self.clock) as uow:
            yield uow
