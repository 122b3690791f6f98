"""Requests of any other system, read as the channel's `mapping` setting says: form, JSON or XML, by GET or POST.

A mapping is JSON; every key may be left out:

    {"proof": {"type": "hmac", "name": "x-signature", "prefix": "sha256="},
     "items": "data.messages", "sender": "from", "text": "body.text", "id": "id",
     "time": {"path": "sent", "format": "iso"}, "name": "profile.name", "phone": "from", "email": "mail",
     "media": ["image_url"], "ignore_if": ["direction=out"], "answer": {"status": 200, "type": "text/plain", "body": "OK"}}

A path is names and list positions joined by dots; in XML an attribute's name has an "@" before it. Without a path the
names that such systems commonly use are tried.
"""

import mimetypes
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec
from defusedxml import DefusedXmlException  # type: ignore[import-untyped] # it ships no types
from defusedxml.ElementTree import ParseError, fromstring  # type: ignore[import-untyped] # as above

from ingest.channels.base import (
    MAX_JSON_DEPTH,
    Answer,
    BadPayload,
    BadSignature,
    Webhook,
    clamp,
    moment,
    require_equal,
    require_hmac,
    unbase64,
    unhex,
)
from ingest.channels.fields import as_text, attachment_kind, instant, read_each, storable
from ingest.channels.ids import derived_id, is_junk_id
from ingest.domain.events import JSON, Attachment, InboundEvent, Message, Sender, ignored
from ingest.errors import BadSetting

SENDER_NAMES = ("from", "sender", "msisdn", "originator")
TEXT_NAMES = ("text", "message", "body", "content")
ID_NAMES = ("id", "message_id", "external_id")
TIME_NAMES = ("date", "time", "timestamp")


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests prove themselves: the `token` as bearer or in a header or parameter, or an HMAC with the `secret`."""

    type: Literal["bearer", "header", "query", "hmac"] = "bearer"
    name: str = "x-signature"
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the time is and how it is written: `s`, `ms`, `iso`, or a strptime format, in UTC unless it has a zone."""

    path: str
    format: str = "s"


class MappedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the other system takes for success."""

    status: int = 200
    type: str = "text/plain; charset=utf-8"
    body: str = ""

    def as_answer(self) -> Answer:
        """Return it as the web process sends it."""
        return Answer(self.status, self.body.encode(), self.type)


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A channel's mapping; see the module."""

    proof: Proof = Proof()
    items: str = ""
    sender: str = ""
    text: str = ""
    id: str = ""
    time: Time | None = None
    name: str = ""
    phone: str = ""
    email: str = ""
    media: str | list[str] = ""
    ignore_if: list[str] = []
    answer: MappedAnswer = MappedAnswer()


def read_mapping(hook: Webhook) -> Mapping | None:
    """Return the channel's mapping, None where it has none. Raises BadSetting saying what is wrong in it."""
    setting = hook.settings.get("mapping", "")
    return _decode_mapping(setting) if setting else None


@lru_cache(maxsize=256)
def _decode_mapping(setting: str) -> Mapping:
    try:
        return msgspec.json.decode(setting, type=Mapping)
    except msgspec.MsgspecError as wrong:
        raise BadSetting(f"channel setting mapping is not usable: {wrong}") from wrong


def verify(hook: Webhook, proof: Proof) -> None:
    """Raise BadSignature unless the request carries the proof."""
    name = proof.name.lower()
    if proof.type == "query":
        require_equal(hook.query.get(proof.name, ""), *hook.accepted("token"))
    elif proof.type == "header":
        require_equal(hook.header(name), *hook.accepted("token"))
    else:
        given = hook.header(name)
        if not given.startswith(proof.prefix):
            raise BadSignature("signature missing or wrong")
        digest = (
            unbase64(given[len(proof.prefix) :]) if proof.encoding == "base64" else unhex(given[len(proof.prefix) :])
        )
        require_hmac(digest, hook.body, proof.algorithm, *hook.accepted("secret"))


def parse(hook: Webhook, mapping: Mapping) -> list[InboundEvent]:
    """Return a message for each item. Raises BadPayload for a body that cannot be read, or without the items' path."""
    found = value_at(_read_body(hook), mapping.items)
    if found is None:
        raise BadPayload("body without the mapped items")
    items = found if isinstance(found, list) else [found]
    return read_each(items, lambda item: [_read_item(hook, mapping, item)])


