"""How a read event becomes a stored message: its key, its clean text, its content, whether it came late."""

from dataclasses import asdict
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from ingest.domain.events import InboundEvent, Message

# Longer texts exist only to cause trouble; the raw request is not kept, so the cut is marked in the content.
MAX_TEXT = 256 * 1024

STATUS_RANK = {"queued": 0, "sent": 1, "failed": 2, "delivered": 3, "read": 4}


def external_hash(external_id: str) -> str:
    """Return 128 bits of the id's hash, as 32 hexadecimal digits: what makes a message unique within its channel."""
    return blake2b(external_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def clean_text(text: str) -> str:
    """Return the text as PostgreSQL can hold it: without NUL, lone surrogates replaced. Clean text comes back as it is."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-8", "replace").decode()
    return text


def clean_value(value: Any) -> Any:
    """Return JSON-safe data with every text in it clean, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): clean_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean_value(each) for each in value]
    return value


def is_late(sent_at: datetime, accepted_at: datetime, late_after_seconds: float) -> bool:
    """Return whether the message was sent so long ago that no automation may answer it."""
    return accepted_at - sent_at > timedelta(seconds=late_after_seconds)


def message_content(event: InboundEvent) -> dict[str, Any] | None:
    """Return what the message holds beyond its text, or None: most hold nothing more.

    Keys: attachments, location, contacts, reply_to, payload, referral, subject, thread_ids, raw_kind, details, elsewhere.
    """
    message = event.message
    if message is None or _is_plain(message, event):
        return None
    content: dict[str, Any] = {}
    if message.attachments:
        content["attachments"] = [
            attachment_content(position, each) for position, each in enumerate(message.attachments)
        ]
    for name in (
        "location",
        "contacts",
        "reply_to",
        "payload",
        "referral",
        "subject",
        "thread_ids",
        "raw_kind",
        "details",
    ):
        value = getattr(message, name)
        if value:
            content[name] = _plain(value)
    if event.elsewhere:
        content["elsewhere"] = True
    if len(message.text) > MAX_TEXT:
        content["cut_at"] = MAX_TEXT
    cleaned: dict[str, Any] = clean_value(content)
    return cleaned or None


def attachment_content(position: int, attachment: Any) -> dict[str, Any]:
    """Return an attachment as a message's content names it; its bytes, where it has any, are stored beside.

    `state` is "stored" for bytes that came along and "pending" for those still to be fetched.
    """
    fields = {name: value for name, value in asdict(attachment).items() if value is not None and name != "content"}
    if attachment.content is not None:
        fields["size"] = len(attachment.content)
    return {**fields, "position": position, "state": "pending" if attachment.content is None else "stored"}


def _is_plain(message: Message, event: InboundEvent) -> bool:
    # In the order in which most messages are told apart.
    return not (
        message.attachments
        or message.reply_to
        or message.payload
        or message.details
        or message.location
        or message.contacts
        or message.referral
        or message.subject
        or message.thread_ids
        or message.raw_kind
        or event.elsewhere
        or len(message.text) > MAX_TEXT
    )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
