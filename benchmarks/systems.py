"""The systems under measurement: how each is started, stopped and asked what it has stored."""

import os
import signal
import socket
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


def free_port() -> int:
    """Return a port that nobody listens on: two benchmarks on one machine must not answer for each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PORT = free_port()
READY_SECONDS = 60
# For the workers to connect once the web process answers.
SETTLE_SECONDS = 3
# The same server for all three: what is compared is what runs in it.
UVICORN = (
    *("-m", "uvicorn", "--host", "127.0.0.1", "--port", str(PORT), "--loop", "uvloop", "--http", "httptools"),
    *("--ws", "none", "--no-access-log", "--no-server-header", "--no-proxy-headers", "--log-level", "error"),
)
START = "from ingest.cli import main; main()"


@dataclass(frozen=True)
class System:
    """A system: its processes as (name, arguments to Python), and where its messages are.

    `newest` selects the highest message id, `stored` counts those above one.
    """

    name: str
    processes: tuple[tuple[str, tuple[str, ...]], ...]
    newest: str
    stored: str

    def url(self, channel_id: int = 1) -> str:
        """Return the webhook URL."""
        return f"http://127.0.0.1:{PORT}/webhooks/{channel_id}"


def naive(workers: int = 2) -> System:
    """Return the comparator *naive*, with so many worker processes."""
    worker = ("-m", "celery", "-A", "benchmarks.naive:celery", "worker", "-c", str(workers), "--loglevel", "error")
    processes = (("web", (*UVICORN, "benchmarks.naive:app")), ("worker", worker))
    return System("naive", processes, *_counting("naive_message"))


def floor(workers: int = 1) -> System:
    """Return the comparator *floor*."""
    work = (("worker", ("-m", "benchmarks.floor")),) * workers
    return System("floor", (("web", (*UVICORN, "benchmarks.floor:app")), *work), *_counting("floor_message"))


def ours(workers: int = 1, *extra_queues: str) -> System:
    """Return this system, with so many resolve workers and a worker for each of the further queues."""
    queues = ("detect", "upkeep", *extra_queues, *["resolve"] * workers)
    processes = (
        ("web", ("-c", START, "web")),
        ("beat", ("-c", START, "beat")),
        *((f"worker {queue}", ("-c", START, "worker", queue)) for queue in queues),
    )
    return System("ours", processes, *_counting("message", "workspace_id = 1"))


def _counting(table: str, condition: str = "true") -> tuple[str, str]:
    newest = f"select coalesce(max(id), 0) from {table} where {condition}"
    return newest, f"select count(*) from {table} where {condition} and id > %s"


@contextmanager
def running(system: System, environment: Mapping[str, str], log_directory: Path) -> Iterator[dict[str, list[int]]]:
    """Run the system's processes for as long as the block lasts, and give their ids by name.

    Waits until the web process answers.
    """
    log_directory.mkdir(parents=True, exist_ok=True)
    started: list[tuple[str, subprocess.Popen[bytes]]] = []
    try:
        for name, arguments in system.processes:
            with (log_directory / f"{system.name}-{name.replace(' ', '-')}.log").open("ab") as log:
                command = [sys.executable, *arguments]
                everything = {**os.environ, **environment}
                started.append(
                    (name, subprocess.Popen(command, env=everything, stdout=log, stderr=log, start_new_session=True))
                )
        _wait_ready(system)
        yield {name: [each.pid for own, each in started if own == name] for name, _ in started}
    finally:
        _stop([process for _, process in started])


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        # Each ends its own children, in its own time.
        process.terminate()
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
            break  # Any answer will do: a GET is no webhook call.
        except OSError:
            time.sleep(0.2)
        else:
            break
    else:
        raise TimeoutError(f"{system.name} did not answer within {READY_SECONDS} s: see its logs")
    time.sleep(SETTLE_SECONDS)


def newest_message(system: System, conninfo: str) -> int:
    """Return the highest id of the messages stored so far."""
    return _number(conninfo, system.newest)


def count_stored(system: System, conninfo: str, after: int) -> int:
    """Return how many messages the system has stored with a higher id."""
    return _number(conninfo, system.stored, after)


def _number(conninfo: str, query: str, *given: int) -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query, given or None).fetchone()
        return int(row[0]) if row else 0
