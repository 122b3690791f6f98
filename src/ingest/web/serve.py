"""Runs the web processes under uvicorn."""

import os

import structlog
import uvicorn

from ingest.logs import configure_logs, log_uncaught
from ingest.parentage import end_with_parent
from ingest.runtime import Runtime
from ingest.settings import Settings, read_settings
from ingest.web.app import WebApp
from ingest.web.http import server_options

log = structlog.get_logger()

STOP_SECONDS = 15
# A process that says nothing for so long is ended and started again. A long answer of one thread is no reason.
HEALTHCHECK_SECONDS = 30


def serve(settings: Settings) -> None:
    """Serve until told to stop. With several web processes, one that dies is started again; one alone is the caller's.

    Raises BadSetting for a spool that cannot be written, and for a database that would forget what it has committed.
    """
    # Here and not only in the web processes: one that refused to start would be started again, for ever.
    runtime = Runtime.from_settings(settings)
    runtime.spool().check()
    look_at_database(runtime)
    # The processes read the settings from the environment; what came from the command line goes there.
    os.environ["INGEST_DATA_DIR"] = str(settings.data_dir)
    os.environ["INGEST_PORT"] = str(settings.port)
    os.environ["INGEST_HOST"] = settings.host
    uvicorn.run(
        "ingest.web.serve:make_app",
        factory=True,
        **server_options(
            host=settings.host,
            port=settings.port,
            lifespan="on",
            workers=settings.web_processes,
            backlog=4096,
            limit_concurrency=4096,
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_worker_healthcheck=HEALTHCHECK_SECONDS,
        ),
    )


def look_at_database(runtime: Runtime) -> None:
    """Raise BadSetting when the database's commits do not last. One that is away is no hindrance: there is the spool."""
    if not runtime.require_durable():
        log.info("database.unchecked")


def make_app() -> WebApp:
    """Return the application of one web process, which ends with the server process that started it, if one did."""
    settings = read_settings()
    if settings.web_processes > 1:
        end_with_parent()
    configure_logs(settings.log_level, settings.log_format, "web")
    log_uncaught()
    return WebApp(Runtime.from_settings(settings, "web"))
