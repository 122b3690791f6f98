"""`ingest secret-key` and `ingest reseal`: the keys that seal the channels' secrets."""

import click
from cryptography.fernet import Fernet

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_record
from ingest.pipeline.administer import reseal_secrets


@click.command(
    "secret-key",
    cls=ExampleCommand,
    example='export INGEST_SECRET_KEY="$(ingest secret-key)"\nexport INGEST_SECRET_KEY="$(ingest secret-key),$OLD_KEY"',
)
def secret_key() -> None:
    """Make a key for INGEST_SECRET_KEY, which seals the channels' secrets. Keep it: nothing opens them without it."""
    click.echo(Fernet.generate_key().decode())


@click.command("reseal", cls=ExampleCommand, example="ingest reseal --json")
@as_json_option
def reseal(as_json: bool) -> None:
    """Seal all secrets of channels and apps with the first key of INGEST_SECRET_KEY. Safe to repeat.

    Afterwards the other keys open nothing any more, and can be taken out.
    """
    with opened() as runtime, runtime.begin() as tx:
        count = reseal_secrets(tx, runtime.sealer)
    print_record({"resealed": count, "key_id": runtime.sealer.key_id}, as_json)
