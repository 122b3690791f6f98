"""The command line, `ingest`: one module a group of commands, each imported when it runs.

Data goes to standard output, as JSON with `--json`; errors go to standard error with status 1, wrong usage with 2.
"""

import sys
from typing import NoReturn

import click

from ingest.cli.groups import LazyGroup
from ingest.errors import IngestError

# PostgreSQL's code for a statement about a table that does not exist.
UNDEFINED_TABLE = "42P01"

COMMANDS = {
    "up": ("up", "up", "Run everything on this machine, with its own PostgreSQL and Valkey if need be."),
    "migrate": ("migrate", "migrate_command", "Bring the database to the newest schema."),
    "web": ("web", "web", "Run the web process: webhooks, API, metrics."),
    "worker": ("processes", "worker", "Run a worker for one or more queues."),
    "beat": ("processes", "beat", "Run the scheduler, which rings for work that is due."),
    "lmtp": ("processes", "lmtp", "Take in mail from a mail server over LMTP."),
    "secret-key": ("secret_key", "secret_key", "Make a key for INGEST_SECRET_KEY."),
    "reseal": ("secret_key", "reseal", "Seal all secrets with the newest key."),
    "workspace": ("workspaces", "workspace", "Create and list workspaces."),
    "token": ("workspaces", "token", "Create, list and revoke API tokens."),
    "channel": ("channels", "channel", "Add, list and change channels."),
    "app": ("channels", "app", "Add provider applications that serve many channels."),
    "parse": ("parse", "parse", "Show what a captured webhook request means."),
    "simulate": ("simulate", "simulate", "Send signed traffic as providers do."),
    "queues": ("queues", "queues", "Show what waits in each queue."),
    "dead-letters": ("dead_letters", "dead_letters", "Show, replay and discard jobs that were given up on."),
    "erasure-check": ("erasure", "erasure_check", "Prove that nothing of a person is left anywhere."),
    "check": ("check", "check", "Prove that everything accepted is accounted for and nothing is orphaned."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    example="ingest up --demo\ningest queues\ningest simulate --rate 100 --seconds 10",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="ingest")
def cli() -> None:
    """Takes in customer messages from many channels, and loses none.

    Settings come from the environment: DATABASE_URL, BROKER_URL, INGEST_SECRET_KEY, INGEST_PUBLIC_URL and others, see
    docs/operations.md. Without the first two the embedded servers under INGEST_DATA_DIR are meant.
    """


def main() -> None:
    """Run the command line and exit: 0, 1 for an error that is told on standard error, 2 for wrong usage."""
    try:
        cli(prog_name="ingest")
    except IngestError as failed:
        _fail(str(failed))
    except Exception as failed:
        told = _database_trouble(failed)
        _fail(told if told is not None else _unforeseen(failed))


def _database_trouble(failed: Exception) -> str | None:
    """Return what to do about a database that is away or empty, None for any other error."""
    if not type(failed).__module__.startswith("sqlalchemy"):
        return None
    if getattr(getattr(failed, "orig", None), "sqlstate", None) == UNDEFINED_TABLE:
        return "the database has no tables yet: run `ingest migrate`"
    if type(failed).__name__ == "OperationalError":
        return "cannot reach the database: start it with `ingest up`, or set DATABASE_URL to one that is running"
    return None


def _unforeseen(failed: Exception) -> str:
    """Return where an error of ours came from. Its text is left out: it may quote somebody's message."""
    # Help must not wait for the libraries behind it.
    from ingest.logs import describe  # noqa: PLC0415

    return "\n".join(["this should not have happened, please report it:", *describe(failed)])


def _fail(told: str) -> NoReturn:
    click.echo(f"ingest: {told}", err=True)
    sys.exit(1)
