"""Both embedded servers over one data directory, which one supervisor owns at a time."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ingest.embedded.places import Places, places
from ingest.embedded.postgres import Postgres
from ingest.embedded.processes import EmbeddedServerFailed, server_account
from ingest.embedded.valkey import Fsync, Valkey

DEFAULT_USER = "nobody"


class EmbeddedServers:
    """PostgreSQL and Valkey over `data_dir`: `with EmbeddedServers(path) as servers: servers.database_url`.

    `postgres` and `valkey` can be stopped, killed and started one by one in between. Ports add loopback TCP to the unix
    sockets. As root both run as `user`. Create it in a thread that outlives it: when that thread ends, even by SIGKILL
    of the process, the servers stop by themselves.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        with_postgres: bool = True,
        with_valkey: bool = True,
        postgres_port: int | None = None,
        valkey_port: int | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        valkey_fsync: Fsync = "everysec",
        user: str = DEFAULT_USER,
    ) -> None:
        self.places: Places = places(data_dir)
        account = server_account(user)
        self.postgres = Postgres(self.places, account, postgres_port, postgres_settings)
        self.valkey = Valkey(self.places, account, valkey_port, valkey_fsync)
        self._with_postgres, self._with_valkey = with_postgres, with_valkey
        self._lock: int | None = None

    @property
    def database_url(self) -> str:
        """The database's URL, over the unix socket."""
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """The broker's URL, in kombu's form."""
        return self.valkey.url

    def start(self) -> None:
        """Start both, or those wanted, and return when they answer. Raises EmbeddedServerFailed, with none left running."""
        self._take_lock()
        try:
            if self._with_valkey:
                self.valkey.start()
            if self._with_postgres:
                self.postgres.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both cleanly and return when both have ended. Safe to repeat."""
        self.postgres.stop()
        self.valkey.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _take_lock(self) -> None:
        """Own the data directory until the lock is closed, which a killed process does too."""
        if self._lock is not None:
            return
        try:
            self.places.data.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.places.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as denied:
            raise EmbeddedServerFailed(
                f"cannot write to {self.places.data} ({denied.strerror}): choose another directory with --data, "
                "or give that one to the user who runs this"
            ) from denied
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode().strip() or "unknown"
            os.close(lock)
            raise EmbeddedServerFailed(
                f"{self.places.data} is in use by process {owner}: stop it first, or choose another directory with --data"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock
