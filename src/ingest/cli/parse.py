"""`ingest parse`."""

import json
from datetime import UTC, datetime
from typing import BinaryIO

import click

from ingest.channels.registry import CODES
from ingest.cli.given import read_pairs, set_option
from ingest.cli.groups import ExampleCommand
from ingest.parse import parse_file


@click.command(
    cls=ExampleCommand,
    example="ingest parse telegram request.http --set secret_token=s3cret\n"
    "ingest parse whatsapp_cloud - --no-verify < request.http",
)
@click.argument("code", type=click.Choice(CODES), metavar="CODE")
@click.argument("file", type=click.File("rb"))
@set_option
@click.option("--no-verify", is_flag=True, help="Skip the signature.")
@click.option(
    "--received-at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z"]),
    help="When the request arrived, for signatures that expire; now by default.",
)
def parse(code: str, file: BinaryIO, pairs: tuple[str, ...], no_verify: bool, received_at: datetime | None) -> None:
    """Show what a captured webhook request means: one JSON object a line for each event in it.

    FILE is a raw HTTP/1.1 request: request line, headers, empty line, body; "-" is standard input. No database is needed.
    """
    at = received_at or datetime.now(UTC)
    settings = {name: values[0] for name, values in read_pairs(pairs).items()}
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    for each in parse_file(code, file.read(), settings, verify=not no_verify, received_at=at):
        click.echo(json.dumps(each, ensure_ascii=False))
