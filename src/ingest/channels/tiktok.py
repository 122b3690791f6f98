"""TikTok Business Messaging: one event per request for any of the app's businesses, proved by a signature with a time.

Source: TikTok for Developers, "Webhooks" (signature, retries); Business Messaging is documented to partners only, so
its shapes are those that public connectors read, and every field may be missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from ingest.channels.base import (
    Adapter,
    BadSignature,
    Setting,
    Webhook,
    decode_json,
    moment,
    require_hmac,
    unhex,
)
from ingest.channels.fields import as_object, kept, object_in, required, sender_id, text_in, words_in
from ingest.channels.ids import derived_id
from ingest.domain.events import JSON, Attachment, AttachmentKind, InboundEvent, Message, Sender, ignored

SIGNATURE_HEADER = "tiktok-signature"
# Retries go on for three days, and it is not known whether each is signed anew; the message id stops a replay.
OLDEST_SIGNATURE = timedelta(hours=72)
NEWEST_SIGNATURE = timedelta(minutes=5)

_MEDIA: Mapping[str, AttachmentKind] = {"image": "image", "video": "video", "sticker": "sticker"}
_KNOWN_EVENTS = {"tiktok.ping", "comment.update", "im_receive_high_intent_comment"}
_AUTO_MESSAGE_PREFIX = "im_auto_message_"
# All of a referral's content but this is about how the person came.
_ENVELOPE = {
    "type",
    "message_id",
    "conversation_id",
    "timestamp",
    "unique_identifier",
    "from",
    "to",
    "from_user",
    "to_user",
}


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the client secret signed the time and the body, not more than 72 hours ago."""
    # The values are base64-like in some accounts: split at the first "=" only.
    parts = dict(part.strip().partition("=")[::2] for part in hook.header(SIGNATURE_HEADER).split(","))
    stamp = parts.get("t", "")
    signed = stamp.encode("utf-8", "replace") + b"." + hook.body
    require_hmac(unhex(parts.get("s", "")), signed, "sha256", *hook.accepted("client_secret"))
    signed_at = moment(stamp, hook.received_at)
    if signed_at is None or not -OLDEST_SIGNATURE <= signed_at - hook.received_at <= NEWEST_SIGNATURE:
        raise BadSignature("signed time is outside the window")


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return what the event means. Raises BadPayload without event name, or for a message without id or person.

    `account` is the business that the event is for: one URL of the app serves them all.
    """
    body = as_object(hook.json())
    kind, account = required(body, "event"), text_in(body, "user_openid") or ""
    reader = _READERS.get(kind)
    if reader is None:
        known = kind in _KNOWN_EVENTS or kind.startswith(_AUTO_MESSAGE_PREFIX)
        return [ignored(derived_id("event", body), kind if known else "unknown_event", account)]
    return [reader(_content(body), body, hook)]


def _content(body: JSON) -> JSON:
    """Return the content, which is JSON inside a JSON string."""
    content = body.get("content")
    return as_object(decode_json(content) if isinstance(content, str) else content)


def _read_message(content: JSON, body: JSON, hook: Webhook) -> InboundEvent:
    """Read a message or, where the business is its author, an echo of what was sent from the app or another tool."""
    account = text_in(body, "user_openid") or ""
    echo = text_in(body, "event") == "im_send_msg" or _from_business(content, account)
    return InboundEvent(
        "echo" if echo else "message",
        required(content, "message_id"),
        account,
        _person(content, "to" if echo else "from"),
        sent_at=_sent_at(content, body, hook),
        message=replace(_message(content), referral=object_in(content, "referral") or None),
    )


def _read_stripped(content: JSON, body: JSON, hook: Webhook) -> InboundEvent:
    """Read a message of a person in Europe, which comes without its text; some accounts are sent no ids either."""
    account = text_in(body, "user_openid") or ""
    if text_in(content, "message_id") is None or _address(content, "from") is None:
        return ignored(derived_id("event", body), "stripped", account)
    return InboundEvent(
        "message",
        required(content, "message_id"),
        account,
        _person(content, "from"),
        sent_at=_sent_at(content, body, hook),
        message=Message("unsupported", raw_kind=text_in(body, "event"), details=kept(content, "conversation_id")),
    )


def _read_seen(content: JSON, body: JSON, hook: Webhook) -> InboundEvent:
    account = text_in(body, "user_openid") or ""
    up_to = moment(object_in(content, "read").get("last_read_timestamp"), hook.received_at)
    person = None if _from_business(content, account) else _address(content, "from")
    name = derived_id("read", account, person, text_in(content, "conversation_id"), content.get("read"))
    if up_to is None or person is None:
        return ignored(name, "read_without_reader", account)
    return InboundEvent(
        "status",
        name,
        account,
        _person(content, "from"),
        sent_at=_sent_at(content, body, hook),
        up_to=up_to,
        status="read",
    )


def _read_referral(content: JSON, body: JSON, hook: Webhook) -> InboundEvent:
    account = text_in(body, "user_openid") or ""
    referral = object_in(content, "referral") or kept(content, *(name for name in content if name not in _ENVELOPE))
    return InboundEvent(
        "started",
        derived_id("referral", account, content),
        account,
        _person(content, "from"),
        sent_at=_sent_at(content, body, hook),
        message=Message("text", referral=referral or None),
    )


def _sent_at(content: JSON, body: JSON, hook: Webhook) -> datetime | None:
    return moment(content.get("timestamp"), hook.received_at) or moment(body.get("create_time"), hook.received_at)


def _from_business(content: JSON, account: str) -> bool:
    author = object_in(content, "from_user")
    return text_in(author, "id") == account or text_in(author, "role") == "business_account"


def _address(content: JSON, side: str) -> str | None:
    own = text_in(object_in(content, f"{side}_user"), "id")
    return text_in(content, "unique_identifier") or own or text_in(content, "conversation_id")


def _person(content: JSON, side: str) -> Sender:
    """Return the person on one side of the message; the conversation, one with each person, is an alias."""
    own = text_in(object_in(content, f"{side}_user"), "id")
    conversation = text_in(content, "conversation_id")
    address = sender_id({"unique_identifier": _address(content, side)}, "unique_identifier")
    others = dict.fromkeys(other for other in (own, conversation) if other and other != address)
    return Sender(address, aliases=tuple(others), display_name=text_in(content, side))


def _message(content: JSON) -> Message:
    # The case of types varies.
    kind = (text_in(content, "type") or "").lower()
    reply_to = text_in(object_in(content, "referenced_message_info"), "referenced_message_id")
    part = object_in(content, kind)
    if kind == "text":
        return Message("text", words_in(part, "body"), reply_to=reply_to)
    if kind in _MEDIA:
        media = Attachment(_MEDIA[kind], media_id=text_in(part, "media_id"))
        return Message(_MEDIA[kind], attachments=(media,), reply_to=reply_to)
    if kind == "share_post":
        link = text_in(part, "embed_url")
        return Message("text", link or "", reply_to=reply_to, details={"shared_post": link})
    return Message("unsupported", raw_kind=kind or None, reply_to=reply_to, details=kept(content, kind))


_READERS: Mapping[str, Callable[[JSON, JSON, Webhook], InboundEvent]] = {
    "im_receive_msg": _read_message,
    "im_send_msg": _read_message,
    "im_receive_msg_eu": _read_stripped,
    "im_mark_read_msg": _read_seen,
    "im_referral_msg": _read_referral,
}

ADAPTER = Adapter(
    "tiktok",
    verify,
    parse,
    settings=(
        Setting("client_secret", "Client secret of the app; it signs each webhook", secret=True),
        Setting("business_id", "The business account's open id, which events name as user_openid", required=False),
    ),
    account_setting="business_id",
    source="tiktok_business",
)
