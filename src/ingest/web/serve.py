"""Runs the web processes under granian."""

import os

from granian.constants import Interfaces, Loops
from granian.server import Server

from ingest.logs import configure_logs
from ingest.parentage import end_with_parent
from ingest.runtime import Runtime
from ingest.settings import Settings, read_settings
from ingest.web.app import WebApp


def serve(settings: Settings) -> None:
    """Serve until told to stop. A web process that dies is started again."""
    # The processes read the settings from the environment; what came from the command line goes there.
    os.environ["INGEST_DATA_DIR"] = str(settings.data_dir)
    os.environ["INGEST_PORT"] = str(settings.port)
    os.environ["INGEST_HOST"] = settings.host
    Server(
        "ingest.web.serve:make_app",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        loop=Loops.asyncio,
        workers=settings.web_processes,
        respawn_failed_workers=True,
        workers_kill_timeout=15,
        backlog=4096,
        backpressure=4096,
        log_access=False,
        websockets=False,
    ).serve()


def make_app() -> WebApp:
    """Return the application of one web process, which ends with the server process that started it."""
    end_with_parent()
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format, "web")
    return WebApp(Runtime.from_settings(settings, "web"))
