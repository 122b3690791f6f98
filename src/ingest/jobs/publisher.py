"""Rings for queues that have work. A bell is only a wake-up: losing one delays a job until the next tick of the beat."""

import threading
import time
from collections.abc import Iterable
from typing import Protocol

import structlog
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

from ingest.jobs.queues import task_name

log = structlog.get_logger()

# Within this span one bell stands for all: a worker drains its queue, so more would only wake it for nothing.
QUIET_SECONDS = 0.04


class Publisher(Protocol):
    """Whoever rings. Never raises and never blocks for long: the job is safe in its row."""

    def ring(self, queues: Iterable[str]) -> None:
        """Say that there is work on each of these queues, after its commit."""

    def hush(self, queue: str) -> None:
        """Throw away the queue's bells that nobody has heard yet. Whoever does so looks for work afterwards."""


class NoPublisher:
    """Rings for nobody: the beat will find the work. For tests and one-off commands without a broker."""

    def ring(self, queues: Iterable[str]) -> None:
        """Do nothing."""

    def hush(self, queue: str) -> None:
        """Do nothing."""


class CeleryPublisher:
    """Publishes bells from a thread of its own, at most one a queue and 40 ms.

    The first bell after a quiet moment goes at once; those that follow within 40 ms become one bell at the end of that
    span. So every commit is followed by a bell, and a thousand commits a second cost twenty-five.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._wanted: set[str] = set()
        self._last_rung: dict[str, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def ring(self, queues: Iterable[str]) -> None:
        """Say that there is work on each of these queues. Returns at once; safe from any thread."""
        asked = set(queues)
        with self._changed:
            if asked <= self._wanted:
                # Its bell is still to come: waking the thread once more would only take time from the caller's.
                return
            self._wanted |= asked
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
                self._thread.start()
            self._changed.notify()

    def hush(self, queue: str) -> None:
        """Throw away the queue's bells that nobody has heard yet. Takes a second at most; safe from any thread."""
        try:
            with self._app.connection_for_write() as connection:
                Queue(queue, channel=connection.default_channel).purge()
        except Exception as away:
            # Whatever a transport raises: bells that nobody needs do no harm.
            log.warning("bells.kept", queue=queue, error=type(away).__name__)

    def close(self) -> None:
        """Ring what is still wanted and stop. Waits at most two seconds."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=2)

    def _run(self) -> None:
        while True:
            queue = self._next()
            if queue is None:
                return
            self._publish(queue)

    def _next(self) -> str | None:
        with self._changed:
            while True:
                if self._wanted:
                    due_at, queue = min((self._last_rung.get(each, 0.0) + QUIET_SECONDS, each) for each in self._wanted)
                    wait_seconds = due_at - time.monotonic()
                    if wait_seconds <= 0 or self._is_closed:
                        self._wanted.discard(queue)
                        self._last_rung[queue] = time.monotonic()
                        return queue
                    self._changed.wait(wait_seconds)
                elif self._is_closed:
                    return None
                else:
                    self._changed.wait()

    def _publish(self, queue: str) -> None:
        try:
            # No bell expires: that would be judged by the worker's clock against ours, and the clocks of machines differ.
            self._app.send_task(task_name(queue), queue=queue, ignore_result=True)
        except (OperationalError, OSError) as away:
            log.warning("bell.lost", queue=queue, error=type(away).__name__)
            # Leave a dead broker alone for a moment; the beat rings for what is due.
            time.sleep(0.2)
