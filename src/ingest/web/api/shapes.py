"""The objects of the API, as clients read them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ingest.channels.registry import UnknownChannelCode, get_adapter
from ingest.domain.contacts import generated_avatar, shown_name
from ingest.store.custom_fields import CustomField
from ingest.store.views.channels import ChannelView, ContactChannelView
from ingest.store.views.contacts import ContactView


class Shape(BaseModel):
    """The root of the answers: snake case here, camel case on the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


def seconds(at: datetime | None) -> int | None:
    """Return a moment as unix seconds."""
    return None if at is None else int(at.timestamp())


def channel_source(code: str) -> str:
    """Return the channel's name in the API."""
    try:
        return get_adapter(code).source or code
    except (UnknownChannelCode, ImportError):
        return code


class CodeAnswer(Shape):
    """It is done."""

    code: int = 200
    message: str


class ContactAnswer(Shape):
    """It is done, to this contact."""

    contact_id: int


class FieldValue(Shape):
    """A custom field's value: text for every type, null when unset."""

    name: str = Field(description="The field's slug.")
    value: str | None


class Assignee(Shape):
    """The user that a contact is assigned to."""

    id: int
    first_name: str
    last_name: str
    email: str


class AvatarShape(Shape):
    """What to show as picture: `url` where there is one, else the letters on the colour."""

    url: str | None
    initials: str
    color: str


class ChannelIcon(Shape):
    """A channel of a contact, as lists show it."""

    id: int
    name: str
    source: str
    connected_at: int = Field(description="Unix seconds.")


class ContactShape(Shape):
    """A contact. Times are unix seconds."""

    id: int
    first_name: str = Field(description='"" when unknown.')
    last_name: str | None
    phone: str | None = Field(description="E.164.")
    email: str | None
    language: str | None = Field(description="ISO 639-1.")
    profile_pic: str | None
    country_code: str | None = Field(description="ISO 3166-1 alpha-2.")
    locale: str | None = None
    custom_fields: list[FieldValue] = Field(alias="custom_fields")
    status: str = Field(description="open, closed or snoozed: what it is, or comes back to after a block.")
    is_blocked: bool
    tags: list[str]
    assignee: Assignee | None
    lifecycle: str | None
    created_at: int = Field(alias="created_at")
    updated_at: int
    shown_name: str = Field(description="Name, else phone, else email, else `Contact <id>`.")
    shown_status: str = Field(description="blocked where the contact is, else its status.")
    avatar: AvatarShape
    phone_is_valid: bool | None = Field(description="False: possible, but in no range that is in use.")
    other_phones: list[str] = Field(description="Phones kept beside the default one, after merges.")
    other_emails: list[str]
    snoozed_until: int | None
    blocked_at: int | None
    blocked_until: int | None
    block_reason: str | None
    dropped_count: int = Field(description="Messages dropped because of a block.")
    last_message_time: int | None
    last_incoming_message_time: int | None
    last_channel_id: int | None
    channels: list[ChannelIcon] = Field(description="Last interacted first, then by connection, oldest first.")
    source: str
    provenance: dict[str, str] = Field(description="Where each field's value came from.")
    merged_from: list[int] = Field(description="Ids that lead here since a merge.")


def read_contact(contact: ContactView, fields: list[CustomField]) -> ContactShape:
    """Return the contact as clients read it."""
    name = shown_name(
        contact.id,
        first_name=contact.first_name,
        last_name=contact.last_name,
        display_name=contact.display_name,
        phone=contact.phone,
        email=contact.email,
    )
    avatar = generated_avatar(contact.id, name)
    created_at = seconds(contact.created_at) or 0
    return ContactShape(
        id=contact.id,
        first_name=contact.first_name,
        last_name=contact.last_name,
        phone=contact.phone,
        email=contact.email,
        language=contact.language,
        profile_pic=contact.avatar_url,
        country_code=contact.country_code,
        custom_fields=[FieldValue(name=field.slug, value=contact.fields.get(str(field.id))) for field in fields],
        status=contact.status,
        is_blocked=contact.blocked_at is not None,
        tags=contact.tags,
        assignee=None if contact.assignee is None else Assignee(**contact.assignee),
        lifecycle=contact.lifecycle,
        created_at=created_at,
        updated_at=seconds(contact.updated_at) or created_at,
        shown_name=name,
        shown_status="blocked" if contact.blocked_at is not None else contact.status,
        avatar=AvatarShape(url=contact.avatar_url, initials=avatar.initials, color=avatar.color),
        phone_is_valid=contact.phone_valid,
        other_phones=_keys(contact, "tel:"),
        other_emails=_keys(contact, "mailto:"),
        snoozed_until=seconds(contact.snoozed_until),
        blocked_at=seconds(contact.blocked_at),
        blocked_until=seconds(contact.blocked_until),
        block_reason=contact.block_reason,
        dropped_count=contact.dropped_count,
        last_message_time=seconds(contact.last_message_at),
        last_incoming_message_time=seconds(contact.last_incoming_at),
        last_channel_id=contact.last_channel_id,
        channels=[_icon(each) for each in contact.channels],
        source=contact.source,
        provenance={key: str(value.get("source", "")) for key, value in contact.provenance.items()},
        merged_from=contact.absorbed_ids,
    )


def _keys(contact: ContactView, scheme: str) -> list[str]:
    return [key.removeprefix(scheme) for key in contact.secondary_keys if key.startswith(scheme)]


def _icon(channel: dict[str, Any]) -> ChannelIcon:
    return ChannelIcon(
        id=channel["id"],
        name=channel["name"],
        source=channel_source(channel["code"]),
        connected_at=int(channel["connected_at"]),
    )


class ChannelShape(Shape):
    """A channel of the workspace."""

    id: int
    name: str
    source: str
    code: str = Field(description="Our adapter's code.")
    state: str
    created_at: int = Field(alias="created_at")


def read_channel(channel: ChannelView) -> ChannelShape:
    """Return the channel as clients read it."""
    return ChannelShape(
        id=channel.id,
        name=channel.name,
        source=channel_source(channel.code),
        code=channel.code,
        state=channel.state,
        created_at=seconds(channel.created_at) or 0,
    )


class ContactChannelShape(ChannelShape):
    """A channel of a contact. `created_at` is when the contact was connected."""

    contact_channel_id: int | None
    meta: dict[str, Any] | None = Field(description="What the channel says about the person.")
    last_message_time: int | None
    last_incoming_message_time: int | None
    kind: str = Field(description="active; inactive: a user may start it; unavailable: only the contact can.")
    conversation_url: str | None = Field(None, description="The conversation at the provider, for Facebook pages.")
    opted_out: bool = False


def read_contact_channel(found: ContactChannelView, kind: str) -> ContactChannelShape:
    """Return a channel of a contact as clients read it."""
    base = read_channel(found.channel)
    return ContactChannelShape(
        **{**base.model_dump(), "created_at": seconds(found.connected_at) or base.created_at},
        contact_channel_id=found.identity_id,
        meta=found.profile,
        last_message_time=seconds(found.last_message_at),
        last_incoming_message_time=seconds(found.last_incoming_at),
        kind=kind,
        conversation_url=_conversation_url(found),
        opted_out=_is_opted_out(found),
    )


def _conversation_url(found: ContactChannelView) -> str | None:
    if found.channel.code != "messenger" or found.identity_id is None or not found.channel.account:
        return None
    return f"https://business.facebook.com/latest/inbox/messenger?asset_id={found.channel.account}"


def _is_opted_out(found: ContactChannelView) -> bool:
    out, consent = found.opted_out_at, found.consent_at
    return out is not None and (consent is None or out > consent)
