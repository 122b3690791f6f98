"""Data on standard output: JSON for programs, aligned columns for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

import click

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of columns.")


def plain(value: object) -> Any:
    """Return a value as JSON has it: dataclasses as objects, times in ISO 8601, anything unknown as its text."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def print_rows(rows: Iterable[object], columns: Sequence[str], as_json: bool) -> None:
    """Print one JSON array, or a line a row below the columns' names."""
    found = [plain(each) for each in rows]
    if as_json:
        click.echo(json.dumps(found))
        return
    table = [
        [column.replace("_", " ") for column in columns],
        *([_cell(row[column]) for column in columns] for row in found),
    ]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_record(record: object, as_json: bool) -> None:
    """Print one JSON object, or a line a field."""
    found = plain(record)
    if as_json:
        click.echo(json.dumps(found))
        return
    width = max((len(name) for name in found), default=0)
    for name, value in found.items():
        click.echo(f"{name.replace('_', ' ').ljust(width)}  {_cell(value)}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(each)}" for name, each in value.items()) or "none"
    return str(value)
