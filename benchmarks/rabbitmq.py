"""A RabbitMQ node of the benchmark's own, where the distribution's package is installed."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.systems import free_port

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PORT, DIST_PORT, EPMD_PORT = free_port(), free_port(), free_port()
START_SECONDS = 90


def is_installed() -> bool:
    """Return whether there is a RabbitMQ to start."""
    return SERVER.exists()


class Node:
    """A RabbitMQ node over a directory of its own; started, stopped and killed any number of times."""

    url = f"amqp://guest:guest@127.0.0.1:{PORT}//"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node and return when it takes logins."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "output.log").open("ab") as log:
            environment = _environment(self._directory)
            self._process = subprocess.Popen(
                [str(SERVER)], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        _wait_open(self._process)

    def stop(self) -> None:
        """Stop the node cleanly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, sign: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            self._process.wait(60)
            self._process = None


@contextmanager
def rabbitmq(directory: Path) -> Iterator[str]:
    """Run a node for as long as the block lasts, and give its URL."""
    with running_node(directory) as node:
        yield node.url


@contextmanager
def running_node(directory: Path) -> Iterator[Node]:
    """Run a node for as long as the block lasts, and give it."""
    node = Node(directory)
    try:
        node.start()
        yield node
    finally:
        node.stop()
        if epmd := shutil.which("epmd"):
            subprocess.run([epmd, "-port", str(EPMD_PORT), "-kill"], check=False, capture_output=True)


def _environment(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"bench{os.getpid()}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(PORT),
        "RABBITMQ_DIST_PORT": str(DIST_PORT),
        "ERL_EPMD_PORT": str(EPMD_PORT),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
    }


def _wait_open(node: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while time.monotonic() < ends_at and node.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1):
            # The port opens a little before the node takes logins.
            time.sleep(2)
            return
        time.sleep(0.5)
    raise TimeoutError("RabbitMQ did not start: see its output.log")
