"""MessageBird Conversations: one message of any of its platforms per request.

Source: MessageBird, Conversations API, "Webhooks" and "Message object".
"""

from collections.abc import Mapping
from dataclasses import replace

from ingest.channels.base import Webhook
from ingest.channels.fields import instant, kept, object_in, place_in, required, sender_id, text_in, words_in
from ingest.channels.ids import derived_id
from ingest.channels.sms import phone_in, with_opt_event
from ingest.domain.events import (
    JSON,
    Attachment,
    AttachmentKind,
    InboundEvent,
    Message,
    Sender,
    StatusValue,
    ignored,
)

_STATUSES: Mapping[str, StatusValue] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "failed": "failed",
    "rejected": "failed",
}
_MEDIA: Mapping[str, AttachmentKind] = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "file": "file",
    "whatsappSticker": "sticker",
}
_PHONE_PLATFORMS = {"sms", "whatsapp", "rcs"}


def read(body: JSON, hook: Webhook) -> list[InboundEvent]:
    """Return the message, or the status of one of ours. Raises BadPayload without message id or address."""
    item = object_in(body, "message")
    if not item:
        return [ignored(derived_id("event", body), "conversation_event")]
    account = text_in(item, "channelId") or ""
    if text_in(item, "direction") == "sent":
        return [_own(item, account, hook)]
    event = InboundEvent(
        "message",
        required(item, "id"),
        account,
        _sender(item, object_in(body, "contact")),
        sent_at=instant(text_in(item, "createdDatetime"), hook.received_at),
        message=_message(item),
    )
    return with_opt_event(event, hook.settings) if _platform(item) == "sms" else [event]


def _own(item: JSON, account: str, hook: Webhook) -> InboundEvent:
    """Return the status of a message that we sent; the message itself is known here already."""
    name = required(item, "id")
    word = (text_in(item, "status") or "").lower()
    status = _STATUSES.get(word)
    if status is None:
        return ignored(f"{name}:{word}", "own_message", account)
    person = text_in(item, "to")
    error = object_in(item, "error")
    return InboundEvent(
        "status",
        f"{name}:{word}",
        account,
        Sender(person, phone=_phone(item, person)) if person else None,
        sent_at=instant(text_in(item, "updatedDatetime"), hook.received_at),
        target_id=name,
        status=status,
        error=(text_in(error, "description", "code") or word) if status == "failed" else None,
    )


def _platform(item: JSON) -> str:
    return (text_in(item, "platform") or "").lower()


def _phone(item: JSON, address: str) -> str | None:
    return phone_in(address, plus=False) if _platform(item) in _PHONE_PLATFORMS else None


def _sender(item: JSON, contact: JSON) -> Sender:
    address = sender_id(item if text_in(item, "from") else contact, "from", "msisdn")
    own_id = text_in(contact, "id")
    names = text_in(contact, "firstName"), text_in(contact, "lastName")
    return Sender(
        address,
        aliases=(own_id,) if own_id and own_id != address else (),
        phone=_phone(item, address),
        display_name=text_in(contact, "displayName") or " ".join(filter(None, names)) or None,
        first_name=names[0],
        last_name=names[1],
    )


def _message(item: JSON) -> Message:
    content, kind = object_in(item, "content"), text_in(item, "type") or ""
    reply_to = text_in(object_in(item, "replyTo"), "id")
    return replace(_content(kind, content), reply_to=reply_to)


def _content(kind: str, content: JSON) -> Message:
    part = object_in(content, kind)
    if kind == "text":
        return Message("text", words_in(content, "text"))
    if kind in _MEDIA:
        media = Attachment(_MEDIA[kind], text_in(part, "url", "link"), mime_type=text_in(part, "mimeType"))
        return Message(_MEDIA[kind], words_in(part, "caption"), (media,))
    if kind == "location":
        place = place_in(part, "latitude", "longitude")
        if place:
            return Message("location", location=place)
    if kind == "button":
        return Message("button", words_in(part, "text"), payload=text_in(part, "payload"))
    if kind == "interactive":
        reply = object_in(part, "reply")
        if reply:
            return Message("interactive", words_in(reply, "text"), payload=text_in(reply, "id"))
    return Message("unsupported", raw_kind=kind or None, details=kept(content, kind))
