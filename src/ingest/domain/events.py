"""What an adapter reads from a request: the inbound events, in one shape for every channel.

An event is about one item of a provider's request. Which fields carry a value depends on `kind`:

| kind | what happened | fields beside `external_id`, `account`, `sender`, `sent_at` |
| --- | --- | --- |
| message | the contact wrote to the business | `message` |
| echo | the business wrote from somewhere else (phone app, other tool) | `message`; `sender` is the contact written TO |
| status | an outgoing message moved on | `target_id` or `up_to`, `status`, `error` |
| edit | a stored message has a new content | `target_id`, `message` |
| delete | a stored message was unsent | `target_id` |
| reaction | an emoji was put on or taken off a message | `target_id`, `emoji` ("" takes it off) |
| opt_out, opt_in | the contact refused or allowed messages | `reason`: the word or the provider's category |
| identity_change | the contact's address at the provider changed | `sender` has the new addresses, `former` the old ones |
| started | the contact opened the chat without writing | `message.referral` where there is one |
| ignored | nothing to store | `reason` |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

JSON = Mapping[str, Any]

EventKind = Literal[
    "message",
    "echo",
    "status",
    "edit",
    "delete",
    "reaction",
    "opt_out",
    "opt_in",
    "identity_change",
    "started",
    "ignored",
]
MessageKind = Literal[
    "text",
    "image",
    "video",
    "audio",
    "voice",
    "file",
    "sticker",
    "location",
    "contact",
    "button",
    "postback",
    "interactive",
    "form",
    "order",
    "story",
    "email",
    "unsupported",
]
AttachmentKind = Literal["image", "video", "audio", "voice", "file", "sticker"]
StatusValue = Literal["sent", "delivered", "read", "failed"]


@dataclass(frozen=True, slots=True)
class Sender:
    """The contact as the provider names it. Every text is as received, trimmed; None means not sent.

    `external_id` is the address that replies go to, unique within the channel's account. `aliases` are further ids
    of the same person on the same account (WhatsApp: phone digits beside the business-scoped id). `phone` is set only
    where the channel itself vouches for it, as received or E.164; `email` likewise. `verified` is False where name,
    phone and email are the person's own claim (web chat without proof, mail that failed authentication): such keys
    are stored but never used to join or claim a contact.
    """

    external_id: str
    aliases: tuple[str, ...] = ()
    phone: str | None = None
    email: str | None = None
    display_name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    language: str | None = None
    country_code: str | None = None
    avatar_url: str | None = None
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a message: by `url`, by the provider's `media_id`, or carried along in `content`. `size` is in bytes."""

    kind: AttachmentKind
    url: str | None = None
    media_id: str | None = None
    name: str | None = None
    mime_type: str | None = None
    size: int | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """A place, in degrees (WGS 84)."""

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class ContactCard:
    """A person whose card was shared in a message. Somebody else's card is no fact about the sender."""

    name: str | None = None
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """The content of a message.

    `kind` "unsupported" keeps what we cannot read: `raw_kind` is then the provider's word for it. `payload` is the
    machine value behind a button, postback, interactive answer, form or order. `referral` says how the contact came
    (ad, deep link). `thread_ids` are mail Message-IDs this one answers, nearest first. `subject` is for mail.
    `details` holds whatever else is worth keeping, JSON-safe.
    """

    kind: MessageKind
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    location: Location | None = None
    contacts: tuple[ContactCard, ...] = ()
    reply_to: str | None = None
    payload: str | None = None
    referral: JSON | None = None
    subject: str | None = None
    thread_ids: tuple[str, ...] = ()
    raw_kind: str | None = None
    details: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """One item of a request; see the module's table.

    `external_id` is stable across redeliveries and unique within the channel's account: the provider's message id for
    messages and echoes, else made from what identifies the item. `account` is the provider-side account the item was
    for ("" where the body does not say). `sent_at` is the provider's time, aware UTC; None where it sends none.
    `automatic` marks what must start no automation (auto-replies, bounces, mailing lists). `elsewhere` marks messages
    that another application is handling (standby).
    """

    kind: EventKind
    external_id: str
    account: str = ""
    sender: Sender | None = None
    sent_at: datetime | None = None
    message: Message | None = None
    target_id: str | None = None
    up_to: datetime | None = None
    status: StatusValue | None = None
    error: str | None = None
    emoji: str | None = None
    former: tuple[str, ...] = ()
    reason: str | None = None
    automatic: bool = False
    elsewhere: bool = False


def ignored(external_id: str, reason: str, account: str = "") -> InboundEvent:
    """Return the event for an item that is proved and read but holds nothing to store."""
    return InboundEvent("ignored", external_id, account, reason=reason)
