"""Proof of erasure: every text, JSON and byte column of the schema, searched for what should be gone."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text

COLUMNS = text("""
    select table_name, column_name, data_type, udt_name from information_schema.columns
    where table_schema = 'public' and is_generated = 'NEVER'
      and (data_type in ('text', 'character varying', 'json', 'jsonb', 'bytea') or udt_name = '_text')
    order by table_name, ordinal_position
""")


@dataclass(frozen=True, slots=True)
class Remains:
    """A column that still holds one of the searched values, in so many rows."""

    table: str
    column: str
    row_count: int


def find_remains(tx: Connection, values: Collection[str]) -> list[Remains]:
    """Return where any of the values is found, in whole or as part, case ignored; empty when all are gone.

    Reads every table in full: for checks, not for requests.
    """
    found = []
    for column in tx.execute(COLUMNS).all():
        name = f'"{column.column_name}"'
        if column.data_type == "bytea":
            hit = f"position(convert_to(value, 'UTF8') in {name}) > 0"
        else:
            hit = f"position(lower(value) in lower({name}::text)) > 0"
        statement = text(
            f'select count(*) from "{column.table_name}" '  # noqa: S608 - names from the catalogue
            f"where exists (select from unnest(cast(:values as text[])) as value where {hit})"
        )
        count = int(tx.execute(statement, {"values": list(values)}).scalar_one())
        if count:
            found.append(Remains(column.table_name, column.column_name, count))
    return found
