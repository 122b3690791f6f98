"""What Twilio's channels share: the signature, the three ways a request carries its fields, statuses and opt-outs.

Source: Twilio, "Webhooks security", "Messaging webhooks" and the Event Streams types `com.twilio.messaging.*`.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from ingest.channels.base import Answer, BadPayload, BadSignature, Setting, Webhook, clamp, require_equal
from ingest.channels.fields import (
    as_object,
    as_text,
    attachment_kind,
    instant,
    object_in,
    place_in,
    read_each,
    storable,
    text_in,
)
from ingest.channels.ids import is_junk_id
from ingest.channels.sms import opt_event, phone_in
from ingest.domain.events import (
    JSON,
    Attachment,
    InboundEvent,
    Location,
    MessageKind,
    Sender,
    StatusValue,
    ignored,
)

SIGNATURE_HEADER = "x-twilio-signature"
BODY_DIGEST = "bodySHA256"
AUTH_TOKEN = Setting("auth_token", "Auth token of the (sub)account; Twilio signs its requests with it", secret=True)
# An empty answer: any <Message> in it would be sent to the person.
ANSWER = Answer(200, b'<?xml version="1.0" encoding="UTF-8"?><Response/>', "text/xml")
OPTED_OUT_ERROR = "21610"

_STANDARD_PORTS = {"http": "80", "https": "443"}
_INBOUND = {"", "received", "receiving"}
_STATUSES: Mapping[str, StatusValue] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "undelivered": "failed",
    "failed": "failed",
}
_INTERIM = {"accepted", "scheduled", "queued", "sending", "canceled", "partially_delivered"}
_VCARDS = {"text/vcard", "text/x-vcard"}

Fields = Mapping[str, str]
ReadMessage = Callable[[Fields, Webhook], list[InboundEvent]]


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the auth token signed the URL as Twilio called it and the body's fields."""
    signed = _signed_body(hook)
    require_equal(
        hook.header(SIGNATURE_HEADER),
        *(
            base64.b64encode(hmac.digest(token.encode(), url.encode() + signed, "sha1")).decode()
            for token in hook.accepted("auth_token")
            for url in _spellings(hook.url)
        ),
    )


def _signed_body(hook: Webhook) -> bytes:
    """Return what is signed after the URL: sorted fields of a form, nothing of a JSON body, whose digest is in the URL."""
    if hook.method == "GET":
        return b""
    if BODY_DIGEST in hook.query:
        require_equal(hook.query[BODY_DIGEST].lower(), hashlib.sha256(hook.body).hexdigest())
        return b""
    fields: dict[str, set[str]] = {}
    try:
        for name, value in hook.form:
            fields.setdefault(name, set()).add(value)
    except BadPayload as broken:
        raise BadSignature("signed form cannot be read") from broken
    text = "".join(name + value for name in sorted(fields) for value in sorted(fields[name]))
    return text.encode("utf-8", "surrogateescape")


def _spellings(url: str) -> Iterator[str]:
    """Give the URL without its fragment, then with the standard port added or taken out: Twilio has signed either."""
    url = url.partition("#")[0]
    yield url
    scheme, host = urlsplit(url).scheme, urlsplit(url).netloc
    port = _STANDARD_PORTS.get(scheme)
    if port and host.endswith(f":{port}"):
        yield url.replace(f"//{host}", f"//{host.removesuffix(f':{port}')}", 1)
    elif port and not re.search(r":\d+$", host):
        yield url.replace(f"//{host}", f"//{host}:{port}", 1)


def parse(hook: Webhook, read_message: ReadMessage) -> list[InboundEvent]:
    """Return the request's messages and statuses: of a form, of a query (GET), or of a batch of Event Streams.

    Raises BadPayload where there is no message id or no address.
    """
    if hook.method == "GET":
        return _read(storable(hook.query.items()), hook, read_message)
    if BODY_DIGEST not in hook.query and "json" not in hook.header("content-type"):
        return _read(storable(hook.form), hook, read_message)
    body = hook.json()
    return read_each(
        body if isinstance(body, list) else [as_object(body)], lambda item: _read_streamed(item, hook, read_message)
    )


def _read_streamed(item: JSON, hook: Webhook, read_message: ReadMessage) -> list[InboundEvent]:
    """Read one event of Event Streams: the same fields as a form's, but written `messageSid`."""
    data = object_in(item, "data") or item
    fields = {name[:1].upper() + name[1:]: text for name, value in data.items() if (text := as_text(value)) is not None}
    if text_in(fields, "MessageSid") is None:
        name = text_in(item, "id")
        if name is None:
            raise BadPayload("twilio event without id")
        return [ignored(name, "unknown_event")]
    return _read(fields, hook, read_message)


