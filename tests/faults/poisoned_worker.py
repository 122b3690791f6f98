"""A worker of the queue `resolve` for which some messages are poison: `python -m tests.faults.poisoned_worker resolve`.

A message with one of the words of `POISONS` in its text does to the process what the word says, within the batch that holds
it. Time limits are shorter than in production, so that a test need not wait for minutes.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from ingest.jobs import celery
from ingest.runtime import Runtime
from ingest.store.jobs import ClaimedJob
from ingest.store.unit_of_work import UnitOfWork
from workers import watchdog
from workers.handlers import HANDLERS, Handler
from workers.serve import load_handlers, worker

HARD_LIMIT_SECONDS = 8
STUCK_SECONDS = 10.0
HOARD_BYTES = 1024**3


def spin() -> None:
    """Never come to an end."""
    while True:
        pass


def hoard() -> None:
    """Take more memory than the process may have."""
    kept = [b"x" * 1024**2 for _ in range(HOARD_BYTES // 1024**2)]
    time.sleep(len(kept))


POISONS: Mapping[bytes, Callable[[], object]] = {
    b"poison-raises": lambda: {}["poison"],
    b"poison-kills": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"poison-sleeps": lambda: time.sleep(600),
    b"poison-spins": spin,
    b"poison-hoards": hoard,
    b"slow-batch": lambda: time.sleep(1.5),
}


def poisoned(handler: Handler) -> Handler:
    """Return the handler, but for what poison does to it."""

    def run(runtime: Runtime, uow: UnitOfWork, rows: Sequence[ClaimedJob]) -> None:
        # First the work, so that the poison strikes in the open transaction.
        handler.run(runtime, uow, rows)
        for word, strike in POISONS.items():
            if any(word in (row.body or b"") for row in rows):
                strike()

    return Handler(run, handler.split)


if __name__ == "__main__":
    queues = sys.argv[1:]
    load_handlers(queues)
    HANDLERS.update({key: poisoned(handler) for key, handler in HANDLERS.items()})
    if "POISONED_LIMITS" in os.environ:
        celery.PINNED["task_time_limit"] = HARD_LIMIT_SECONDS
        watchdog.STUCK_SECONDS = STUCK_SECONDS
    worker(queues)
