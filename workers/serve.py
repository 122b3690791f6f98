"""Runs a worker or the beat, as the Procfile's lines say."""

import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from pkgutil import iter_modules

import structlog
from billiard import pool
from celery import Celery
from celery.bin.celery import celery
from celery.exceptions import SecurityWarning

import workers
from ingest.errors import BadSetting
from ingest.jobs.celery import require_sound_broker
from ingest.jobs.queues import BULK_QUEUES, QUEUES
from ingest.runtime import Runtime
from ingest.settings import Settings, read_settings
from workers.app import WorkerProcess, make_worker
from workers.watchdog import Watchdog

log = structlog.get_logger()

BULK_NICENESS = 10
LAST_RESULT_SECONDS = 2.0


def load_handlers(queues: Iterable[str]) -> None:
    """Import the queues' modules, so that their handlers are registered. A queue without one has no jobs yet."""
    for module in iter_modules(workers.__path__):
        if module.name in set(queues):
            import_module(f"workers.{module.name}")


def worker(queues: Sequence[str]) -> None:
    """Work off the queues until told to stop and exit with Celery's code. Raises BadSetting for a queue there is none of."""
    unknown = [queue for queue in queues if queue not in QUEUES]
    if unknown or not queues:
        raise BadSetting(f"no queue {', '.join(unknown) or 'given'}: use {', '.join(QUEUES)}")
    load_handlers(queues)
    if BULK_QUEUES.issuperset(queues):
        os.nice(BULK_NICENESS)
    settings = read_settings()
    look_at_broker(settings)
    look_at_database(settings)
    end_promptly()
    process = WorkerProcess(settings, f"worker-{queues[0]}")
    app = make_worker(process)
    Watchdog(Runtime.from_settings(settings, "watchdog"), list(queues), process.progress).start()
    arguments = [
        "--quiet",
        "worker",
        "--queues", ",".join(queues),
        "--hostname", f"{'-'.join(queues)}@%h",
        "--concurrency", str(settings.worker_processes),
        "--pool", "prefork",
        "--loglevel", settings.log_level,
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip
    # Celery warns root of pickled messages; here only JSON is accepted.
    warnings.simplefilter("ignore", SecurityWarning)
    sys.exit(_run(app, arguments))


def end_promptly() -> None:
    """Have pool children not wait long, at their end, for their parent to read their last result.

    A parent that ends itself sometimes no longer does, and half a minute would pass. Nobody wants the results here, and a
    bell that was not acknowledged rings again.
    """
    retries = int(LAST_RESULT_SECONDS / pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL)
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = retries


def _run(app: Celery, arguments: list[str]) -> int:
    """Run Celery's command and return its exit code, which `Celery.worker_main` forgets.

    A worker that gave up, because its broker refuses writes for example, would look as if it had been told to stop, and
    whoever restarts on failure only would leave it so.
    """
    celery.params[0].default = app
    return int(celery.main(args=arguments, standalone_mode=False) or 0)


def beat() -> None:
    """Tick until told to stop. The schedule is kept in memory: a missed tick is made up by the next one."""
    settings = read_settings()
    look_at_broker(settings)
    app = make_worker(WorkerProcess(settings, "beat"))
    level = settings.log_level.upper()
    app.Beat(scheduler="celery.beat:Scheduler", max_interval=1, loglevel=level, quiet=True).run()


def look_at_database(settings: Settings) -> None:
    """Raise BadSetting when the database's commits do not last: a job that is done would be deleted and its effect lost."""
    if not Runtime.from_settings(settings).require_durable():
        log.info("database.unchecked")


def look_at_broker(settings: Settings) -> None:
    """Raise BadSetting when the broker would lose queues. One that is away is waited for."""
    if (state := require_sound_broker(settings.broker_url)) != "sound":
        log.info("broker.unchecked", state=state)
