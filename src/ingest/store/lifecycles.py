"""Stages of a workspace's lifecycle, in order."""

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage."""

    id: int
    name: str
    position: int


LIST = text("select id, name, position from lifecycle_stage where workspace_id = :workspace_id order by position, id")
FIND = text("""
    select id, name, position from lifecycle_stage where workspace_id = :workspace_id and lower(name) = lower(:name)
""")
ADD = text("""
    insert into lifecycle_stage (workspace_id, name, position)
    select :workspace_id, :name, coalesce((select max(position) + 1 from lifecycle_stage
                                           where workspace_id = :workspace_id), 0)
    on conflict do nothing returning id, name, position
""")
REMOVE = text("delete from lifecycle_stage where workspace_id = :workspace_id and id = :id")
IS_USED = text("select exists (select from contact where workspace_id = :workspace_id and lifecycle_id = :id)")


def list_stages(tx: Connection, workspace_id: int) -> list[Stage]:
    """Return the stages, first to last."""
    return [Stage(*row) for row in tx.execute(LIST, {"workspace_id": workspace_id})]


def find_stage(tx: Connection, workspace_id: int, name: str) -> Stage | None:
    """Return the stage of that name, in any letter case, or None."""
    row = tx.execute(FIND, {"workspace_id": workspace_id, "name": name}).one_or_none()
    return None if row is None else Stage(*row)


def add_stage(tx: Connection, workspace_id: int, name: str) -> Stage | None:
    """Add a stage behind the others and return it; None when the name is taken."""
    row = tx.execute(ADD, {"workspace_id": workspace_id, "name": name}).one_or_none()
    return None if row is None else Stage(*row)


def is_stage_used(tx: Connection, workspace_id: int, stage_id: int) -> bool:
    """Return whether a contact is in the stage."""
    return bool(tx.scalar(IS_USED, {"workspace_id": workspace_id, "id": stage_id}))


def remove_stage(tx: Connection, workspace_id: int, stage_id: int) -> bool:
    """Remove the stage, which no contact is in; return whether it was there."""
    return tx.execute(REMOVE, {"workspace_id": workspace_id, "id": stage_id}).rowcount > 0
