"""Vonage: the SMS API (form, query or JSON, one part of a message each) and the Messages API (JSON, several channels).

Source: Vonage, "Inbound SMS", "Delivery receipts", "Concatenation and encoding"; Messages API, "Inbound message" and
"Message status".
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from ingest.channels import vonage
from ingest.channels.base import Adapter, Answer, Setting, Webhook
from ingest.channels.fields import (
    as_object,
    count_in,
    instant,
    kept,
    object_in,
    objects_in,
    place_in,
    required,
    sender_id,
    storable,
    text_in,
    words_in,
)
from ingest.channels.sms import WORD_SETTINGS, phone_in, with_opt_event
from ingest.domain.events import (
    JSON,
    Attachment,
    AttachmentKind,
    ContactCard,
    InboundEvent,
    Message,
    Sender,
    StatusValue,
    ignored,
)

_STATUSES: Mapping[str, StatusValue] = {
    "delivered": "delivered",
    "read": "read",
    "submitted": "sent",
    "expired": "failed",
    "failed": "failed",
    "rejected": "failed",
    "undeliverable": "failed",
}
_INTERIM = {"accepted", "buffered"}
_MEDIA: Mapping[str, AttachmentKind] = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "file": "file",
    "sticker": "sticker",
}
# On these the person is known by the phone that the network vouches for; elsewhere `from` is another kind of id.
_PHONE_CHANNELS = {"sms", "mms", "rcs", "whatsapp", "viber_service"}
_WORD_CHANNELS = {"sms", "mms", "rcs"}


def handshake(hook: Webhook) -> Answer | None:
    """Return the answer to the reachability check, a request without a single parameter; None for anything else."""
    return Answer() if not hook.query and not hook.body.strip() else None


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the request's message or status, and an opt_out or opt_in where all of a text is such a word.

    Each part of a long SMS comes in a request of its own and is a message of its own here: `details.concat` has
    `ref`, `part` and `total` for whoever joins them. Raises BadPayload without message id or address.
    """
    body = as_object(hook.json()) if hook.method != "GET" and "json" in hook.header("content-type") else {}
    if "message_uuid" in body:
        return _read_messages_api(body, hook)
    return _read_sms(vonage.sms_fields(hook), hook)


def _read_sms(raw: Mapping[str, str], hook: Webhook) -> list[InboundEvent]:
    fields = storable(raw.items())
    if "status" in fields:
        return [_sms_receipt(fields, hook)]
    concat = _concat(fields)
    event = InboundEvent(
        "message",
        required(fields, "messageId", "message-id"),
        text_in(fields, "to") or "",
        _sms_sender(fields),
        sent_at=instant(text_in(fields, "message-timestamp"), hook.received_at),
        message=_sms_message(fields, concat),
    )
    # A part is not a whole message, whatever single word it may hold.
    return [event] if concat else with_opt_event(event, hook.settings)


def _sms_sender(fields: JSON) -> Sender:
    address = sender_id(fields, "msisdn")
    return Sender(address, phone=phone_in(address, plus=False))


def _sms_message(fields: JSON, concat: JSON) -> Message:
    kind = text_in(fields, "type") or "text"
    details = {**kept(fields, "data", "udh"), **({"concat": concat} if concat else {})}
    if kind in {"text", "unicode"}:
        return Message("text", words_in(fields, "text"), details=details)
    return Message("unsupported", words_in(fields, "text"), raw_kind=kind, details=details)


def _concat(fields: JSON) -> dict[str, object]:
    if (text_in(fields, "concat") or "").lower() != "true":
        return {}
    return {
        "ref": text_in(fields, "concat-ref"),
        "part": count_in(fields, "concat-part"),
        "total": count_in(fields, "concat-total"),
    }


def _sms_receipt(fields: JSON, hook: Webhook) -> InboundEvent:
    code = text_in(fields, "err-code")
    return _status(
        required(fields, "messageId", "message-id"),
        required(fields, "status").lower(),
        InboundEvent(
            "status",
            "",
            text_in(fields, "to") or "",
            _sms_sender(fields),
            sent_at=instant(text_in(fields, "message-timestamp"), hook.received_at),
            error=None if code == "0" else code,
        ),
    )


def _status(target_id: str, word: str, event: InboundEvent) -> InboundEvent:
    """Return the status event that the provider's word makes of a half-filled one; ignored where it is no news."""
    name = f"{target_id}:{word}"
    status = _STATUSES.get(word)
    if status is None:
        return ignored(name, "interim_status" if word in _INTERIM else "unknown_status", event.account)
    error = (event.error or word) if status == "failed" else None
    return replace(event, external_id=name, target_id=target_id, status=status, error=error)


