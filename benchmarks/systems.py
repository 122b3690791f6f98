"""The systems under measurement: how each is started, stopped and asked what it has stored."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

PORT = 18_080
READY_SECONDS = 60
GRANIAN = [
    "-m",
    "granian",
    "--interface",
    "asgi",
    "--host",
    "127.0.0.1",
    "--port",
    str(PORT),
    "--no-ws",
    "--log-level",
    "error",
]


@dataclass(frozen=True)
class System:
    """A system's processes (arguments to Python), its webhook URL and the query that counts stored messages."""

    name: str
    processes: tuple[tuple[str, ...], ...]
    stored: str
    setup: str

    def url(self, channel_id: int = 1) -> str:
        """Return the webhook URL."""
        return f"http://127.0.0.1:{PORT}/webhooks/{channel_id}"


def naive(workers: int) -> System:
    """Return the comparator *naive*, with so many worker processes."""
    worker = ("-m", "celery", "-A", "benchmarks.naive:celery", "worker", "-c", str(workers), "--loglevel", "error")
    return System("naive", ((*GRANIAN, "benchmarks.naive:app"), worker), "select count(*) from naive_message", "naive")


def floor(workers: int) -> System:
    """Return the comparator *floor*."""
    web = (*GRANIAN, "benchmarks.floor:app")
    work = [("-m", "benchmarks.floor")] * workers
    return System("floor", (web, *work), "select count(*) from floor_message", "floor")


def ours(workers: int) -> System:
    """Return this system, with so many resolve workers."""
    start = "from ingest.cli import main; main()"
    commands = ["web", "worker detect", "worker upkeep", "beat", *["worker resolve"] * workers]
    lines = tuple(("-c", start, *command.split()) for command in commands)
    return System("ours", lines, "select count(*) from message", "ours")


@contextmanager
def running(system: System, environment: Mapping[str, str], log_directory: Path) -> Iterator[list[int]]:
    """Run the system's processes for as long as the block lasts, and give their ids. Waits until the web process answers."""
    log_directory.mkdir(parents=True, exist_ok=True)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, arguments in enumerate(system.processes):
            with (log_directory / f"{system.name}-{number}.log").open("ab") as log:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, *arguments],
                        env={**os.environ, **environment},
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        _wait_ready(system)
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_ready(system: System) -> None:
    ends_at = time.monotonic() + READY_SECONDS
    while time.monotonic() < ends_at:
        try:
            urllib.request.urlopen(system.url(), timeout=1).close()
        except urllib.error.HTTPError:
            # Any answer will do: a GET is no webhook call.
            time.sleep(3)
            return
        except OSError:
            time.sleep(0.2)
        else:
            time.sleep(3)
            return
    raise TimeoutError(f"{system.name} did not answer within {READY_SECONDS} s: see its logs")


def count_stored(system: System, conninfo: str) -> int:
    """Return how many messages the system has stored."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(system.stored).fetchone()
        return int(row[0]) if row else 0