def _read_body(hook: Webhook) -> Any:
    if hook.method == "GET":
        return storable(hook.query.items())
    start = hook.body.lstrip()[:1]
    if start in (b"{", b"["):
        return hook.json()
    return _read_xml(hook.body) if start == b"<" else storable(hook.form)


def _read_xml(body: bytes) -> Any:
    try:
        return _element(fromstring(body, forbid_dtd=True), MAX_JSON_DEPTH)
    except (ParseError, DefusedXmlException, UnicodeError, LookupError, ValueError) as broken:
        raise BadPayload("body is not XML that we can read") from broken


def _element(element: Any, depth: int) -> Any:
    """Return an XML element as JSON would say it: its text, or an object of its children and attributes."""
    if depth == 0:
        raise BadPayload(f"body nests deeper than {MAX_JSON_DEPTH}")
    inner: dict[str, Any] = {f"@{name}": value for name, value in element.attrib.items()}
    for child in element:
        value = _element(child, depth - 1)
        if child.tag in inner:
            before = inner[child.tag]
            inner[child.tag] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            inner[child.tag] = value
    return inner or (element.text or "")


def value_at(value: Any, path: str) -> Any:
    """Return what stands at a path of names and list positions joined by dots; None where nothing does."""
    for step in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _read_item(hook: Webhook, mapping: Mapping, item: JSON) -> InboundEvent:
    sender = _text_at(item, mapping.sender, SENDER_NAMES) or ""
    text = _text_at(item, mapping.text, TEXT_NAMES) or ""
    told_at = _text_at(item, mapping.time.path if mapping.time else "", TIME_NAMES)
    own_id = _text_at(item, mapping.id, ID_NAMES)
    # Without a time either, two equal texts are two messages: a repeated one is the lesser harm than a lost one.
    weak_id = derived_id("weak", sender, told_at or hook.received_at.isoformat(), text)
    for condition in mapping.ignore_if:
        path, _, unwanted = condition.partition("=")
        if as_text(value_at(item, path.strip())) == unwanted.strip():
            return ignored(own_id or weak_id, "filtered")
    if is_junk_id(sender):
        raise BadPayload("item without a sender")
    person = Sender(
        sender,
        phone=_text_at(item, mapping.phone, ()),
        email=_text_at(item, mapping.email, ()),
        display_name=_text_at(item, mapping.name, ("name",)),
    )
    message = _message(item, mapping, text, {} if own_id else {"weak_id": True})
    sent_at = _time(told_at, mapping.time, hook.received_at)
    return InboundEvent("message", own_id or weak_id, sender=person, sent_at=sent_at, message=message)


def _text_at(item: JSON, path: str, common: tuple[str, ...]) -> str | None:
    """Return the text at the mapped path, or else under the first common name that has one."""
    return next((text for each in ((path,) if path else common) if (text := as_text(value_at(item, each)))), None)


def _message(item: JSON, mapping: Mapping, text: str, details: JSON) -> Message:
    paths = [mapping.media] if isinstance(mapping.media, str) else mapping.media
    found = [value_at(item, path) for path in paths if path]
    urls = [url for each in found for url in (each if isinstance(each, list) else [each])]
    files = tuple(_file(url) for each in urls if (url := as_text(each)))
    if files:
        return Message(files[0].kind, text, files, details=details)
    if text:
        return Message("text", text, details=details)
    return Message("unsupported", raw_kind="empty", details={**details, "raw": item})


def _file(url: str) -> Attachment:
    mime_type = mimetypes.guess_type(url.partition("?")[0])[0]
    return Attachment(attachment_kind(mime_type), url, mime_type=mime_type)


def _time(text: str | None, time: Time | None, received_at: datetime) -> datetime | None:
    form = time.format if time is not None else ""
    if form == "iso":
        return instant(text, received_at)
    if text is None or form in ("s", "ms"):
        return moment(text, received_at)
    if not form:
        return moment(text, received_at) or instant(text, received_at)
    try:
        at = datetime.strptime(text, form)  # noqa: DTZ007, the next line gives a zone to those without
        return clamp(at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC), received_at)
    except (ValueError, OverflowError):
        return None
