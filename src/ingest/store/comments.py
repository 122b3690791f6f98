"""Comments: what users write to each other beside a contact's messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Comment:
    """A stored comment."""

    id: int
    contact_id: int
    author_id: int | None
    text: str
    mentioned_user_ids: list[int]
    created_at: datetime


COLUMNS = "id, contact_id, author_id, text, mentioned_user_ids, created_at"
ADD = text(f"""
    insert into comment (workspace_id, contact_id, origin_contact_id, conversation_id, source, author_id, text,
                         mentioned_user_ids, created_at)
    select :workspace_id, :contact_id, :contact_id, :conversation_id, :source, :author_id, :text,
           array(select id from workspace_user where workspace_id = :workspace_id and removed_at is null
                 and id = any(cast(:mentioned as bigint[])) order by id), :now
    returning {COLUMNS}
""")  # noqa: S608
PAGE = text(f"""
    select {COLUMNS} from comment
    where workspace_id = :workspace_id and contact_id = :contact_id
      and case when :cursor < 0 then id > -:cursor when :cursor > 0 then id < :cursor else true end
    order by case when :cursor < 0 then id else -id end limit :limit
""")  # noqa: S608


def add_comment(
    tx: Connection,
    workspace_id: int,
    contact_id: int,
    *,
    conversation_id: int | None,
    source: str,
    author_id: int | None,
    content: str,
    mentioned: Sequence[int],
    now: datetime,
) -> Comment:
    """Add a comment and return it; of the mentioned users only those that exist are kept."""
    row = tx.execute(
        ADD,
        {
            "workspace_id": workspace_id,
            "contact_id": contact_id,
            "conversation_id": conversation_id,
            "source": source,
            "author_id": author_id,
            "text": content,
            "mentioned": list(mentioned),
            "now": now,
        },
    ).one()
    return Comment(*row)


def list_comments(tx: Connection, workspace_id: int, contact_id: int, cursor: int, limit: int) -> list[Comment]:
    """Return the contact's comments before the id, newest first; with a negative cursor those after it, nearest first."""
    given = {"workspace_id": workspace_id, "contact_id": contact_id, "cursor": cursor, "limit": limit}
    return [Comment(*row) for row in tx.execute(PAGE, given)]
