"""What kind of failure it was: of the moment or of the data; and for how long to wait for what is in the way."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ingest.errors import Transient
from ingest.store.jobs import ClaimedJob

MAX_BACKOFF_SECONDS = 30.0
# A row that somebody holds for longer than a lock's time-out: who needs it asks again now and then, without waiting.
HELD_WAIT_MILLISECONDS = 50
# Whoever waits for that row holds those of its batch's other contacts, and so keeps other workers waiting in their turn. Once
# a lock's whole time-out has passed, batches wait for this long only, for a while; their pieces for longer than that.
IMPATIENT_WAIT_MILLISECONDS = 100
PIECE_WAIT_MILLISECONDS = 150
IMPATIENT_SECONDS = 10.0
# A fault of the moment, not of the data: serialisation, deadlock, lock and statement time-outs, servers coming and going.
TRANSIENT_ERRORS = (
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.LockNotAvailable,
    pg.QueryCanceled,
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.TooManyConnections,
    pg.ReadOnlySqlTransaction,
    pg.DiskFull,
    pg.IdleInTransactionSessionTimeout,
)


@dataclass
class Patience:
    """Whether this process waits for locks as long as it may: not for a while after that was in vain."""

    lost_at: float = float("-inf")

    @property
    def is_lost(self) -> bool:
        """Whether somebody held a row for longer than a lock's time-out a moment ago."""
        return time.monotonic() - self.lost_at < IMPATIENT_SECONDS


PATIENCE = Patience()


def is_transient(failure: BaseException) -> bool:
    """Return whether the same work may succeed later: the fault is outside of it."""
    if isinstance(failure, Transient | PoolTimeout):
        return True
    if isinstance(failure, DBAPIError):
        lost = failure.connection_invalidated or isinstance(failure, InterfaceError)
        return lost or isinstance(failure.orig, TRANSIENT_ERRORS) or _is_lost_connection(failure)
    return False


def is_held(failure: BaseException) -> bool:
    """Return whether somebody held a lock for longer than its time-out."""
    return isinstance(failure, DBAPIError) and isinstance(failure.orig, pg.LockNotAvailable)


def lock_wait_of(jobs: Sequence[ClaimedJob], is_piece: bool) -> int | None:
    """Return for how many milliseconds these jobs may wait for a lock, None for as long as any may."""
    if _was_held(jobs):
        return HELD_WAIT_MILLISECONDS
    if is_piece:
        return PIECE_WAIT_MILLISECONDS
    return IMPATIENT_WAIT_MILLISECONDS if PATIENCE.is_lost else None


def _was_held(jobs: Sequence[ClaimedJob]) -> bool:
    """Return whether these are a job alone that needed a row somebody held."""
    return len(jobs) == 1 and jobs[0].is_solo and jobs[0].last_error == pg.LockNotAvailable.__name__


def _is_lost_connection(failure: DBAPIError) -> bool:
    return isinstance(failure, OperationalError) and getattr(failure.orig, "sqlstate", None) in {None, "08006", "08003"}


def backoff_seconds(attempts: int) -> float:
    """Return how long to wait after so many attempts: more after each, and never the same for all."""
    return random.uniform(0, min(MAX_BACKOFF_SECONDS, 0.25 * 2.0 ** min(attempts, 10)))


def reason_of(failure: Exception) -> str:
    """Return what failed, without data: a constraint's name at most, never a value."""
    original = getattr(failure, "orig", None)
    constraint = getattr(getattr(original, "diag", None), "constraint_name", None)
    name = type(original or failure).__name__
    return f"{name}: {constraint}" if constraint else name
