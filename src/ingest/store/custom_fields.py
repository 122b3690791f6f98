"""Custom fields of a workspace: what they are called, what they hold, in which order they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class CustomField:
    """A custom field. `contact.fields` keeps its values under its id as text."""

    id: int
    name: str
    slug: str
    description: str
    data_type: str
    allowed_values: list[str] | None
    position: int
    created_at: datetime


COLUMNS = "id, name, slug, description, data_type, allowed_values, position, created_at"
LIST = text(f"select {COLUMNS} from custom_field where workspace_id = :workspace_id order by position, id")  # noqa: S608
PAGE = text(f"""
    select {COLUMNS} from custom_field
    where workspace_id = :workspace_id and case when :cursor < 0 then id < -:cursor else id > :cursor end
    order by case when :cursor < 0 then -id else id end limit :limit
""")  # noqa: S608
FIND = text(f"select {COLUMNS} from custom_field where workspace_id = :workspace_id and id = :id")  # noqa: S608
ADD = text(f"""
    insert into custom_field (workspace_id, name, slug, description, data_type, allowed_values, position)
    select :workspace_id, :name, :slug, :description, :data_type, :allowed_values,
           coalesce((select max(position) + 1 from custom_field where workspace_id = :workspace_id), 0)
    on conflict do nothing
    returning {COLUMNS}
""")  # noqa: S608
ORDER = text("""
    update custom_field set position = wanted.position
    from unnest(cast(:ids as bigint[])) with ordinality as wanted (id, position)
    where custom_field.workspace_id = :workspace_id and custom_field.id = wanted.id
""")


def list_custom_fields(tx: Connection, workspace_id: int) -> list[CustomField]:
    """Return the workspace's fields as they are shown."""
    return [CustomField(*row) for row in tx.execute(LIST, {"workspace_id": workspace_id})]


def list_custom_field_page(tx: Connection, workspace_id: int, cursor: int, limit: int) -> list[CustomField]:
    """Return the fields after the id, by id; with a negative cursor those before it, nearest first."""
    rows = tx.execute(PAGE, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit})
    return [CustomField(*row) for row in rows]


def find_custom_field(tx: Connection, workspace_id: int, field_id: int) -> CustomField | None:
    """Return the field, or None."""
    row = tx.execute(FIND, {"workspace_id": workspace_id, "id": field_id}).one_or_none()
    return None if row is None else CustomField(*row)


def add_custom_field(
    tx: Connection,
    workspace_id: int,
    *,
    name: str,
    slug: str,
    description: str,
    data_type: str,
    allowed_values: Sequence[str] | None,
) -> CustomField | None:
    """Add the field behind the others and return it; None when its name or slug is taken."""
    row = tx.execute(
        ADD,
        {
            "workspace_id": workspace_id,
            "name": name,
            "slug": slug,
            "description": description,
            "data_type": data_type,
            "allowed_values": list(allowed_values) if allowed_values is not None else None,
        },
    ).one_or_none()
    return None if row is None else CustomField(*row)


def order_custom_fields(tx: Connection, workspace_id: int, ids: Sequence[int]) -> None:
    """Show the fields in this order."""
    tx.execute(ORDER, {"workspace_id": workspace_id, "ids": list(ids)})
