"""`ingest migrate`."""

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.store.migrate import migrate


@click.command("migrate", cls=ExampleCommand, example="ingest migrate")
def migrate_command() -> None:
    """Bring the database to the newest schema and print what was applied.

    Safe to repeat, and to run from several places at once.
    """
    with opened() as runtime:
        for applied in migrate(runtime.engine):
            click.echo(applied)
