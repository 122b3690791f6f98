"""Periodic work: the bell for what is due, and the chores of upkeep. Every tick may be lost, late or doubled, harmlessly."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from celery import Celery
from celery.schedules import crontab
from sqlalchemy.exc import SQLAlchemyError

from ingest.pipeline import upkeep
from ingest.pipeline.auto_merge import add_auto_merges
from ingest.pipeline.resume import resume_acts
from ingest.pipeline.transfer_trim import trim_expired
from ingest.runtime import Runtime
from ingest.settings import Settings
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.upkeep import try_chore_lock
from workers.bells import Bell

log = structlog.get_logger()

# How often the beat has the queues looked at.
TICK_SECONDS = 1.0
# A time of day comes once in a minute.
MINUTE_SECONDS = 60.0


@dataclass
class Pace:
    """Makes one tick of many that come at once: of the beat's while nobody took them, or of several beats.

    Goes by this process's own time, never by the tick's: the clocks of two machines differ.
    """

    clock: Callable[[], float] = time.monotonic
    _last: dict[str, float] = field(default_factory=dict)

    def is_due(self, name: str, period_seconds: float) -> bool:
        """Return whether the last tick of that name that was taken here is more than half a period ago; then take this."""
        now = self.clock()
        if now - self._last.get(name, float("-inf")) < period_seconds / 2:
            return False
        self._last[name] = now
        return True


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that is done every so often, by one worker at a time. `schedule` is in seconds or a time of day (UTC)."""

    schedule: float | crontab
    run: Callable[[UnitOfWork, Settings], object]


def _plain(run: Callable[[UnitOfWork], object]) -> Callable[[UnitOfWork, Settings], object]:
    """Return a chore that needs no settings in the form that all have."""
    return lambda uow, _settings: run(uow)


CHORES: dict[str, Chore] = {
    "compact_tallies": Chore(30, _plain(upkeep.compact_tallies)),
    "expire_effects": Chore(60, _plain(upkeep.expire_effects)),
    "trim_history": Chore(600, _plain(upkeep.trim_history)),
    "trim_expired": Chore(600, _plain(trim_expired)),
    "trim_dead_letters": Chore(600, lambda uow, settings: upkeep.trim_dead_letters(uow, settings.dead_letter_days)),
    "resume_acts": Chore(60, _plain(resume_acts)),
    "auto_merge": Chore(60, _plain(add_auto_merges)),
    "sweep_duplicates": Chore(crontab(hour=3, minute=20), _plain(upkeep.sweep_duplicates)),
}


class HasRuntime(Protocol):
    """Whoever holds the process's runtime."""

    @property
    def runtime(self) -> Runtime: ...


def register(app: Celery, process: HasRuntime) -> None:
    """Register the beat's two tasks."""

    pace = Pace()

    def ring(*_args: Any) -> None:
        if pace.is_due("ring", TICK_SECONDS):
            ring_due(process.runtime)

    def chore(name: str) -> None:
        schedule = CHORES[name].schedule
        if pace.is_due(name, schedule if isinstance(schedule, float | int) else MINUTE_SECONDS):
            do_chore(process.runtime, name)

    app.task(name="ingest.ring", ignore_result=True, base=Bell)(ring)
    app.task(name="ingest.chore", ignore_result=True, base=Bell)(chore)


def ring_due(runtime: Runtime) -> list[str]:
    """Ring for each queue that has due jobs nobody holds: their own bells were lost, or have not been rung yet.

    For what becomes due before the next tick the bell rings at its time. Returns the queues that were rung for at once.
    """
    try:
        with runtime.begin() as tx:
            coming = upkeep.list_queues_to_ring(tx, TICK_SECONDS)
    except SQLAlchemyError as away:
        log.warning("ring.waited", error=type(away).__name__)
        return []
    for queue, seconds in coming.items():
        if seconds > 0:
            timer = threading.Timer(seconds, runtime.publisher.ring, [[queue]])
            timer.daemon = True
            timer.start()
    queues = [queue for queue, seconds in coming.items() if seconds <= 0]
    if queues:
        runtime.publisher.ring(queues)
    return queues


def do_chore(runtime: Runtime, name: str) -> bool:
    """Do one chore unless somebody else is doing it; return whether it was done. A failure waits for the next tick."""
    try:
        with runtime.unit_of_work() as uow:
            if not try_chore_lock(uow.tx, name):
                return False
            CHORES[name].run(uow, runtime.settings)
    except SQLAlchemyError as failure:
        log.warning("chore.failed", chore=name, error=type(failure).__name__)
        return False
    log.debug("chore.done", chore=name)
    return True
