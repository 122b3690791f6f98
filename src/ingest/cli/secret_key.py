"""`ingest secret-key`."""

import click
from cryptography.fernet import Fernet

from ingest.cli.groups import ExampleCommand


@click.command(
    "secret-key",
    cls=ExampleCommand,
    example='export INGEST_SECRET_KEY="$(ingest secret-key)"\nexport INGEST_SECRET_KEY="$(ingest secret-key),$OLD_KEY"',
)
def secret_key() -> None:
    """Make a key for INGEST_SECRET_KEY, which seals the channels' secrets. Keep it: nothing opens them without it."""
    click.echo(Fernet.generate_key().decode())
