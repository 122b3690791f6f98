"""Where the embedded servers keep things under the data directory, and the URLs that follow from it.

The URLs depend on the directory alone, so that every command finds a running system without being told.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

# sun_path holds 108 bytes with its closing zero; PostgreSQL adds `/.s.PGSQL.NNNNN.lock` to the directory.
MAX_SOCKET_DIRECTORY_BYTES = 107 - len("/.s.PGSQL.65535.lock")
POSTGRES_PORT = 5432
DATABASE_NAME = "ingest"
DATABASE_USER = "ingest"


@dataclass(frozen=True, slots=True)
class Places:
    """The directories and files of one embedded installation; all absolute."""

    data: Path
    postgres: Path
    postgres_password: Path
    valkey: Path
    valkey_pid: Path
    sockets: Path
    logs: Path
    lock: Path
    secret_key: Path
    public_url: Path

    @property
    def valkey_socket(self) -> Path:
        """The path of Valkey's unix socket."""
        return self.sockets / "valkey.sock"

    def database_url(self, port: int = POSTGRES_PORT, database: str = DATABASE_NAME) -> str:
        """Return the database's URL over the unix socket. `port` is part of the socket's name, nothing more."""
        host = quote(str(self.sockets), safe="/")
        return f"postgresql+psycopg://{DATABASE_USER}@/{database}?host={host}&port={port}"

    @property
    def broker_url(self) -> str:
        """The broker's URL over the unix socket, in kombu's form."""
        return f"redis+socket://{quote(str(self.valkey_socket), safe='/')}?virtual_host=0"


def places(data_dir: Path) -> Places:
    """Return where things are for a data directory. Touches nothing."""
    data = data_dir.expanduser().resolve()
    return Places(
        data=data,
        postgres=data / "postgres",
        postgres_password=data / "postgres.password",
        valkey=data / "valkey",
        valkey_pid=data / "valkey.pid",
        sockets=_socket_directory(data),
        logs=data / "log",
        lock=data / "embedded.lock",
        secret_key=data / "secret.key",
        public_url=data / "public.url",
    )


def _socket_directory(data: Path) -> Path:
    """Return `run` under the data directory, or a short directory of its own where that path is too long for sockets."""
    inside = data / "run"
    if len(os.fsencode(inside)) <= MAX_SOCKET_DIRECTORY_BYTES:
        return inside
    return Path("/tmp") / f"ingest-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"  # noqa: S108 - made 0700, owner checked
