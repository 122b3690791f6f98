"""Our own format, shared by the web chat widget and by systems that write to a custom channel: an envelope of events.

`{"v": 1, "events": [{"id": …, "type": "message", "at": <ms>, "message": {"text": …}}, …]}`. What an event says stands
under the name of its type. Types: message, postback, form, edit, delete, read, consent, started; and typing, page,
ended, which are noted and not kept. The whole format is told in `docs/adding-a-channel.md`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from ingest.channels.base import Answer, BadPayload, BadShape, Webhook, moment
from ingest.channels.fields import (
    as_object,
    as_text,
    attachment_kind,
    count_in,
    kept,
    number_in,
    object_in,
    objects_in,
    read_each,
    required,
    text_in,
    words_in,
)
from ingest.domain.events import JSON, Attachment, EventKind, InboundEvent, Location, Message, Sender, ignored

VERSION = 1
MAX_EVENTS = 50
MAX_ID = 128
MAX_WORDS = 100_000
NOT_KEPT = frozenset({"typing", "page", "ended"})
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Frame:
    """What an event is read with: who sent it, what its id is made unique with, when it was received."""

    sender: Sender
    scope: str
    received_at: datetime

    def message_id(self, own_id: str) -> str:
        """Return the id by which a message of this sender is known."""
        return f"{self.scope}{own_id}"


def check_envelope(hook: Webhook) -> JSON:
    """Return the body when it has the shape of an envelope. Raises BadShape naming the field that has not."""
    try:
        body = hook.json()
    except BadPayload as broken:
        raise BadShape("body: must be JSON") from broken
    if not isinstance(body, dict):
        raise BadShape("body: must be an object")
    if body.get("v") != VERSION:
        raise BadShape(f"v: must be {VERSION}")
    events = body.get("events")
    if not isinstance(events, list) or not 1 <= len(events) <= MAX_EVENTS:
        raise BadShape(f"events: must be a list of 1 to {MAX_EVENTS}")
    for number, event in enumerate(events):
        _check_event(event, f"events[{number}]")
    return body


def require_words(holder: JSON, name: str, path: str, longest: int = MAX_WORDS) -> str:
    """Return a text that must be there. Raises BadShape naming it by its path."""
    value = holder.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise BadShape(f"{path}{name}: must be text of 1 to {longest} characters")
    return value


def require_object(holder: JSON, name: str, path: str) -> JSON:
    """Return an object that must be there. Raises BadShape naming it by its path."""
    value = holder.get(name)
    if not isinstance(value, dict):
        raise BadShape(f"{path}{name}: must be an object")
    return value


def _check_event(event: object, path: str) -> None:
    if not isinstance(event, dict):
        raise BadShape(f"{path}: must be an object")
    require_words(event, "id", f"{path}.", MAX_ID)
    kind = require_words(event, "type", f"{path}.", MAX_ID)
    at = event.get("at")
    if at is not None and (not isinstance(at, int) or isinstance(at, bool)):
        raise BadShape(f"{path}.at: must be milliseconds since 1970, a whole number")
    if kind in CHECKS:
        CHECKS[kind](require_object(event, kind, f"{path}."), f"{path}.{kind}.")


def _check_message(message: JSON, path: str) -> None:
    text, attachments = message.get("text"), message.get("attachments")
    if text is not None and (not isinstance(text, str) or len(text) > MAX_WORDS):
        raise BadShape(f"{path}text: must be text of up to {MAX_WORDS} characters")
    if attachments is not None and not isinstance(attachments, list):
        raise BadShape(f"{path}attachments: must be a list")
    for number, each in enumerate(attachments or []):
        file_path = f"{path}attachments[{number}]"
        if not isinstance(each, dict) or text_in(each, "upload_id", "url") is None:
            raise BadShape(f"{file_path}.upload_id: must be the id of an uploaded file")
    if not (text or "").strip() and not attachments and "location" not in message:
        raise BadShape(f"{path}text: a message needs text or attachments")


def _check_edit(edit: JSON, path: str) -> None:
    require_words(edit, "id", path, MAX_ID)
    require_words(edit, "text", path)


def _check_delete(delete: JSON, path: str) -> None:
    require_words(delete, "id", path, MAX_ID)


def _check_consent(consent: JSON, path: str) -> None:
    require_words(consent, "purpose", path, MAX_ID)
    if not isinstance(consent.get("granted"), bool):
        raise BadShape(f"{path}granted: must be true or false")


def _check_form(form: JSON, path: str) -> None:
    require_object(form, "fields", path)


def _check_postback(postback: JSON, path: str) -> None:
    require_words(postback, "payload", path)


def _check_read(read: JSON, path: str) -> None:
    if number_in(read, "up_to") is None:
        raise BadShape(f"{path}up_to: must be milliseconds since 1970")


CHECKS: dict[str, Callable[[JSON, str], None]] = {
    "message": _check_message,
    "edit": _check_edit,
    "delete": _check_delete,
    "consent": _check_consent,
    "form": _check_form,
    "postback": _check_postback,
    "read": _check_read,
}


def accepted(hook: Webhook) -> Answer:
    """Return the answer to an envelope: the ids it brought, all of them accepted."""
    body = hook.json()
    events = objects_in(body, "events") if isinstance(body, dict) else []
    told = {"accepted": [own_id for each in events if (own_id := text_in(each, "id"))], "rejected": []}
    return Answer(200, json.dumps(told).encode(), "application/json")


def read_envelope(hook: Webhook, frame_of: Callable[[JSON, JSON], Frame]) -> list[InboundEvent]:
    """Return the envelope's events; `frame_of` gets the envelope and the event. Raises BadPayload for other bodies."""
    body = as_object(hook.json())
    events = body.get("events")
    if not isinstance(events, list):
        raise BadPayload("envelope without events")
    return read_each(events, lambda event: [_read_event(event, frame_of(body, event))])


