"""`ingest erasure-check`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_record, print_rows
from ingest.domain.needles import Needles, Salts, read_needles
from ingest.domain.refusals import Invalid
from ingest.embedded.places import places
from ingest.errors import BadSetting, Transient
from ingest.jobs.broker_contents import can_be_read, list_contents
from ingest.jobs.celery import make_celery
from ingest.runtime import Runtime
from ingest.settings import Settings
from ingest.store.erasure import KEPT_ON_PURPOSE, Remains, find_remains, list_channel_ids
from ingest.store.erasure_files import find_in_files

EXAMPLE = """ingest erasure-check < values.txt
printf '%s\\n' "$PHONE" "$EMAIL" "$NAME" | ingest erasure-check --file /var/log/ingest --json"""


@click.command("erasure-check", cls=ExampleCommand, example=EXAMPLE)
@click.option(
    "--values",
    type=click.File("r", encoding="utf-8"),
    default="-",
    help="A file with a value a line; standard input by default.",
)
@click.option(
    "--file",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Logs or backups to search as well: a file, one that ends in .gz, or a directory. May be repeated.",
)
@click.option("--no-broker", is_flag=True, help="Leave the broker out, because it is away.")
@as_json_option
def erasure_check(*, values: IO[str], paths: tuple[Path, ...], no_broker: bool, as_json: bool) -> None:
    """Prove that nothing of a person is left: status 1 when anything is found.

    Reads what to look for a value a line: phone, email, name, sender ids, words of messages. Each is looked for in the
    forms that it may have taken on (national, URL-encoded, base64, hashed, ...) in every column of every table, in the
    broker, and in this host's spool, metrics and logs of embedded servers. Prints places, how many rows, and which lines
    were found; never a value. Reads whole tables.
    """
    with opened() as runtime:
        with runtime.begin() as tx:
            needles = _read(values, runtime, list_channel_ids(tx))
            found = find_remains(tx, needles)
        settings = runtime.settings
        found += find_in_files([*_own_directories(settings), *paths], needles)
        is_read, in_broker = (False, []) if no_broker else _search_broker(settings, needles)
    found += in_broker
    kept = [each for each in found if each.place in KEPT_ON_PURPOSE]
    found = [each for each in found if each.place not in KEPT_ON_PURPOSE]
    if as_json:
        print_record({"clean": not found, "broker_searched": is_read, "found": found, "kept": kept}, as_json=True)
    else:
        _print(found, kept, is_read)
    if found:
        sys.exit(1)


def _read(values: IO[str], runtime: Runtime, channel_ids: Sequence[int]) -> Needles:
    try:
        needles = read_needles(values, Salts(runtime.salts, channel_ids))
    except Invalid as unusable:
        raise BadSetting(unusable.message) from unusable
    if not needles:
        raise BadSetting("nothing to look for: give a value a line")
    return needles


def _own_directories(settings: Settings) -> list[Path]:
    logs_of_servers = places(settings.data_dir).logs
    return [each for each in (settings.spool_dir, settings.metrics_dir, logs_of_servers) if each.exists()]


def _search_broker(settings: Settings, needles: Needles) -> tuple[bool, list[Remains]]:
    """Return whether the broker could be looked into, and what was found there."""
    app = make_celery(settings.broker_url, settings.broker_prefix, "publisher")
    if not can_be_read(app):
        return False, []
    found = []
    try:
        for key, content in list_contents(app, settings.broker_prefix):
            if numbers := needles.find(content):
                # A key may itself be what was looked for.
                place = "a key" if needles.find(key.encode()) else key
                found.append(Remains(f"broker {place}", 1, tuple(sorted(numbers))))
    except Exception as away:
        raise Transient("cannot reach the broker: start it, or leave it out with --no-broker") from away
    return True, found


def _print(found: Sequence[Remains], kept: Sequence[Remains], is_broker_read: bool) -> None:
    if found:
        print_rows(found, ("place", "count", "needles"), as_json=False)
    else:
        click.echo("nothing found")
    for each in kept:
        click.echo(f"kept on purpose, as a hash: {each.place}")
    if not is_broker_read:
        click.echo("the broker was not searched", err=True)
