"""`ingest worker`, `ingest beat` and `ingest lmtp`: what the Procfile starts, beside the web process."""

import os
import socket
from importlib import import_module

import click

from ingest.cli.groups import ExampleCommand
from ingest.jobs.queues import QUEUES
from ingest.logs import configure_logs, log_uncaught
from ingest.settings import Settings, read_settings


@click.command(cls=ExampleCommand, example="ingest worker resolve\ningest worker detect react")
@click.argument("queues", nargs=-1, required=True, type=click.Choice(QUEUES), metavar="QUEUE...")
def worker(queues: tuple[str, ...]) -> None:
    """Run a worker for one or more queues: resolve, detect, react, merge, delete, transfer, send, notify, upkeep."""
    started("worker")
    # By name, because the package below the workers never imports them.
    import_module("workers.serve").worker(list(queues))


@click.command(cls=ExampleCommand, example="ingest beat")
def beat() -> None:
    """Run the scheduler, which rings for work that is due. A second one does no harm."""
    started("beat")
    import_module("workers.serve").beat()


@click.command(cls=ExampleCommand, example="INGEST_LMTP_PORT=8024 ingest lmtp")
def lmtp() -> None:
    """Take in mail from a mail server over LMTP, on INGEST_LMTP_HOST and INGEST_LMTP_PORT."""
    settings = started("lmtp")
    import_module("ingest.web.lmtp").serve(settings)


def started(process: str) -> Settings:
    """Return the settings, with logs and metrics set up for a process of this name."""
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format, process)
    log_uncaught()
    settings.metrics_dir.mkdir(parents=True, exist_ok=True)
    # The metrics library looks for this when it is first imported, and then counts where every process can add up.
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(settings.metrics_dir.absolute()))
    # A process id is no name where containers share the directory: each of them counts its own from 1.
    values = import_module("prometheus_client.values")
    vars(values)["ValueClass"] = values.MultiProcessValue(_process_name)
    return settings


class _Name:
    """This process's name, made anew after a fork. It is asked for at every count."""

    text = ""


def _renew_name() -> None:
    _Name.text = f"{socket.gethostname()}-{os.getpid()}"


def _process_name() -> str:
    return _Name.text


_renew_name()
os.register_at_fork(after_in_child=_renew_name)
