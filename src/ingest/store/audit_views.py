"""The audit log as readers see it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A line of the audit log."""

    id: int
    at: datetime
    source: str
    user_id: int | None
    token_id: int | None
    role: str | None
    action: str
    outcome: str
    target_ids: list[int]
    data: dict[str, Any]
    hash: bytes


PAGE = text("""
    select id, at, source, user_id, token_id, role, action, outcome, target_ids, data, hash from audit_entry
    where workspace_id = :workspace_id
      and case when :cursor < 0 then id > -:cursor when :cursor > 0 then id < :cursor else true end
    order by case when :cursor < 0 then id else -id end limit :limit
""")


def list_audit_entries(tx: Connection, workspace_id: int, cursor: int, limit: int) -> list[AuditEntry]:
    """Return the lines before the id, newest first; with a negative cursor those after it, nearest first."""
    rows = tx.execute(PAGE, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit})
    return [AuditEntry(*row) for row in rows]
