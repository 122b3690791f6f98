"""What a worker claims next, how much of it, and how long it rests in between.

A claim costs some milliseconds, whatever it takes, and whoever writes meanwhile waits for its end.
"""

import time
from dataclasses import dataclass

from ingest.jobs.queues import DELETE, DETECT, REACT, RESOLVE, TRANSFER
from ingest.runtime import Runtime
from ingest.store.jobs import CROWDED_WEIGHT, FRESH_SHARE, Claim, claim_jobs
from ingest.store.messages import last_number

# Rows that one claim takes at most, where it is not the default: timers come by the thousand, and each is one small row.
# A part of a deletion is all that a transaction of bounded size may hold.
CLAIM_ROWS = {REACT: 500, DELETE: 1}
DEFAULT_CLAIM_ROWS = 64
# Under light traffic a worker that claimed without a rest would be busy all the time, with a message or two in each claim.
GATHER_SECONDS = {RESOLVE: 0.03, DETECT: 0.1}
MAX_PAUSE_SECONDS = 2.0
# After so many full claims of what is fresh, one after the other, it is no burst.
LATE_CLAIMS = 5
# So many messages a second are as busy as it gets for those who give way.
BUSY_MESSAGES_PER_SECOND = 50.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a queue rests after a claim, in times of what the claim took: while no messages come, and beside many.

    A batch of an import or a deletion keeps the database's disk and processors busy, which no priority of our own
    processes can change.
    """

    alone: float
    beside: float


PACES = {TRANSFER: Pace(0.2, 19.0), DELETE: Pace(0.0, 50.0)}


@dataclass
class Traffic:
    """How busy the system is, between 0 and 1, by how many messages were stored since the look before."""

    looked_at: float = 0.0
    number: int = 0
    share: float = 0.0

    def look(self, runtime: Runtime) -> float:
        """Return it, and remember this look: `share` is what it saw."""
        with runtime.begin() as tx:
            number = last_number(tx)
        now = time.monotonic()
        per_second = (number - self.number) / max(now - self.looked_at, 0.001) if self.looked_at else 0.0
        self.looked_at, self.number = now, number
        self.share = min(1.0, max(0.0, per_second / BUSY_MESSAGES_PER_SECOND))
        return self.share

    def between(self, alone: float, beside: float) -> float:
        """Return what lies as far between two figures as the last look saw the system busy."""
        return alone + (beside - alone) * self.share


# A process's own: a drain ends after seconds, and the next one goes on with what it knew.
TRAFFIC = Traffic()


class Turns:
    """The claims of one drain.

    While some workspace has a backlog, what came in this moment and a piece of the backlog take turns. A message that
    comes during one waits for its end, so a piece is small, unless what is fresh fills its claims time after time: then all
    is late anyway, and large claims catch up sooner.
    """

    def __init__(self, runtime: Runtime, queue: str) -> None:
        self._runtime, self._queue = runtime, queue
        self._is_fresh = False
        self._full_claims = 0
        self._at_most = CROWDED_WEIGHT if queue == RESOLVE else None

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
            is_full = claim.weight >= settings.batch_events // FRESH_SHARE
            self._full_claims = self._full_claims + 1 if is_full else 0
            self._at_most = None if self._full_claims >= LATE_CLAIMS else CROWDED_WEIGHT
        return claim

    def rest(self, claim: Claim, seconds: float) -> None:
        """Wait, after a claim that took so long to handle, until more has come or others have had their share."""
        if pace := PACES.get(self._queue):
            TRAFFIC.look(self._runtime)
            time.sleep(min(MAX_PAUSE_SECONDS, seconds * TRAFFIC.between(pace.alone, pace.beside)))
        elif not claim.is_crowded and claim.weight < self._runtime.settings.batch_events // 2:
            time.sleep(GATHER_SECONDS.get(self._queue, 0.0))
