"""Contacts with everything that a reader of one sees: assignee, lifecycle, tags, channels in icon order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class ContactView:
    """A contact as readers see it. `channels` has the last interacted one first, then the rest as they connected."""

    id: int
    first_name: str
    last_name: str | None
    display_name: str | None
    phone: str | None
    phone_valid: bool | None
    email: str | None
    country_code: str | None
    language: str | None
    avatar_url: str | None
    fields: dict[str, str]
    provenance: dict[str, Any]
    status: str
    snoozed_until: datetime | None
    blocked_at: datetime | None
    blocked_until: datetime | None
    block_reason: str | None
    dropped_count: int
    last_message_at: datetime | None
    last_incoming_at: datetime | None
    last_channel_id: int | None
    source: str
    created_at: datetime
    updated_at: datetime
    assignee: dict[str, Any] | None
    lifecycle: str | None
    tags: list[str]
    channels: list[dict[str, Any]]
    secondary_keys: list[str]
    absorbed_ids: list[int]


LOAD = text("""
    select contact.id, contact.first_name, contact.last_name, contact.display_name, contact.phone, contact.phone_valid,
           contact.email, contact.country_code, contact.language, contact.avatar_url, contact.fields, contact.provenance,
           contact.status, contact.snoozed_until, contact.blocked_at, contact.blocked_until, contact.block_reason,
           contact.dropped_count, contact.last_message_at, contact.last_incoming_at, contact.last_channel_id,
           contact.source, contact.created_at, contact.updated_at,
           case when member.id is not null then jsonb_build_object('id', member.id, 'firstName', member.first_name,
               'lastName', member.last_name, 'email', member.email) end,
           lifecycle_stage.name,
           array(select tag.name from contact_tag join tag on tag.workspace_id = contact_tag.workspace_id
                     and tag.id = contact_tag.tag_id
                 where contact_tag.workspace_id = contact.workspace_id and contact_tag.contact_id = contact.id
                 order by contact_tag.created_at, tag.id),
           coalesce((select jsonb_agg(jsonb_build_object('id', channel.id, 'name', channel.name, 'code', channel.code,
                         'connected_at', extract(epoch from identity.connected_at))
                         order by channel.id is distinct from contact.last_channel_id, identity.connected_at, identity.id)
                     from identity join channel on channel.workspace_id = identity.workspace_id
                         and channel.id = identity.channel_id
                     where identity.workspace_id = contact.workspace_id and identity.contact_id = contact.id
                       and identity.alias_of is null and identity.removed_at is null), '[]'::jsonb),
           array(select key from contact_key where contact_key.workspace_id = contact.workspace_id
                     and contact_key.contact_id = contact.id and not is_primary order by key),
           array(select absorbed.id from contact as absorbed where absorbed.workspace_id = contact.workspace_id
                     and absorbed.merged_into = contact.id order by absorbed.id)
    from unnest(cast(:ids as bigint[])) with ordinality as wanted (id, position)
    join contact on contact.workspace_id = :workspace_id and contact.id = wanted.id
    left join workspace_user as member on member.workspace_id = contact.workspace_id and member.id = contact.assignee_id
    left join lifecycle_stage on lifecycle_stage.workspace_id = contact.workspace_id
        and lifecycle_stage.id = contact.lifecycle_id
    where contact.merged_into is null and contact.deletion_job_id is null
    order by wanted.position
""")


def list_contacts(tx: Connection, workspace_id: int, ids: Sequence[int]) -> list[ContactView]:
    """Return the live contacts of these ids, in the order of the ids; those that are gone are left out."""
    rows = tx.execute(LOAD, {"workspace_id": workspace_id, "ids": list(ids)})
    return [ContactView(*row) for row in rows]
