"""The order in which a contact's standard fields are shown, a setting of the workspace."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, text

GET = text("select settings -> 'field_order' from workspace where id = :workspace_id")
SET = text("""
    update workspace set settings = settings || jsonb_build_object('field_order', cast(:names as jsonb))
    where id = :workspace_id
""")


def get_field_order(tx: Connection, workspace_id: int) -> list[str] | None:
    """Return the names in their order, or None where nobody has set one."""
    found: list[str] | None = tx.scalar(GET, {"workspace_id": workspace_id})
    return found


def set_field_order(tx: Connection, workspace_id: int, names: Sequence[str]) -> None:
    """Set the order."""
    tx.execute(SET, {"workspace_id": workspace_id, "names": msgspec.json.encode(list(names)).decode()})
