"""`ingest dead-letters`."""

import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from ingest.cli.groups import ExampleCommand, ExampleGroup
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_record, print_rows
from ingest.errors import BadSetting
from ingest.requests import write_request
from ingest.store.dead_letters import (
    DeadLetter,
    discard_dead_letters,
    get_dead_letter,
    list_dead_letters,
    replay_dead_letters,
)
from ingest.store.intake import RawRequest, decode_requests
from ingest.store.unit_of_work import Transaction

COLUMNS = ("id", "workspace_id", "queue", "name", "reason", "attempts", "created_at")
PAGE = 1000

ids_argument = click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
reason_option = click.option("--reason", help="Only those whose reason begins so.")
workspace_option = click.option("--workspace", "workspace_id", type=int, help="Only this workspace's.")
all_option = click.option("--all", "everything", is_flag=True, help="All open ones that the options choose.")


@click.group("dead-letters", cls=ExampleGroup, example="ingest dead-letters list\ningest dead-letters replay --all")
def dead_letters() -> None:
    """Show, replay and discard jobs that were given up on."""


@dead_letters.command("list", cls=ExampleCommand, example='ingest dead-letters list --reason "body is not"')
@workspace_option
@reason_option
@click.option("--state", type=click.Choice(["open", "replayed", "discarded"]), default="open", show_default=True)
@click.option("--after", "after_id", type=int, default=0, help="Only ids above this one.")
@click.option("--limit", type=click.IntRange(1, PAGE), default=100, show_default=True)
@as_json_option
def list_command(
    *, workspace_id: int | None, reason: str | None, state: str, after_id: int, limit: int, as_json: bool
) -> None:
    """List dead letters, oldest first, without what they carry."""
    with opened() as runtime, runtime.begin() as tx:
        print_rows(
            list_dead_letters(
                tx, workspace_id=workspace_id, reason=reason, state=state, after_id=after_id, limit=limit
            ),
            COLUMNS,
            as_json,
        )


@dead_letters.command(
    cls=ExampleCommand,
    example="ingest dead-letters show 17 --body request.http\ningest parse telegram request.http --no-verify",
)
@click.argument("dead_letter_id", type=int, metavar="ID")
@click.option(
    "--body",
    "body_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the HTTP request that it carries here; of several, each to a file with its number in the name.",
)
@as_json_option
def show(dead_letter_id: int, body_file: Path | None, as_json: bool) -> None:
    """Show one dead letter. What it carries is a person's message, so it is written to a file only when asked.

    The request is written as it came: its line, the headers that were kept (no credentials), and the very bytes of its
    body. `ingest parse` reads the file.
    """
    with opened() as runtime, runtime.begin() as tx:
        found = get_dead_letter(tx, dead_letter_id)
    if found is None:
        raise BadSetting(f"there is no dead letter {dead_letter_id}")
    requests = _requests(found)
    if body_file is not None:
        if not requests:
            raise BadSetting(f"dead letter {dead_letter_id} carries no request{_why_empty(found)}")
        for path, request in zip(_files(body_file, len(requests)), requests, strict=True):
            _write_private(path, write_request(request.method, request.url, request.headers, request.body))
    shown: dict[str, Any] = {name: getattr(found, name) for name in found.__dataclass_fields__ if name != "body"}
    body_bytes = sum(len(request.body) for request in requests)
    print_record({**shown, "requests": len(requests), "body_bytes": body_bytes}, as_json)


def _requests(letter: DeadLetter) -> list[RawRequest]:
    """Return the requests that the letter carries. Raises BadSetting where another release wrote them differently."""
    if letter.body is None:
        return []
    try:
        return decode_requests(letter.body)
    except msgspec.MsgspecError as unreadable:
        raise BadSetting(f"what dead letter {letter.id} carries was written by another release") from unreadable


def _why_empty(letter: DeadLetter) -> str:
    return f": it is {letter.state}" if letter.state != "open" else ""


def _files(given: Path, count: int) -> list[Path]:
    if count == 1:
        return [given]
    return [given.with_name(f"{given.stem}-{number}{given.suffix}") for number in range(1, count + 1)]


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read: it is somebody's message."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


@dead_letters.command(cls=ExampleCommand, example="ingest dead-letters replay 17 18\ningest dead-letters replay --all")
@ids_argument
@workspace_option
@reason_option
@all_option
@as_json_option
def replay(ids: tuple[int, ...], workspace_id: int | None, reason: str | None, everything: bool, as_json: bool) -> None:
    """Turn dead letters into jobs again, each tried alone. Safe to repeat: what was stored is not stored twice.

    Status 1 when an id is no open dead letter; the others are replayed all the same.
    """
    with opened() as runtime:
        with runtime.begin() as tx:
            queues = replay_dead_letters(tx, _chosen(tx, ids, workspace_id, reason, everything))
            refused = _refused(tx, ids, queues)
        runtime.publisher.ring(set(queues.values()))
    _tell("replayed", len(queues), refused, as_json)


@dead_letters.command(cls=ExampleCommand, example="ingest dead-letters discard 17")
@ids_argument
@workspace_option
@reason_option
@all_option
@as_json_option
def discard(
    *, ids: tuple[int, ...], workspace_id: int | None, reason: str | None, everything: bool, as_json: bool
) -> None:
    """Give dead letters up for good: what they carry is deleted.

    Status 1 when an id is no open dead letter; the others are discarded all the same.
    """
    with opened() as runtime, runtime.begin() as tx:
        discarded = discard_dead_letters(tx, _chosen(tx, ids, workspace_id, reason, everything))
        refused = _refused(tx, ids, discarded)
    _tell("discarded", len(discarded), refused, as_json)


def _refused(tx: Transaction, ids: tuple[int, ...], done: Container[int]) -> list[str]:
    """Return a sentence for each given id that nothing was done with."""
    told = []
    for dead_letter_id in dict.fromkeys(ids):
        if dead_letter_id not in done:
            found = get_dead_letter(tx, dead_letter_id)
            told.append(
                f"there is no dead letter {dead_letter_id}"
                if found is None
                else f"dead letter {dead_letter_id} is not open: it is {found.state}"
            )
    return told


def _tell(act: str, count: int, refused: Sequence[str], as_json: bool) -> None:
    print_record({act: count}, as_json)
    if refused:
        raise BadSetting("; ".join(refused))


def _chosen(
    tx: Transaction, ids: tuple[int, ...], workspace_id: int | None, reason: str | None, everything: bool
) -> list[int]:
    """Return the ids meant. Raises UsageError unless there are either ids or --all."""
    if bool(ids) == everything:
        raise click.UsageError("give ids, or --all")
    if ids:
        return list(ids)
    found: list[int] = []
    while page := list_dead_letters(
        tx, workspace_id=workspace_id, reason=reason, after_id=found[-1] if found else 0, limit=PAGE
    ):
        found += [each.id for each in page]
    return found
