"""Liveness by progress: work waits and nothing was finished for 30 s, so this process is stuck and ends itself.

A worker can look alive and do nothing: a consumer that stayed connected after its broker restarted, a pool child and its
parent waiting for each other. Pinging finds neither. The supervisor starts a fresh process.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import active_children
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ingest.runtime import Runtime
from ingest.store.due_jobs import oldest_due_seconds

log = structlog.get_logger()


class Progress(Protocol):
    """A number that a worker's processes share: when it last finished something, in monotonic seconds."""

    value: float


CHECK_SECONDS = 5.0
STUCK_SECONDS = 30.0
EXIT_STUCK = 70


class Watchdog(threading.Thread):
    """Looks every five seconds whether due work waits that this process does not do."""

    def __init__(self, runtime: Runtime, queues: Sequence[str], progress: Progress) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._runtime = runtime
        self._queues = list(queues)
        self._progress = progress
        self._started_at = time.monotonic()

    def run(self) -> None:
        """Look until stuck."""
        while True:
            time.sleep(CHECK_SECONDS)
            if self.is_stuck():
                give_up(self._queues)

    def is_stuck(self) -> bool:
        """Return whether work has been due, and nothing finished, for 30 s. False while nobody can tell."""
        idle_seconds = time.monotonic() - max(self._progress.value, self._started_at)
        if idle_seconds < STUCK_SECONDS:
            return False
        try:
            with self._runtime.begin() as tx:
                return oldest_due_seconds(tx, self._queues) > STUCK_SECONDS
        except (SQLAlchemyError, OSError):
            # Without a database nobody can make progress, and a restart would not help.
            self._started_at = time.monotonic()
            return False


def give_up(queues: Sequence[str], leave: Callable[[int], None] = os._exit) -> None:
    """Write all stacks to stderr and end this process and its children at once."""
    log.error("worker.stuck", queue=",".join(queues), seconds=STUCK_SECONDS)
    faulthandler.dump_traceback(file=sys.stderr)
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)
    leave(EXIT_STUCK)