def _read(fields: Fields, hook: Webhook, read_message: ReadMessage) -> list[InboundEvent]:
    status = (fields.get("MessageStatus") or fields.get("SmsStatus") or "").lower()
    if status not in _INBOUND:
        return _read_status(fields, status, hook.received_at)
    return read_message(fields, hook)


def with_opt_out_type(event: InboundEvent, fields: Fields) -> list[InboundEvent]:
    """Return the message, followed by the opt_out or opt_in that Twilio's Advanced Opt-Out made of it."""
    word = fields.get("OptOutType", "").strip().upper()
    return [event, opt_event(event, word, out=word == "STOP")] if word in {"STOP", "START"} else [event]


def _read_status(fields: Fields, status: str, received_at: datetime) -> list[InboundEvent]:
    sid, account = message_sid(fields), account_in(fields, "From")
    name = f"{sid}:{status}"
    if status not in _STATUSES:
        return [ignored(name, "interim_status" if status in _INTERIM else "unknown_status", account)]
    error = text_in(fields, "ErrorCode")
    event = InboundEvent(
        "status",
        name,
        account,
        Sender(address_in(fields, "To"), phone=phone_in(bare(address_in(fields, "To")))),
        sent_at=_done_at(fields, received_at),
        target_id=sid,
        status=_STATUSES[status],
        error=error if _STATUSES[status] == "failed" else None,
    )
    return [event, opt_event(event, OPTED_OUT_ERROR, out=True)] if error == OPTED_OUT_ERROR else [event]


def _done_at(fields: Fields, received_at: datetime) -> datetime | None:
    try:
        done = datetime.strptime(fields.get("RawDlrDoneDate", ""), "%y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError:
        return sent_at(fields, received_at)
    return clamp(done, received_at)


def message_sid(fields: Fields) -> str:
    """Return the message's id; the same for a text under each of its three names. Raises BadPayload without one."""
    sid = text_in(fields, "MessageSid", "SmsMessageSid", "SmsSid")
    if sid is None:
        raise BadPayload("twilio request without MessageSid")
    return sid


def address_in(fields: Fields, name: str) -> str:
    """Return an address as received. Raises BadPayload where it is missing or a placeholder ("null")."""
    address = _with_plus(fields.get(name, ""))
    if is_junk_id(bare(address)):
        raise BadPayload(f"twilio request without a usable {name}")
    return address


def account_in(fields: Fields, name: str) -> str:
    """Return our own side of a message without its prefix; "" where the request does not say."""
    return bare(_with_plus(fields.get(name, "")))


def _with_plus(address: str) -> str:
    """Give back the plus that stands unescaped in some forms, where decoding makes it a space."""
    return f"+{address.strip()}" if re.match(r" \d", address) else address.strip()


def bare(address: str) -> str:
    """Return an address without the prefix of its channel: `whatsapp:+447700900456` is a phone behind its prefix."""
    return re.sub(r"^[a-z]+:", "", address)


def sent_at(fields: Fields, received_at: datetime) -> datetime | None:
    """Return the time that Event Streams give a message; a form carries none."""
    return instant(text_in(fields, "Timestamp"), received_at)


def attachments_in(fields: Fields) -> tuple[Attachment, ...]:
    """Return the media in order, counted by the fields that are there and not by what NumMedia claims."""
    numbers = sorted(int(name[8:]) for name in fields if re.fullmatch(r"MediaUrl[0-9]{1,3}", name))
    found = []
    for number in numbers:
        mime_type = text_in(fields, f"MediaContentType{number}")
        found.append(Attachment(attachment_kind(mime_type), text_in(fields, f"MediaUrl{number}"), mime_type=mime_type))
    return tuple(found)


def media_message_kind(attachments: tuple[Attachment, ...]) -> MessageKind:
    """Return the kind of a message by its first attachment: a business card makes it a `contact`."""
    if not attachments:
        return "text"
    first = attachments[0]
    return "contact" if (first.mime_type or "").partition(";")[0].strip().lower() in _VCARDS else first.kind


def location_in(fields: Fields) -> Location | None:
    """Return the place of a location message; None where there is none."""
    return place_in(fields, "Latitude", "Longitude", text_in(fields, "Label"), text_in(fields, "Address"))
