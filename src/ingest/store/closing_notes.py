"""Closing notes: the categories under which a workspace closes conversations."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class ClosingNote:
    """A category with what it is for."""

    id: int
    category: str
    description: str
    content: str | None
    created_at: datetime


COLUMNS = "id, category, description, content, created_at"
PAGE = text(f"""
    select {COLUMNS} from closing_note
    where workspace_id = :workspace_id and case when :cursor < 0 then id < -:cursor else id > :cursor end
    order by case when :cursor < 0 then -id else id end limit :limit
""")  # noqa: S608
FIND = text(f"""
    select {COLUMNS} from closing_note where workspace_id = :workspace_id and lower(category) = lower(:category)
""")  # noqa: S608
ADD = text(f"""
    insert into closing_note (workspace_id, category, description, content)
    values (:workspace_id, :category, :description, :content)
    on conflict do nothing returning {COLUMNS}
""")  # noqa: S608


def list_closing_notes(tx: Connection, workspace_id: int, cursor: int, limit: int) -> list[ClosingNote]:
    """Return the notes after the id, by id; with a negative cursor those before it, nearest first."""
    rows = tx.execute(PAGE, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit})
    return [ClosingNote(*row) for row in rows]


def find_closing_note(tx: Connection, workspace_id: int, category: str) -> ClosingNote | None:
    """Return the note of that category, in any letter case, or None."""
    row = tx.execute(FIND, {"workspace_id": workspace_id, "category": category}).one_or_none()
    return None if row is None else ClosingNote(*row)


def add_closing_note(
    tx: Connection, workspace_id: int, category: str, description: str, content: str | None
) -> ClosingNote | None:
    """Add a note and return it; None when the category is taken."""
    given = {"category": category, "description": description, "content": content}
    row = tx.execute(ADD, {"workspace_id": workspace_id, **given}).one_or_none()
    return None if row is None else ClosingNote(*row)
