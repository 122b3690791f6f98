"""Lists of contacts: which ids match, in which order."""

from sqlalchemy import Connection, text

EVERYBODY = text("""
    select id from contact
    where workspace_id = :workspace_id and merged_into is null and deletion_job_id is null and blocked_at is null
      and case when :cursor < 0 then id < -:cursor else id > :cursor end
    order by case when :cursor < 0 then -id else id end limit :limit
""")


def list_contact_ids(tx: Connection, workspace_id: int, cursor: int, limit: int) -> list[int]:
    """Return ids after the cursor, ascending; with a negative cursor those before it, nearest first."""
    return list(tx.scalars(EVERYBODY, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit}))
