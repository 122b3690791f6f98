"""`ingest queues`."""

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_rows
from ingest.store.views.queues import queue_figures

COLUMNS = ("queue", "waiting", "oldest_age_seconds", "leased", "retried", "dead")


@click.command(cls=ExampleCommand, example="ingest queues\ningest queues --json")
@as_json_option
def queues(as_json: bool) -> None:
    """Show what waits in each queue, how long already, what is being worked on, retried and dead."""
    with opened() as runtime, runtime.begin() as tx:
        print_rows(queue_figures(tx), COLUMNS, as_json)
