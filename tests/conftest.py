"""The real servers under the tests: one PostgreSQL and one Valkey a session, one database a worker.

Every database is a copy of one migrated template, which costs milliseconds. Under xdist the controlling process owns the
servers and hands their addresses to the workers.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, Engine, create_engine, make_url

from ingest.embedded.servers import EmbeddedServers

TEMPLATE = "migrated_template"
TEMPLATE_LOCK = 7_001
VALKEY_DATABASES = 16

MakeDatabase = Callable[[], str]


@dataclass(frozen=True)
class Addresses:
    """Where the session's servers are. `database_url` is that of PostgreSQL's own database `postgres`."""

    database_url: str
    broker_url: str

    def database(self, name: str) -> str:
        """Return the URL of another database on the same server."""
        return make_url(self.database_url).set(database=name).render_as_string(hide_password=False)


class SessionServers:
    """The session's servers, started when first asked for and gone with the session."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._servers: EmbeddedServers | None = None

    def addresses(self) -> Addresses:
        """Return the addresses, of started servers."""
        if self._servers is None:
            # Beside pytest's own directories: their long names would push the sockets elsewhere.
            self._directory = Path(tempfile.mkdtemp(prefix="ingest-tests-"))
            self._servers = EmbeddedServers(self._directory / "data")
            self._servers.start()
        return Addresses(self._servers.postgres.url_of("postgres"), self._servers.broker_url)

    def stop(self) -> None:
        """Stop the servers and remove their data."""
        if self._servers:
            # Without the checkpoint that a clean stop waits for: nobody reads these data again.
            self._servers.postgres.stop("immediate")
            self._servers.stop()
        if self._directory:
            shutil.rmtree(self._directory)


SERVERS = pytest.StashKey[SessionServers]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SERVERS] = SessionServers()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    addresses = node.config.stash[SERVERS].addresses()
    node.workerinput["addresses"] = (addresses.database_url, addresses.broker_url)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[SERVERS].stop()


@pytest.fixture(scope="session")
def addresses(request: pytest.FixtureRequest) -> Addresses:
    """The session's servers."""
    if workerinput := getattr(request.config, "workerinput", None):
        return Addresses(*workerinput["addresses"])
    return request.config.stash[SERVERS].addresses()


@pytest.fixture(scope="session")
def template(addresses: Addresses) -> str:
    """The name of a migrated database to copy, made by the worker that comes first."""
    from ingest.store.migrate import migrate

    with psycopg.connect(_plain(addresses.database_url), autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [TEMPLATE_LOCK])
        if not connection.execute("select 1 from pg_database where datname = %s", [TEMPLATE]).fetchone():
            unfinished = f"{TEMPLATE}_unfinished"
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(unfinished)))
            engine = create_engine(addresses.database(unfinished))
            migrate(engine)
            engine.dispose()
            connection.execute(
                sql.SQL("alter database {} rename to {}").format(sql.Identifier(unfinished), sql.Identifier(TEMPLATE))
            )
    return TEMPLATE


@pytest.fixture(scope="session")
def make_database(addresses: Addresses, template: str) -> Iterator[MakeDatabase]:
    """A function that makes a fresh migrated database and returns its URL; all go with the session's server.

    For tests with processes or several connections of their own, which cannot be rolled back.
    """
    numbers = itertools.count()
    with psycopg.connect(_plain(addresses.database_url), autocommit=True) as connection:

        def make() -> str:
            name = f"ingest_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{next(numbers)}"
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)),
            )
            return addresses.database(name)

        # Dropping them would take longer than most tests: each drop waits for a checkpoint of the whole server.
        yield make


@pytest.fixture
def database_url(make_database: MakeDatabase) -> str:
    """The URL of a migrated database of this test's own."""
    return make_database()


@pytest.fixture(scope="session")
def engine(make_database: MakeDatabase) -> Iterator[Engine]:
    """An engine on this worker's database. Tests share it, so they write through `tx` only."""
    engine = create_engine(make_database())
    yield engine
    engine.dispose()


@pytest.fixture
def tx(engine: Engine) -> Iterator[Connection]:
    """A transaction that is rolled back after the test."""
    with engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@pytest.fixture(scope="session")
def broker_url(addresses: Addresses) -> str:
    """The broker's URL in kombu's form, on a numbered database of this worker's own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return addresses.broker_url.replace("virtual_host=0", f"virtual_host={worker % VALKEY_DATABASES}")


def _plain(url: str) -> str:
    """Return SQLAlchemy's URL as one that psycopg itself takes."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
