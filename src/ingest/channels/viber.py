"""Viber bots: one event per request, proved by a signature over the body.

Source: Viber REST Bot API, "Callbacks" and "Message types". Bots see no groups.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ingest.channels.base import Adapter, Setting, Webhook, moment, require_hmac, unhex
from ingest.channels.fields import (
    as_object,
    count_in,
    kept,
    object_in,
    place_in,
    required,
    sender_id,
    text_in,
    words_in,
)
from ingest.domain.events import (
    JSON,
    Attachment,
    ContactCard,
    InboundEvent,
    Message,
    Sender,
    StatusValue,
    ignored,
)

SIGNATURE_HEADER = "x-viber-content-signature"

_STATUSES: Mapping[str, StatusValue] = {"delivered": "delivered", "seen": "read", "failed": "failed"}
_KNOWN_EVENTS = {"webhook", "client_status", "action"}


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the header, or else the query's `sig`, is the body's signature with the bot's token."""
    given = hook.header(SIGNATURE_HEADER) or hook.query.get("sig", "")
    require_hmac(unhex(given), hook.body, "sha256", *hook.accepted("auth_token"))


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return what the event means. Raises BadPayload without message token or person.

    The token is a 64-bit number above what a float holds: it is read as a whole number and kept as text.
    """
    body = as_object(hook.json())
    kind, token = required(body, "event"), required(body, "message_token")
    reader = _READERS.get(kind)
    if reader is None:
        return [ignored(token, kind if kind in _KNOWN_EVENTS else "unknown_event")]
    return [reader(body, token, hook)]


def _read_message(body: JSON, token: str, hook: Webhook) -> InboundEvent:
    item = object_in(body, "message")
    return InboundEvent(
        "message",
        token,
        sender=_person(object_in(body, "sender")),
        sent_at=moment(body.get("timestamp"), hook.received_at),
        message=_message(item),
    )


def _read_opened(body: JSON, token: str, hook: Webhook) -> InboundEvent:
    """Read `conversation_started`; its context is the value of the deep link that was followed."""
    context = text_in(body, "context")
    return InboundEvent(
        "started",
        token,
        sender=_person(object_in(body, "user")),
        sent_at=moment(body.get("timestamp"), hook.received_at),
        message=Message("text", referral={"ref": context}) if context else None,
    )


def _read_subscribed(body: JSON, token: str, hook: Webhook) -> InboundEvent:
    at = moment(body.get("timestamp"), hook.received_at)
    return InboundEvent("opt_in", token, sender=_person(object_in(body, "user")), sent_at=at, reason="subscribed")


def _read_unsubscribed(body: JSON, token: str, hook: Webhook) -> InboundEvent:
    at = moment(body.get("timestamp"), hook.received_at)
    return InboundEvent("opt_out", token, sender=Sender(sender_id(body, "user_id")), sent_at=at, reason="unsubscribed")


def _read_status(body: JSON, token: str, hook: Webhook) -> InboundEvent:
    kind = required(body, "event")
    return InboundEvent(
        "status",
        f"{token}:{kind}",
        sender=Sender(sender_id(body, "user_id")),
        sent_at=moment(body.get("timestamp"), hook.received_at),
        target_id=token,
        status=_STATUSES[kind],
        error=(text_in(body, "desc") or kind) if kind == "failed" else None,
    )


def _person(item: JSON) -> Sender:
    return Sender(
        sender_id(item, "id"),
        display_name=text_in(item, "name"),
        language=text_in(item, "language"),
        country_code=text_in(item, "country"),
        avatar_url=text_in(item, "avatar"),
    )


def _message(item: JSON) -> Message:
    kind = text_in(item, "type") or ""
    reader = _CONTENTS.get(kind)
    content = reader(item) if reader else None
    if content is None:
        content = Message("unsupported", words_in(item, "text"), raw_kind=kind or None)
    # tracking_data is what we gave the person's app to return; it can return anything.
    return replace(content, details=kept(item, "tracking_data", "duration", "thumbnail"))


def _text(item: JSON) -> Message:
    return Message("text", words_in(item, "text"))


def _link(item: JSON) -> Message:
    return Message("text", text_in(item, "media") or "")


def _picture(item: JSON) -> Message:
    picture = Attachment("image", text_in(item, "media"), name=text_in(item, "file_name"))
    return Message("image", words_in(item, "text"), (picture,))


def _video(item: JSON) -> Message:
    video = Attachment("video", text_in(item, "media"), name=text_in(item, "file_name"), size=count_in(item, "size"))
    return Message("video", words_in(item, "text"), (video,))


def _file(item: JSON) -> Message:
    size = count_in(item, "file_size") or count_in(item, "size")
    return Message(
        "file", attachments=(Attachment("file", text_in(item, "media"), name=text_in(item, "file_name"), size=size),)
    )


def _sticker(item: JSON) -> Message:
    sticker = Attachment("sticker", text_in(item, "media"), media_id=text_in(item, "sticker_id"))
    return Message("sticker", attachments=(sticker,))


def _location(item: JSON) -> Message | None:
    place = place_in(object_in(item, "location"), "lat", "lon")
    return Message("location", location=place) if place else None


def _contact(item: JSON) -> Message:
    """Read a shared card: nothing proves whose it is, so it is no fact about the sender."""
    card = object_in(item, "contact")
    phone = text_in(card, "phone_number")
    return Message("contact", contacts=(ContactCard(text_in(card, "name"), (phone,) if phone else ()),))


_READERS: Mapping[str, Callable[[JSON, str, Webhook], InboundEvent]] = {
    "message": _read_message,
    "conversation_started": _read_opened,
    "subscribed": _read_subscribed,
    "unsubscribed": _read_unsubscribed,
    "delivered": _read_status,
    "seen": _read_status,
    "failed": _read_status,
}
_CONTENTS: Mapping[str, Callable[[JSON], Message | None]] = {
    "text": _text,
    "url": _link,
    "picture": _picture,
    "video": _video,
    "file": _file,
    "sticker": _sticker,
    "location": _location,
    "contact": _contact,
}

ADAPTER = Adapter(
    "viber",
    verify,
    parse,
    settings=(Setting("auth_token", "The bot's authentication token; it signs each callback", secret=True),),
    source="viber",
)
