"""The Celery application: one task a queue, which drains it."""

import os
import sys
import time
from multiprocessing import Value
from typing import Any, cast

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown
from sqlalchemy.exc import SQLAlchemyError

from ingest import fault
from ingest.jobs.celery import make_celery, require_pinned
from ingest.jobs.queues import QUEUES, UPKEEP, task_name
from ingest.logs import configure_logs
from ingest.runtime import Runtime
from ingest.settings import Settings
from workers import chores
from workers.bells import Bell
from workers.handling import drain
from workers.watchdog import Progress

log = structlog.get_logger()

AWAY_SECONDS = 0.5


class WorkerProcess:
    """What a worker's processes hold: settings from the parent, and a runtime of each process's own."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.settings = settings
        self.role = role
        # A shared double: the pool child writes it, the parent's watchdog reads it.
        self.progress: Progress = cast(Progress, Value("d", 0.0))
        self._runtime: Runtime | None = None
        self._pid = 0

    @property
    def runtime(self) -> Runtime:
        """The process's runtime: never one inherited through a fork."""
        if self._runtime is None or self._pid != os.getpid():
            self._runtime = Runtime.from_settings(self.settings, self.role)
            self._pid = os.getpid()
        return self._runtime

    def close(self) -> None:
        """Close the process's connections."""
        if self._runtime is not None and self._pid == os.getpid():
            self._runtime.engine.dispose()


def make_worker(process: WorkerProcess) -> Celery:
    """Return the Celery application with the tasks of all queues. Raises BadSetting where a pinned setting differs."""
    app = make_celery(process.settings.broker_url, process.settings.broker_prefix, "worker")
    app.set_default()
    for queue in QUEUES:
        _register_drain(app, process, queue)
    chores.register(app, process)
    # No tick expires: that would be judged by the worker's clock against the beat's, and the clocks of two machines differ.
    app.conf.beat_schedule = {
        "ring": {"task": "ingest.ring", "schedule": chores.TICK_SECONDS, "options": {"queue": UPKEEP}},
        **{
            f"chore.{name}": {
                "task": "ingest.chore",
                "schedule": chore.schedule,
                "args": [name],
                "options": {"queue": UPKEEP},
            }
            for name, chore in chores.CHORES.items()
        },
    }
    setup_logging.connect(
        lambda **_: configure_logs(process.settings.log_level, process.settings.log_format, process.role), weak=False
    )
    worker_process_init.connect(lambda **_: sys.stdout.flush(), weak=False)
    worker_process_shutdown.connect(lambda **_: process.close(), weak=False)
    require_pinned(app)
    return app


def _register_drain(app: Celery, process: WorkerProcess, queue: str) -> None:
    def run(*_args: Any) -> None:
        fault.point("woken")
        try:
            drain(process.runtime, queue, lambda: mark(process.progress))
        except SQLAlchemyError as away:
            # Nothing is lost: leases end, and the beat rings again. The pause keeps a dead database from being hammered.
            log.warning("queue.waited", queue=queue, error=type(away).__name__)
            time.sleep(AWAY_SECONDS)

    app.task(name=task_name(queue), ignore_result=True, base=Bell)(run)


def mark(progress: Progress) -> None:
    """Note that something was finished just now."""
    progress.value = time.monotonic()