def _read_event(event: JSON, frame: Frame) -> InboundEvent:
    kind, event_id = text_in(event, "type") or "", frame.message_id(required(event, "id"))
    if kind in NOT_KEPT:
        return ignored(event_id, kind)
    if kind not in READERS:
        return ignored(event_id, "unknown_event")
    started = InboundEvent("message", event_id, sender=frame.sender, sent_at=moment(event.get("at"), frame.received_at))
    return READERS[kind](started, object_in(event, kind), frame)


def _read_message(event: InboundEvent, content: JSON, frame: Frame) -> InboundEvent:
    text = _words(content, "text")
    files = tuple(file for each in objects_in(content, "attachments") if (file := _file(each)) is not None)
    place, reply_to = _place(object_in(content, "location")), text_in(content, "reply_to")
    known = frame.message_id(reply_to) if reply_to else None
    if files:
        message = Message(files[0].kind, text, files, reply_to=known)
    elif place is not None:
        message = Message("location", text, location=place, reply_to=known)
    elif text:
        message = Message("text", text, reply_to=known)
    else:
        message = Message("unsupported", raw_kind="empty", reply_to=known, details={"raw": content})
    return replace(event, message=message)


def _words(holder: JSON, name: str) -> str:
    return CONTROL.sub("", words_in(holder, name)).strip()


def _file(file: JSON) -> Attachment | None:
    media_id, url = text_in(file, "upload_id"), text_in(file, "url")
    if media_id is None and url is None:
        return None
    mime_type = text_in(file, "mime", "mime_type")
    return Attachment(
        attachment_kind(mime_type),
        None if media_id else url,
        media_id,
        text_in(file, "name"),
        mime_type,
        count_in(file, "size"),
    )


def _place(location: JSON) -> Location | None:
    latitude, longitude = number_in(location, "latitude"), number_in(location, "longitude")
    if latitude is None or longitude is None:
        return None
    return Location(latitude, longitude, text_in(location, "name"), text_in(location, "address"))


def _read_postback(event: InboundEvent, postback: JSON, frame: Frame) -> InboundEvent:
    message = Message("postback", _words(postback, "title"), payload=text_in(postback, "payload"))
    return replace(event, message=message)


def _read_form(event: InboundEvent, form: JSON, frame: Frame) -> InboundEvent:
    fields = object_in(form, "fields")
    lines = [f"{name}: {text}" for name, value in fields.items() if (text := as_text(value))]
    text = CONTROL.sub("", "\n".join(lines))
    return replace(event, message=Message("form", text, details=kept(form, "form_id", "fields")))


def _read_edit(event: InboundEvent, edit: JSON, frame: Frame) -> InboundEvent:
    message = Message("text", _words(edit, "text"))
    return replace(event, kind="edit", target_id=frame.message_id(required(edit, "id")), message=message)


def _read_delete(event: InboundEvent, delete: JSON, frame: Frame) -> InboundEvent:
    return replace(event, kind="delete", target_id=frame.message_id(required(delete, "id")))


def _read_read(event: InboundEvent, read: JSON, frame: Frame) -> InboundEvent:
    up_to = moment(read.get("up_to"), frame.received_at)
    if up_to is None:
        raise BadPayload("read without a time")
    return replace(event, kind="status", status="read", up_to=up_to)


def _read_consent(event: InboundEvent, consent: JSON, frame: Frame) -> InboundEvent:
    kind: EventKind = "opt_in" if consent.get("granted") is True else "opt_out"
    return replace(event, kind=kind, reason=required(consent, "purpose"))


def _read_started(event: InboundEvent, _: JSON, frame: Frame) -> InboundEvent:
    return replace(event, kind="started")


READERS: dict[str, Callable[[InboundEvent, JSON, Frame], InboundEvent]] = {
    "message": _read_message,
    "postback": _read_postback,
    "form": _read_form,
    "edit": _read_edit,
    "delete": _read_delete,
    "read": _read_read,
    "consent": _read_consent,
    "started": _read_started,
}
