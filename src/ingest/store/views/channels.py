"""Channels of the workspace, and what each means for one contact."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel of the workspace."""

    id: int
    code: str
    name: str
    account: str
    state: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ContactChannelView:
    """A contact's identity on a channel; `identity_id` is None for a channel that the contact is not connected to.

    `settings` are the channel's: what an address on it is may depend on them.
    """

    channel: ChannelView
    settings: dict[str, str]
    identity_id: int | None
    profile: dict[str, Any] | None
    connected_at: datetime | None
    opted_out_at: datetime | None
    consent_at: datetime | None
    last_message_at: datetime | None
    last_incoming_at: datetime | None


LIST = text("""
    select id, code, name, account, state, created_at from channel
    where workspace_id = :workspace_id and case when :cursor < 0 then id < -:cursor else id > :cursor end
    order by case when :cursor < 0 then -id else id end limit :limit
""")

OF_CONTACT = text("""
    select channel.id, channel.code, channel.name, channel.account, channel.state, channel.created_at,
           channel.settings, identity.id, identity.profile, identity.connected_at, identity.opted_out_at, identity.consent_at,
           (select max(sent_at) from message where message.workspace_id = identity.workspace_id
                and message.contact_id = identity.contact_id and message.channel_id = identity.channel_id),
           (select max(sent_at) from message where message.workspace_id = identity.workspace_id
                and message.contact_id = identity.contact_id and message.channel_id = identity.channel_id
                and message.traffic = 'incoming')
    from channel
    left join identity on identity.workspace_id = channel.workspace_id and identity.channel_id = channel.id
        and identity.contact_id = :contact_id and identity.alias_of is null and identity.removed_at is null
    where channel.workspace_id = :workspace_id
    order by identity.connected_at nulls last, channel.id, identity.id
    limit 1000
""")


def list_channels(tx: Connection, workspace_id: int, cursor: int = 0, limit: int = 10) -> list[ChannelView]:
    """Return the workspace's channels after the id, by id; with a negative cursor those before it, nearest first."""
    rows = tx.execute(LIST, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit})
    return [ChannelView(*row) for row in rows]


def list_contact_channels(tx: Connection, workspace_id: int, contact_id: int) -> list[ContactChannelView]:
    """Return every channel of the workspace for this contact: the connected ones as they connected, then the others."""
    rows = tx.execute(OF_CONTACT, {"workspace_id": workspace_id, "contact_id": contact_id})
    return [ContactChannelView(ChannelView(*row[:6]), *row[6:]) for row in rows]
