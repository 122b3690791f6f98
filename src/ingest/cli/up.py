"""`ingest up`."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Event
from urllib.error import URLError
from urllib.request import urlopen

import click
from kombu import Connection
from kombu.exceptions import OperationalError

from ingest.cli.demo import Demo, describe_demo, ensure_demo
from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.ports import require_free_port
from ingest.embedded.places import places
from ingest.embedded.servers import EmbeddedServers
from ingest.errors import IngestError
from ingest.runtime import Runtime
from ingest.settings import Settings, ensure_secret_key, read_settings
from ingest.store.administration import holds_secrets
from ingest.store.migrate import migrate
from ingest.supervise import POLL_SECONDS, ProcessLine, Supervisor, find_procfile, read_procfile, stop_signals

READY_SECONDS = 120.0


@click.command(
    cls=ExampleCommand,
    example="ingest up --demo\ningest up --data /srv/ingest --port 9000\ningest up --only web,worker_resolve",
)
@click.option("--demo", is_flag=True, help="With a demo workspace and live simulated traffic.")
@click.option("--demo-rate", type=float, default=2.0, show_default=True, help="The demo's messages a second.")
@click.option("--data", "data_dir", type=click.Path(file_okay=False, path_type=Path), help="INGEST_DATA_DIR.")
@click.option("--port", type=click.IntRange(1, 65535), help="INGEST_PORT.")
@click.option("--only", default="", help="Only these processes of the Procfile, comma-separated.")
def up(demo: bool, demo_rate: float, data_dir: Path | None, port: int | None, only: str) -> None:
    """Run everything on this machine until Ctrl-C: servers, migration, web, workers, scheduler.

    PostgreSQL and Valkey come along unless DATABASE_URL and BROKER_URL say otherwise. Started again, it goes on with the
    same data. A process that dies is started again.
    """
    settings = read_settings(data_dir=(data_dir or read_settings().data_dir).absolute(), port=port)
    lines = read_procfile(find_procfile(), [each for each in only.split(",") if each])
    require_free_port(settings.host, settings.port)
    with stop_signals() as asked:
        servers = EmbeddedServers(
            settings.data_dir,
            with_postgres=settings.embeds_database,
            with_valkey=settings.embeds_broker,
            user=settings.embedded_user,
        )
        click.echo(_starting(settings))
        with servers, _told_to_others(settings), opened(settings) as runtime:
            _run(runtime, lines, demo_rate if demo else None, asked)


def _run(runtime: Runtime, lines: list[ProcessLine], demo_rate: float | None, asked: Event) -> None:
    settings = runtime.settings
    migrate(runtime.engine)
    ensure_secret_key(settings, lambda: _is_in_use(runtime))
    supervisor = Supervisor(_environment(settings))
    try:
        supervisor.start(lines)
        _wait_ready(settings, lines, supervisor, asked)
        if demo_rate is not None and not asked.is_set():
            demo = ensure_demo(runtime)
            supervisor.start([_traffic(demo, demo_rate)])
            click.echo(describe_demo(runtime, demo))
        if not asked.is_set() and not settings.embeds_broker and not is_answering(settings.broker_url):
            click.echo("The broker of BROKER_URL does not answer: messages are kept, and worked off once it does")
        if not asked.is_set():
            click.echo(f"Ready at {settings.public_url} - stop with Ctrl-C")
        # The database's sessions are the processes'; ours would only keep a connection.
        runtime.engine.dispose()
        while not asked.wait(POLL_SECONDS):
            supervisor.tend()
        click.echo("Stopping: processes first, then the servers")
        asked.clear()
        supervisor.stop(give_up=asked)
        click.echo(f"Stopped; data in {settings.data_dir}")
    finally:
        supervisor.kill()


def _is_in_use(runtime: Runtime) -> bool:
    with runtime.begin() as tx:
        return holds_secrets(tx)


@contextmanager
def _told_to_others(settings: Settings) -> Iterator[None]:
    """Leave the URL in the data directory for as long as the block lasts, where the other commands find it."""
    kept = places(settings.data_dir).public_url
    kept.write_text(settings.public_url, encoding="utf-8")
    try:
        yield
    finally:
        kept.unlink(missing_ok=True)


def is_answering(broker_url: str) -> bool:
    """Return whether the broker can be reached now."""
    try:
        with Connection(broker_url, connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
    except (OperationalError, OSError):
        return False
    return True


def _starting(settings: Settings) -> str:
    own = [
        name
        for name, embedded in (("PostgreSQL", settings.embeds_database), ("Valkey", settings.embeds_broker))
        if embedded
    ]
    return f"Starting {', '.join([*own, 'migration', 'processes'])}; data in {settings.data_dir}"


def _environment(settings: Settings) -> dict[str, str]:
    """Return what the processes need to find the same system. The secret key stays in its file, or where it came from."""
    return {
        "DATABASE_URL": settings.database_url,
        "BROKER_URL": settings.broker_url,
        "INGEST_DATA_DIR": str(settings.data_dir),
        "INGEST_SPOOL_DIR": str(settings.spool_dir),
        "INGEST_METRICS_DIR": str(settings.metrics_dir),
        "INGEST_PUBLIC_URL": settings.public_url,
        "INGEST_HOST": settings.host,
        "INGEST_PORT": str(settings.port),
        "INGEST_LOG_FORMAT": "console" if sys.stdout.isatty() else settings.log_format,
        # What was printed to try out would scroll away below a line for every message.
        "INGEST_LOG_LEVEL": os.environ.get("INGEST_LOG_LEVEL") or "warning",
    }


def _wait_ready(settings: Settings, lines: list[ProcessLine], supervisor: Supervisor, asked: Event) -> None:
    """Return when the web process answers that it is ready, or is not among the processes."""
    if not any(each.name == "web" for each in lines):
        return
    deadline = time.monotonic() + READY_SECONDS
    while not asked.wait(POLL_SECONDS) and not _is_ready(settings):
        supervisor.tend()
        if time.monotonic() > deadline:
            raise IngestError(f"the web process was not ready within {READY_SECONDS:.0f} s; its lines above say why")


def _is_ready(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    try:
        with urlopen(f"http://{host}:{settings.port}/readyz", timeout=2) as answer:
            return int(answer.status) == 200
    except (URLError, HTTPException, OSError):
        return False


def _traffic(demo: Demo, rate: float) -> ProcessLine:
    command = (
        "ingest",
        "simulate",
        "--workspace",
        str(demo.workspace_id),
        "--rate",
        f"{rate:g}",
        "--duplicates",
        "0.02",
    )
    return ProcessLine("traffic", (*command, "--connections", "4"))
