"""The custom-channel format that many in-house bridges speak already: one contact and its events in each request.

Source: respond.io, "Custom Channel Quick Start". Bridges look only for 2xx.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from ingest.channels.base import BadPayload, BadShape, Webhook, moment
from ingest.channels.envelope import require_object, require_words
from ingest.channels.fields import (
    as_object,
    attachment_kind,
    number_in,
    object_in,
    objects_in,
    read_each,
    required,
    sender_id,
    text_in,
    words_in,
)
from ingest.domain.events import (
    JSON,
    Attachment,
    AttachmentKind,
    EventKind,
    InboundEvent,
    Location,
    Message,
    Sender,
    StatusValue,
    ignored,
)

MAX_ID = 50
PHONE_ID = re.compile(r"\+[1-9][0-9]{5,14}", re.ASCII)
CUSTOM_ID = re.compile(r"[0-9A-Za-z_=+/@]+", re.ASCII)
EVENT_TYPES: dict[str, EventKind] = {"message": "message", "message_echo": "echo", "message_status": "status"}
STATUSES: dict[str, StatusValue] = {"sent": "sent", "delivered": "delivered", "read": "read", "failed": "failed"}
FILE_TYPES: dict[str, AttachmentKind] = {"image": "image", "video": "video", "audio": "audio", "file": "file"}


def check(hook: Webhook) -> None:
    """Raise BadShape naming the field unless the body has the format's shape. Message types are not limited."""
    try:
        body = as_object(hook.json())
    except BadPayload as broken:
        raise BadShape("body: must be a JSON object") from broken
    require_words(body, "channelId", "", MAX_ID)
    _check_contact_id(hook, require_words(body, "contactId", "", MAX_ID))
    if body.get("contact") is not None:
        require_object(body, "contact", "")
    events = body.get("events")
    if not isinstance(events, list) or not events:
        raise BadShape("events: must be a list that is not empty")
    for number, event in enumerate(events):
        _check_event(event, f"events[{number}]")


def _check_contact_id(hook: Webhook, contact_id: str) -> None:
    if hook.settings.get("contact_ids") == "phone" and not PHONE_ID.fullmatch(contact_id):
        raise BadShape("contactId: must be a phone number with + and country code")
    if not CUSTOM_ID.fullmatch(contact_id):
        raise BadShape("contactId: may hold letters, digits and _ = + / @")


def _check_event(event: object, path: str) -> None:
    if not isinstance(event, dict):
        raise BadShape(f"{path}: must be an object")
    kind = text_in(event, "type")
    if kind not in EVENT_TYPES:
        raise BadShape(f"{path}.type: must be one of {', '.join(EVENT_TYPES)}")
    require_words(event, "mId", f"{path}.", MAX_ID)
    at = event.get("timestamp")
    if not isinstance(at, int) or isinstance(at, bool):
        raise BadShape(f"{path}.timestamp: must be milliseconds since 1970, a whole number")
    if kind == "message_status":
        status = require_object(event, "status", f"{path}.")
        if text_in(status, "value") not in STATUSES:
            raise BadShape(f"{path}.status.value: must be one of {', '.join(STATUSES)}")
    else:
        require_words(require_object(event, "message", f"{path}."), "type", f"{path}.message.", MAX_ID)


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the body's events. Raises BadPayload where it has none, or no contact."""
    body = as_object(hook.json())
    events = body.get("events")
    if not isinstance(events, list):
        raise BadPayload("body without events")
    person = _person(hook, body)
    # Without a channel id in the settings there is nothing to compare with: the URL then says which channel it is.
    account = text_in(body, "channelId") or "" if hook.settings.get("channel_id") else ""
    return read_each(events, lambda event: [_read_event(hook, event, person, account)], account, "mId")


def _person(hook: Webhook, body: JSON) -> Sender:
    contact_id, contact = sender_id(body, "contactId"), object_in(body, "contact")
    first, last = text_in(contact, "firstName"), text_in(contact, "lastName")
    is_phone = hook.settings.get("contact_ids") != "custom" and PHONE_ID.fullmatch(contact_id) is not None
    return Sender(
        contact_id,
        phone=text_in(contact, "phone") or (contact_id if is_phone else None),
        email=text_in(contact, "email"),
        display_name=" ".join(filter(None, (first, last))) or None,
        first_name=first,
        last_name=last,
        language=text_in(contact, "language"),
        country_code=text_in(contact, "countryCode"),
        avatar_url=text_in(contact, "profilePic"),
    )


def _read_event(hook: Webhook, event: JSON, person: Sender, account: str) -> InboundEvent:
    message_id, kind = required(event, "mId"), EVENT_TYPES.get(text_in(event, "type") or "")
    if kind is None:
        return ignored(message_id, "unknown_event", account)
    at = moment(event.get("timestamp"), hook.received_at)
    read = InboundEvent(kind, message_id, account, person, at)
    if kind == "status":
        return _with_status(read, object_in(event, "status"))
    return replace(read, message=_content(object_in(event, "message")))


def _with_status(event: InboundEvent, status: JSON) -> InboundEvent:
    value = STATUSES.get(text_in(status, "value") or "")
    if value is None:
        raise BadPayload("status without a value")
    target = event.external_id
    return replace(
        event, external_id=f"{target}:{value}", target_id=target, status=value, error=text_in(status, "message")
    )


def _content(message: JSON) -> Message:
    kind = text_in(message, "type") or "none"
    read = READERS.get(kind)
    content = read(message) if read is not None else None
    return content or Message("unsupported", raw_kind=kind, details={"raw": message} if message else {})


def _text(message: JSON) -> Message | None:
    text = words_in(message, "text").strip()
    return Message("text", text) if text else None


def _attachment(message: JSON) -> Message | None:
    files = [object_in(message, "attachment"), *objects_in(message, "attachments")]
    read = tuple(file for each in files if (file := _file(each)) is not None)
    return Message(read[0].kind, words_in(message, "text").strip(), read) if read else None


def _file(file: JSON) -> Attachment | None:
    url, mime_type = text_in(file, "url"), text_in(file, "mimeType")
    if url is None:
        return None
    kind = FILE_TYPES.get(text_in(file, "type") or "") or attachment_kind(mime_type)
    return Attachment(kind, url, name=text_in(file, "fileName"), mime_type=mime_type)


def _location(message: JSON) -> Message | None:
    latitude, longitude = number_in(message, "latitude"), number_in(message, "longitude")
    if latitude is None or longitude is None:
        return None
    return Message("location", location=Location(latitude, longitude, address=text_in(message, "address")))


def _quick_reply(message: JSON) -> Message | None:
    title = words_in(message, "title").strip()
    return Message("button", title, payload=text_in(message, "payload")) if title else None


READERS: dict[str, Callable[[JSON], Message | None]] = {
    "text": _text,
    "attachment": _attachment,
    "location": _location,
    "quick_reply": _quick_reply,
}
