"""MessageBird and Bird: forwarded SMS (form or query), Conversations and Bird Channels (JSON), told apart by their bodies.

Source: MessageBird, "SMS forwarding" and "Handle a status report"; the JSON bodies have modules of their own.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from mimetypes import guess_type
from urllib.parse import urlsplit

from ingest.channels import bird_channels, messagebird, messagebird_conversations
from ingest.channels.base import Adapter, Answer, BadPayload, Setting, Webhook, clamp, decode_json
from ingest.channels.fields import as_object, attachment_kind, instant, required, sender_id, storable, text_in, words_in
from ingest.channels.ids import derived_id
from ingest.channels.sms import WORD_SETTINGS, opt_event, phone_in, with_opt_event
from ingest.domain.events import Attachment, InboundEvent, Message, Sender, StatusValue, ignored

OPTED_OUT_ERROR = "103"

_STATUSES: Mapping[str, StatusValue] = {
    "sent": "sent",
    "delivered": "delivered",
    "expired": "failed",
    "delivery_failed": "failed",
    "failed": "failed",
}
_INTERIM = {"scheduled", "buffered", "accepted"}

Pairs = list[tuple[str, str]]


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the request's message or status, and an opt_out or opt_in where all of an SMS is such a word.

    Raises BadPayload where there is no message id or no address.
    """
    if hook.method == "GET":
        return _read_sms(list(hook.query.items()), hook)
    if "json" not in hook.header("content-type"):
        return _read_sms(hook.form, hook)
    body = as_object(hook.json())
    if "payload" in body:
        return bird_channels.read(body, hook)
    if "message" in body or "conversation" in body:
        return messagebird_conversations.read(body, hook)
    return [ignored(derived_id("event", body), "unknown_event")]


def _read_sms(pairs: Pairs, hook: Webhook) -> list[InboundEvent]:
    # The case of names varies between accounts, and `id` is known to come twice.
    fields = {name.lower(): value for name, value in storable(pairs).items()}
    if "status" in fields and "originator" not in fields:
        return _read_report(fields, hook.received_at)
    address = sender_id(fields, "originator", "sender", "msisdn")
    attachments = _media(pairs)
    event = InboundEvent(
        "message",
        required(fields, "id", "mid"),
        _account(fields),
        Sender(address, phone=phone_in(address, plus=False)),
        sent_at=_sent_at(fields, hook.received_at),
        message=Message(
            attachments[0].kind if attachments else "text",
            next((words for name in ("body", "payload", "message") if (words := words_in(fields, name))), ""),
            attachments,
        ),
    )
    return with_opt_event(event, hook.settings)


def _account(fields: Mapping[str, str]) -> str:
    return text_in(fields, "recipient", "receiver", "shortcode") or ""


def _sent_at(fields: Mapping[str, str], received_at: datetime) -> datetime | None:
    text = text_in(fields, "createddatetime")
    if text:
        # The plus of the zone, unescaped in a form, arrives as a space.
        return instant(re.sub(r"(T\S+) (\d\d:?\d\d)$", r"\1+\2", text), received_at)
    try:
        at = datetime.strptime(text_in(fields, "receive_datetime") or "", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return clamp(at, received_at)


def _media(pairs: Pairs) -> tuple[Attachment, ...]:
    """Return the files of an MMS, whose URLs come as repeated fields or as one JSON array."""
    urls: list[str] = []
    for name, value in pairs:
        if name.lower().startswith("mediaurls"):
            urls += [url for kept in storable([(name, value)]).values() for url in _urls(kept)]
    return tuple(_attachment(url) for url in urls if url)


def _urls(value: str) -> list[str]:
    if not value.startswith("["):
        return [value.strip()]
    try:
        listed = decode_json(value)
    except BadPayload:
        return []
    return [url.strip() for url in listed if isinstance(url, str)]


def _attachment(url: str) -> Attachment:
    try:
        mime_type = guess_type(urlsplit(url).path)[0]
    except ValueError:
        mime_type = None
    return Attachment(attachment_kind(mime_type), url, mime_type=mime_type)


def _read_report(fields: Mapping[str, str], received_at: datetime) -> list[InboundEvent]:
    target_id, word = required(fields, "id"), required(fields, "status").lower()
    name = f"{target_id}:{word}"
    if word not in _STATUSES:
        return [ignored(name, "interim_status" if word in _INTERIM else "unknown_status")]
    person = text_in(fields, "recipient")
    error = text_in(fields, "statuserrorcode")
    event = InboundEvent(
        "status",
        name,
        sender=Sender(person, phone=phone_in(person, plus=False)) if person else None,
        sent_at=instant(text_in(fields, "statusdatetime"), received_at),
        target_id=target_id,
        status=_STATUSES[word],
        error=(error or word) if _STATUSES[word] == "failed" else None,
    )
    opted_out = error == OPTED_OUT_ERROR and person
    return [event, opt_event(event, OPTED_OUT_ERROR, out=True)] if opted_out else [event]


ADAPTER = Adapter(
    "messagebird_sms",
    messagebird.verify,
    parse,
    settings=(
        Setting("signing_key", "Signing key of the account or of the webhook; it is not the API key", secret=True),
        Setting("account", "Our number as MessageBird writes it, or the channel id of Bird", required=False),
        *WORD_SETTINGS,
    ),
    answer=Answer(200, b"OK"),
    account_setting="account",
    address_kind="phone",
    startable=True,
    source="message_bird",
)
