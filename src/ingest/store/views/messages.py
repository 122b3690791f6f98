"""A contact's messages as readers see them: newest first by provider time, then accepted time, then sequence."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class MessageView:
    """A stored message. `effects` are its statuses and reactions, oldest first, with times in unix seconds."""

    id: int
    contact_id: int
    origin_contact_id: int
    conversation_id: int | None
    channel_id: int
    external_id: str | None
    traffic: str
    source: str
    kind: str
    text: str
    content: dict[str, Any] | None
    sent_at: datetime
    accepted_at: datetime
    is_late: bool
    status: str | None
    edited_at: datetime | None
    deleted_at: datetime | None
    reply_to_id: int | None
    effects: list[dict[str, Any]]


COLUMNS = """
    message.id, message.contact_id, message.origin_contact_id, message.conversation_id, message.channel_id,
    message.external_id, message.traffic, message.source, message.kind, message.text, message.content, message.sent_at,
    message.accepted_at, message.is_late, message.status, message.edited_at, message.deleted_at,
    null::bigint,
    coalesce((select jsonb_agg(jsonb_build_object('kind', effect.kind, 'value', effect.value, 'content', effect.content,
                  'actor', effect.actor, 'at', floor(extract(epoch from effect.at))::bigint) order by effect.at, effect.id)
              from message_effect as effect
              where effect.workspace_id = message.workspace_id and effect.message_id = message.id
                and effect.kind in ('status', 'reaction')), '[]'::jsonb)
"""

NEWEST_FIRST = "message.sent_at desc, message.accepted_at desc, message.sequence desc, message.id desc"
OLDEST_FIRST = "message.sent_at, message.accepted_at, message.sequence, message.id"


def _page(direction: str, order: str) -> str:
    return f"""
    select {COLUMNS} from message
    where message.workspace_id = :workspace_id and message.contact_id = :contact_id
      and (message.sent_at, message.accepted_at, message.sequence, message.id) {direction} (
          select sent_at, accepted_at, sequence, id from message
          where workspace_id = :workspace_id and id = :cursor and contact_id = :contact_id)
    order by {order} limit :limit
    """  # noqa: S608 - constants only


FIRST_PAGE = text(
    f"select {COLUMNS} from message where message.workspace_id = :workspace_id and message.contact_id = :contact_id "  # noqa: S608
    f"order by {NEWEST_FIRST} limit :limit"
)
PAGE_AFTER = text(_page("<", NEWEST_FIRST))
PAGE_BEFORE = text(_page(">", OLDEST_FIRST))
ONE = text(
    f"select {COLUMNS} from message where message.workspace_id = :workspace_id "  # noqa: S608
    "and message.contact_id = :contact_id and message.id = :id"
)


def list_messages(
    tx: Connection, workspace_id: int, contact_id: int, cursor: int = 0, limit: int = 10
) -> list[MessageView]:
    """Return the contact's messages that are older than the one whose id is the cursor, newest first.

    Cursor 0 starts at the newest. A negative cursor gives those that are newer than the message, nearest first.
    """
    statement = FIRST_PAGE if cursor == 0 else PAGE_AFTER if cursor > 0 else PAGE_BEFORE
    given = {"workspace_id": workspace_id, "contact_id": contact_id, "cursor": abs(cursor), "limit": limit}
    if cursor == 0:
        del given["cursor"]
    return [MessageView(*row) for row in tx.execute(statement, given)]


def find_message(tx: Connection, workspace_id: int, contact_id: int, message_id: int) -> MessageView | None:
    """Return the message if the contact has it."""
    given = {"workspace_id": workspace_id, "contact_id": contact_id, "id": message_id}
    row = tx.execute(ONE, given).one_or_none()
    return None if row is None else MessageView(*row)
