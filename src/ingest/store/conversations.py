"""Conversations as the message path sees them: opened by a message, brought back from snooze. One open a contact."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation to open, under an id reserved beforehand."""

    id: int
    workspace_id: int
    contact_id: int
    opened_at: datetime
    source: str
    channel_id: int


RESERVE = text("""
    select nextval('conversation_id_seq') from generate_series(1, :count)
""")

OPEN = text("""
    insert into conversation (id, workspace_id, contact_id, origin_contact_id, opened_at, opened_source, opened_channel_id)
    select id, workspace_id, contact_id, contact_id, opened_at, source, channel_id
    from unnest(cast(:ids as bigint[]), cast(:workspace_ids as bigint[]), cast(:contact_ids as bigint[]),
                cast(:opened_ats as timestamptz[]), cast(:sources as text[]), cast(:channel_ids as bigint[]))
         as new (id, workspace_id, contact_id, opened_at, source, channel_id)
""")

UNSNOOZE = text("""
    with woken as (
        update conversation set status = 'open'
        from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, id)
        where conversation.workspace_id = wanted.workspace_id and conversation.id = wanted.id and status = 'snoozed'
        returning conversation.workspace_id, conversation.id, contact_id
    )
    insert into contact_event (workspace_id, contact_id, origin_contact_id, conversation_id, kind, source)
    select workspace_id, contact_id, contact_id, id, 'conversation.unsnoozed', 'contact' from woken
""")

# A conversation that began with our own words becomes the contact's at the contact's first message in it.
ADOPT = text("""
    update conversation set opened_source = 'contact'
    from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, id)
    where conversation.workspace_id = wanted.workspace_id and conversation.id = wanted.id and opened_source = 'echo'
    returning conversation.workspace_id, conversation.id
""")


def reserve_conversation_ids(tx: Connection, count: int) -> list[int]:
    """Return that many fresh ids; what is not used is lost, which is harmless."""
    return list(tx.scalars(RESERVE, {"count": count})) if count else []


def open_conversations(tx: Connection, new: Sequence[NewConversation]) -> None:
    """Open the conversations. Their contacts are locked and have no current one."""
    if not new:
        return
    tx.execute(
        OPEN,
        {
            "ids": [each.id for each in new],
            "workspace_ids": [each.workspace_id for each in new],
            "contact_ids": [each.contact_id for each in new],
            "opened_ats": [each.opened_at for each in new],
            "sources": [each.source for each in new],
            "channel_ids": [each.channel_id for each in new],
        },
    )


def unsnooze_conversations(tx: Connection, conversations: Sequence[tuple[int, int]]) -> None:
    """Bring (workspace, conversation) pairs back to open, each with a line in the timeline."""
    if conversations:
        tx.execute(UNSNOOZE, _pairs(conversations))


def adopt_conversations(tx: Connection, conversations: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Mark conversations that echoes had opened as opened by the contact; return those that changed."""
    if not conversations:
        return []
    return [(workspace_id, number) for workspace_id, number in tx.execute(ADOPT, _pairs(conversations))]


def _pairs(pairs: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    return {"workspace_ids": [pair[0] for pair in pairs], "ids": [pair[1] for pair in pairs]}
