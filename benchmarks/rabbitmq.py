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


@contextmanager
def rabbitmq(directory: Path) -> Iterator[str]:
    """Run a node for as long as the block lasts, and give its URL."""
    directory.mkdir(parents=True, exist_ok=True)
    environment = {
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
    with (directory / "output.log").open("wb") as log:
        node = subprocess.Popen([str(SERVER)], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_open(node)
        yield f"amqp://guest:guest@127.0.0.1:{PORT}//"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGTERM)
        node.wait(60)
        if epmd := shutil.which("epmd"):
            subprocess.run([epmd, "-port", str(EPMD_PORT), "-kill"], check=False, capture_output=True)


def _wait_open(node: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while time.monotonic() < ends_at and node.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1):
            # The port opens a little before the node takes logins.
            time.sleep(2)
            return
        time.sleep(0.5)
    raise TimeoutError("RabbitMQ did not start: see its output.log")
