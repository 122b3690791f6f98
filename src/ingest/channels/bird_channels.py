"""Bird Channels: one message or status of any of its channels per request.

Source: Bird, Channels API, "Webhook subscriptions", "Message" and "Receiving messages".
"""

from collections.abc import Mapping
from datetime import datetime

from ingest.channels.base import Webhook, moment
from ingest.channels.fields import (
    as_object,
    attachment_kind,
    instant,
    kept,
    object_in,
    objects_in,
    place_in,
    required,
    sender_id,
    text_in,
    words_in,
)
from ingest.channels.ids import derived_id
from ingest.channels.sms import phone_in, with_opt_event
from ingest.domain.events import JSON, Attachment, InboundEvent, Location, Message, Sender, StatusValue, ignored

_STATUSES: Mapping[str, StatusValue] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "failed": "failed",
    "rejected": "failed",
    "sending_failed": "failed",
    "delivery_failed": "failed",
}
_INTERIM = {"accepted", "processing", "scheduled"}


def read(body: JSON, hook: Webhook) -> list[InboundEvent]:
    """Return the message, or the status of one of ours. Raises BadPayload without message id or address."""
    channel, _, direction = (text_in(body, "event") or "").partition(".")
    payload = as_object(body.get("payload"))
    account = text_in(payload, "channelId") or ""
    if direction == "outbound":
        return [_status(payload, account, hook.received_at)]
    if direction != "inbound":
        reason = "interaction" if direction == "interaction" else "unknown_event"
        return [ignored(derived_id("event", body), reason, account)]
    event = InboundEvent(
        "message",
        required(payload, "id"),
        account,
        _sender(payload),
        sent_at=_sent_at(payload, hook.received_at),
        message=_message(payload),
    )
    return with_opt_event(event, hook.settings) if channel == "sms" else [event]


def _status(payload: JSON, account: str, received_at: datetime) -> InboundEvent:
    target_id, word = required(payload, "id"), required(payload, "status").lower()
    name, status = f"{target_id}:{word}", _STATUSES.get(word)
    if status is None:
        return ignored(name, "interim_status" if word in _INTERIM else "unknown_status", account)
    people = objects_in(object_in(payload, "receiver"), "contacts")
    person = text_in(people[0], "identifierValue") if people else None
    return InboundEvent(
        "status",
        name,
        account,
        Sender(person, phone=_phone(people[0], person)) if person else None,
        sent_at=instant(text_in(payload, "updatedAt"), received_at),
        target_id=target_id,
        status=status,
        error=(text_in(payload, "reason") or word) if status == "failed" else None,
    )


def _phone(contact: JSON, address: str) -> str | None:
    return phone_in(address, plus=False) if text_in(contact, "identifierKey") == "phonenumber" else None


def _extra(payload: JSON) -> JSON:
    return object_in(object_in(payload, "meta"), "extraInformation")


def _sender(payload: JSON) -> Sender:
    contact = object_in(object_in(payload, "sender"), "contact")
    user_id = text_in(_extra(payload), "whatsappbsuid")
    known = {**contact, "whatsappbsuid": user_id}
    # A WhatsApp user without a visible phone has no identifierValue.
    address = sender_id(known, "identifierValue", "whatsappbsuid", "id")
    others = (user_id, text_in(contact, "id"))
    name = text_in(object_in(contact, "annotations"), "name") or text_in(_extra(payload), "whatsappusername")
    return Sender(
        address,
        aliases=tuple(other for other in others if other and other != address),
        phone=_phone(contact, address),
        display_name=name,
    )


def _sent_at(payload: JSON, received_at: datetime) -> datetime | None:
    """Return the network's own time where Bird passes it on, else the time of Bird's receiving it."""
    return moment(_extra(payload).get("timestamp"), received_at) or instant(text_in(payload, "createdAt"), received_at)


def _message(payload: JSON) -> Message:
    body = object_in(payload, "body")
    kind = text_in(body, "type") or ""
    part = object_in(body, kind)
    reply_to = text_in(object_in(payload, "replyTo"), "id")
    references = [text for each in objects_in(payload, "parts") if (text := text_in(each, "platformReference"))]
    details = {"platform_references": references} if references else {}
    if kind == "text":
        return Message("text", words_in(part, "text"), reply_to=reply_to, details=details)
    if kind in {"image", "gif", "file"}:
        files = _files(kind, part)
        shown = files[0].kind if files else "file"
        return Message(shown, words_in(part, "text"), files, reply_to=reply_to, details=details)
    place = _location(part) if kind == "location" else None
    if place:
        return Message("location", location=place, reply_to=reply_to, details=details)
    return Message("unsupported", raw_kind=kind or None, reply_to=reply_to, details={**details, **kept(body, kind)})


def _files(kind: str, part: JSON) -> tuple[Attachment, ...]:
    if kind != "file":
        images = objects_in(part, "images") or [dict(part)]
        return tuple(Attachment("image", text_in(each, "mediaUrl"), name=text_in(each, "altText")) for each in images)
    return tuple(
        Attachment(
            attachment_kind(text_in(each, "contentType")),
            text_in(each, "mediaUrl"),
            name=text_in(each, "filename"),
            mime_type=text_in(each, "contentType"),
        )
        for each in objects_in(part, "files")
    )


def _location(part: JSON) -> Location | None:
    place, address = object_in(part, "coordinates"), object_in(part, "location")
    return place_in(place, "latitude", "longitude", text_in(address, "label"), text_in(address, "address"))
