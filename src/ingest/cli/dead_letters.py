"""`ingest dead-letters`."""

from pathlib import Path
from typing import Any

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_record, print_rows
from ingest.errors import BadSetting
from ingest.store.dead_letters import (
    discard_dead_letters,
    get_dead_letter,
    list_dead_letters,
    replay_dead_letters,
)
from ingest.store.unit_of_work import Transaction

COLUMNS = ("id", "workspace_id", "queue", "name", "reason", "attempts", "created_at")
PAGE = 1000

ids_argument = click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
reason_option = click.option("--reason", help="Only those whose reason begins so.")
workspace_option = click.option("--workspace", "workspace_id", type=int, help="Only this workspace's.")
all_option = click.option("--all", "everything", is_flag=True, help="All open ones that the options choose.")


@click.group("dead-letters")
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


@dead_letters.command(cls=ExampleCommand, example="ingest dead-letters show 17 --body request.bin")
@click.argument("dead_letter_id", type=int, metavar="ID")
@click.option(
    "--body", "body_file", type=click.Path(dir_okay=False, path_type=Path), help="Write what it carries here."
)
@as_json_option
def show(dead_letter_id: int, body_file: Path | None, as_json: bool) -> None:
    """Show one dead letter. What it carries is a person's message, so it is written to a file only when asked."""
    with opened() as runtime, runtime.begin() as tx:
        found = get_dead_letter(tx, dead_letter_id)
    if found is None:
        raise BadSetting(f"there is no dead letter {dead_letter_id}")
    if body_file is not None:
        body_file.write_bytes(found.body or b"")
    shown: dict[str, Any] = {name: getattr(found, name) for name in found.__dataclass_fields__ if name != "body"}
    print_record({**shown, "body_bytes": len(found.body or b"")}, as_json)


@dead_letters.command(cls=ExampleCommand, example="ingest dead-letters replay 17 18\ningest dead-letters replay --all")
@ids_argument
@workspace_option
@reason_option
@all_option
@as_json_option
def replay(ids: tuple[int, ...], workspace_id: int | None, reason: str | None, everything: bool, as_json: bool) -> None:
    """Turn dead letters into jobs again, each tried alone. Safe to repeat: what was stored is not stored twice."""
    with opened() as runtime:
        with runtime.begin() as tx:
            queues = replay_dead_letters(tx, _chosen(tx, ids, workspace_id, reason, everything))
        runtime.publisher.ring(set(queues))
    print_record({"replayed": len(queues)}, as_json)


@dead_letters.command(cls=ExampleCommand, example="ingest dead-letters discard 17")
@ids_argument
@workspace_option
@reason_option
@all_option
@as_json_option
def discard(
    *, ids: tuple[int, ...], workspace_id: int | None, reason: str | None, everything: bool, as_json: bool
) -> None:
    """Give dead letters up for good: what they carry is deleted."""
    with opened() as runtime, runtime.begin() as tx:
        discarded = discard_dead_letters(tx, _chosen(tx, ids, workspace_id, reason, everything))
    print_record({"discarded": discarded}, as_json)


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
