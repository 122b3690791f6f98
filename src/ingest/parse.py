"""A captured webhook request in, its events as JSON-ready dicts out: what `ingest parse` prints.

The same adapters as in production read the request; no database is needed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from ingest.channels.base import Adapter, Webhook
from ingest.channels.registry import get_adapter
from ingest.domain.events import Attachment, InboundEvent, Message
from ingest.errors import BadSignature
from ingest.requests import read_request

# Shown even when empty, so that a reader of the lines finds the same keys in each of them.
ALWAYS_IN_MESSAGE = frozenset({"kind", "text", "attachments", "location", "contacts", "reply_to"})
ALWAYS_IN_EVENT = frozenset({"kind", "external_id", "account", "sender", "sent_at", "message"})


def parse_file(
    code: str, raw: bytes, settings: Mapping[str, str], verify: bool, received_at: datetime
) -> list[dict[str, Any]]:
    """Return the events of one raw HTTP/1.1 request to a channel of this code, each as `to_json` gives it.

    `settings` holds plain settings and secrets alike, and optionally `public_url` (see `RawRequest.url`). A provider's
    set-up request has no events. Raises BadSignature when the proof fails and `verify` is set, BadShape and BadPayload
    for what cannot be read, BadRequest for bytes that are no request, UnknownChannelCode for the code.
    """
    adapter = get_adapter(code)
    hook = _webhook(adapter, raw, settings, received_at)
    if adapter.handshake is not None and (answer := adapter.handshake(hook)) is not None:
        if verify and answer.status >= 400:
            raise BadSignature("set-up request refused")
        return []
    if verify:
        adapter.verify(hook)
    if adapter.check is not None:
        adapter.check(hook)
    return [to_json(event) for event in adapter.parse(hook)]


def _webhook(adapter: Adapter, raw: bytes, settings: Mapping[str, str], received_at: datetime) -> Webhook:
    request = read_request(raw)
    secret_names = {each.name for each in adapter.settings if each.secret}
    given = {each.name: each.default for each in adapter.settings if each.default} | dict(settings)
    return Webhook(
        method=request.method,
        url=request.url(given.get("public_url", "")),
        headers=request.headers,
        body=request.body,
        settings={name: value for name, value in given.items() if name not in secret_names},
        secrets={name: (value,) for name, value in given.items() if name in secret_names},
        received_at=received_at,
    )


def to_json(event: InboundEvent) -> dict[str, Any]:
    """Return the event as a dict of JSON values: times are ISO 8601 in UTC, empty optional fields are left out.

    A file carried along is shown by its size and SHA-256. An ignored item is its kind, id, account and reason.
    """
    if event.kind == "ignored":
        return {
            "kind": "ignored",
            "external_id": event.external_id,
            "account": event.account,
            "reason": event.reason,
        }
    shown: dict[str, Any] = {}
    for each in fields(event):
        value = getattr(event, each.name)
        if each.name in ALWAYS_IN_EVENT or (value and value != each.default):
            shown[each.name] = _plain(value)
    if event.emoji is not None:
        shown["emoji"] = event.emoji
    return shown


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Message):
        return _plain_message(value)
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))  # type: ignore[call-overload]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def _plain_message(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for each in fields(message):
        value = getattr(message, each.name)
        if each.name == "attachments":
            shown[each.name] = [_plain_attachment(attachment) for attachment in value]
        elif each.name in ALWAYS_IN_MESSAGE or value:
            shown[each.name] = _plain(value)
    return shown


def _plain_attachment(attachment: Attachment) -> dict[str, Any]:
    shown = {
        "kind": attachment.kind,
        "url": attachment.url,
        "media_id": attachment.media_id,
        "name": attachment.name,
        "mime_type": attachment.mime_type,
        "size": attachment.size,
    }
    if attachment.content is not None:
        shown["size"] = len(attachment.content)
        shown["sha256"] = hashlib.sha256(attachment.content).hexdigest()
    return shown