def _read_messages_api(body: JSON, hook: Webhook) -> list[InboundEvent]:
    name, at = required(body, "message_uuid"), instant(text_in(body, "timestamp"), hook.received_at)
    if "status" in body and "message_type" not in body:
        person = sender_id(body, "to")
        error = object_in(body, "error")
        account = text_in(body, "from") or ""
        event = InboundEvent(
            "status", "", account, _sender(body, person), at, error=text_in(error, "title", "detail", "type")
        )
        return [_status(name, required(body, "status").lower(), event)]
    event = InboundEvent("message", name, text_in(body, "to") or "", _sender(body, sender_id(body, "from")), at)
    kind = text_in(body, "message_type") or ""
    reply_to = text_in(object_in(body, "context"), "message_uuid")
    if kind == "reaction" and reply_to:
        return [_reaction(event, object_in(body, "reaction"), reply_to)]
    message = replace(
        _message(kind, body), reply_to=reply_to, referral=object_in(object_in(body, "whatsapp"), "referral") or None
    )
    event = replace(event, message=message)
    return with_opt_event(event, hook.settings) if _channel(body) in _WORD_CHANNELS else [event]


def _channel(body: JSON) -> str:
    return (text_in(body, "channel") or "").lower()


def _sender(body: JSON, address: str) -> Sender:
    """Return the person behind an address; WhatsApp may give the phone, the id that hides it, or both."""
    ids, profile = object_in(body, "whatsapp"), object_in(body, "profile")
    others = [text_in(ids, "wa_id"), text_in(ids, "user_id")]
    by_phone = _channel(body) in _PHONE_CHANNELS
    phones = (phone_in(each, plus=False) for each in (address, others[0]) if each and by_phone)
    return Sender(
        address,
        aliases=tuple(other for other in others if other and other != address),
        phone=next((phone for phone in phones if phone), None),
        display_name=text_in(profile, "name", "username"),
    )


def _reaction(event: InboundEvent, reaction: JSON, target_id: str) -> InboundEvent:
    taken_off = text_in(reaction, "action") == "unreact"
    return replace(
        event, kind="reaction", target_id=target_id, emoji="" if taken_off else text_in(reaction, "emoji") or ""
    )


def _message(kind: str, body: JSON) -> Message:
    if kind == "text":
        return Message("text", words_in(body, "text"))
    part = object_in(body, kind)
    if kind in _MEDIA:
        media = Attachment(_MEDIA[kind], text_in(part, "url"), name=text_in(part, "name"))
        return Message(_MEDIA[kind], words_in(part, "caption"), (media,))
    reader = _READERS.get(kind)
    message = reader(part) if reader else None
    return message or Message("unsupported", raw_kind=kind or None, details=kept(body, kind))


def _location(part: JSON) -> Message | None:
    place = place_in(part, "lat", "long", text_in(part, "name"), text_in(part, "address"))
    return Message("location", location=place) if place else None


def _vcard(part: JSON) -> Message:
    card = Attachment("file", text_in(part, "url"), name=text_in(part, "name"), mime_type="text/vcard")
    return Message("contact", words_in(part, "caption"), (card,))


def _cards(part: JSON) -> Message | None:
    cards = tuple(_card(each) for each in objects_in(part, "contacts") or [dict(part)])
    return Message("contact", contacts=cards) if any(card != ContactCard() for card in cards) else None


def _card(card: JSON) -> ContactCard:
    name = text_in(object_in(card, "name"), "formatted_name") or text_in(card, "name")
    phones = (text_in(each, "phone") for each in objects_in(card, "phones"))
    emails = (text_in(each, "email") for each in objects_in(card, "emails"))
    return ContactCard(name, tuple(filter(None, phones)), tuple(filter(None, emails)))


_READERS: Mapping[str, Callable[[JSON], Message | None]] = {
    "location": _location,
    "vcard": _vcard,
    "contact": _cards,
    "reply": lambda part: Message("interactive", words_in(part, "title"), payload=text_in(part, "id")),
    "button": lambda part: Message("button", words_in(part, "text"), payload=text_in(part, "payload")),
    "order": lambda part: Message("order", payload=msgspec.json.encode(part).decode()),
}


ADAPTER = Adapter(
    "vonage_sms",
    vonage.verify,
    parse,
    settings=(
        Setting("signature_secret", "Signature secret of the account; ask support to sign inbound SMS", secret=True),
        Setting(
            "signature_method",
            f"How the account signs SMS: one of {', '.join(vonage.METHODS)}",
            required=False,
            default=vonage.DEFAULT_METHOD,
        ),
        Setting("number", "Our number as Vonage writes it, digits without plus", required=False),
        *WORD_SETTINGS,
    ),
    handshake=handshake,
    account_setting="number",
    address_kind="phone",
    startable=True,
    source="nexmo",
)
