"""What a worker claims next, how much of it, and how long it rests in between.

A claim costs some milliseconds, whatever it takes, and whoever writes meanwhile waits for its end.
"""

import time
from dataclasses import dataclass

from ingest.jobs.queues import DELETE, DETECT, REACT, RESOLVE, TRANSFER
from ingest.runtime import Runtime
from ingest.store.jobs import CROWDED_WEIGHT, Claim, claim_jobs, has_jobs

# Rows that one claim takes at most, where it is not the default: timers come by the thousand, and each is one small row.
# A part of a deletion is all that a transaction of bounded size may hold.
CLAIM_ROWS = {REACT: 500, DELETE: 1}
DEFAULT_CLAIM_ROWS = 64
# Under light traffic a worker that claimed without a rest would be busy all the time, with a message or two in each claim.
GATHER_SECONDS = {RESOLVE: 0.03, DETECT: 0.1}
MAX_PAUSE_SECONDS = 2.0
# Messages that were seen coming are thought to come for so long.
MEMORY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a queue rests after a claim, in times of what the claim took: while no messages come, and beside them.

    A batch of an import or a deletion keeps the database's disk and processors busy, which no priority of our own
    processes can change.
    """

    alone: float
    beside: float


PACES = {TRANSFER: Pace(0.2, 6.0), DELETE: Pace(0.0, 3.0)}


class Turns:
    """The claims of one drain.

    While some workspace has a backlog, what came in this moment and a piece of the backlog take turns. A message that
    comes during one waits for its end, so a piece is small, unless what is fresh fills half a batch by itself: then all is
    late anyway, and large claims catch up sooner.
    """

    def __init__(self, runtime: Runtime, queue: str) -> None:
        self._runtime, self._queue = runtime, queue
        self._is_fresh = False
        self._at_most: int | None = None
        self._busy_until = 0.0

    def claim(self) -> Claim:
        """Claim what is due."""
        settings = self._runtime.settings
        if self._queue == RESOLVE:
            self._is_fresh = not self._is_fresh
        with self._runtime.begin() as tx:
            claim = claim_jobs(
                tx,
                self._queue,
                settings.batch_events,
                settings.lease_seconds,
                CLAIM_ROWS.get(self._queue, DEFAULT_CLAIM_ROWS),
                fresh=self._is_fresh,
                at_most=self._at_most,
            )
        if self._is_fresh:
            is_room = claim.weight < settings.batch_events // 2
            self._at_most = CROWDED_WEIGHT if claim.is_crowded and is_room else None
        return claim

    def rest(self, claim: Claim, seconds: float) -> None:
        """Wait, after a claim that took so long to handle, until more has come or others have had their share."""
        if pace := PACES.get(self._queue):
            time.sleep(min(MAX_PAUSE_SECONDS, seconds * (pace.beside if self._is_busy() else pace.alone)))
        elif not claim.is_crowded and claim.weight < self._runtime.settings.batch_events // 2:
            time.sleep(GATHER_SECONDS.get(self._queue, 0.0))

    def _is_busy(self) -> bool:
        """Return whether messages are coming in."""
        if time.monotonic() > self._busy_until:
            with self._runtime.begin() as tx:
                if not has_jobs(tx, RESOLVE):
                    return False
            self._busy_until = time.monotonic() + MEMORY_SECONDS
        return True
