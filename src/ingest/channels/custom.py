"""Custom channel: for whatever has no adapter of its own. Three formats, told apart by themselves.

With a `mapping` setting, requests are read as it says (`custom_mapping`). Without, a body with `contactId` is in the
custom-channel format that many bridges speak already (`custom_bridge`), any other an envelope of ours (`envelope`).
"""

from datetime import UTC, datetime

from ingest.channels import custom_bridge, custom_mapping
from ingest.channels.base import (
    Adapter,
    Answer,
    BadPayload,
    BadSignature,
    Setting,
    Webhook,
    require_equal,
    require_hmac,
    require_recent,
    unhex,
)
from ingest.channels.envelope import Frame, accepted, check_envelope, read_envelope, require_object, require_words
from ingest.channels.fields import as_object, object_in, sender_id, text_in
from ingest.domain.events import JSON, InboundEvent, Sender

SIGNATURE_HEADER = "x-ingest-signature"
BEARER = "Bearer "
MAX_KEY = 128


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the request is proved as the channel wants it.

    A mapping says its own way. Else: a signature with `secret` no older than five minutes, or the bearer `token`.
    """
    mapping = custom_mapping.read_mapping(hook)
    if mapping is not None and mapping.proof.type != "bearer":
        custom_mapping.verify(hook, mapping.proof)
    elif SIGNATURE_HEADER in hook.headers:
        _verify_signature(hook)
    else:
        given = hook.header("authorization")
        require_equal(given[len(BEARER) :] if given.startswith(BEARER) else "", *hook.accepted("token"))


def _verify_signature(hook: Webhook) -> None:
    """Raise BadSignature unless the header is `t=<seconds>,v1=<hex of HMAC-SHA256 over t + "." + body>` and fresh."""
    given = hook.header(SIGNATURE_HEADER)
    parts = dict(part.partition("=")[::2] for part in given.split(","))
    signed_at = parts.get("t", "")
    if not (signed_at.isascii() and signed_at.isdigit() and len(signed_at) <= 12):
        raise BadSignature("signature missing or wrong")
    signed = signed_at.encode() + b"." + hook.body
    require_hmac(unhex(parts.get("v1", "")), signed, "sha256", *hook.accepted("secret"))
    require_recent(datetime.fromtimestamp(int(signed_at), UTC), hook.received_at)


def check(hook: Webhook) -> None:
    """Raise BadShape naming the field unless the body has the shape of its format. Mapped bodies are not ours to check."""
    if custom_mapping.read_mapping(hook) is not None:
        return
    if _is_bridge(hook):
        custom_bridge.check(hook)
        return
    body = check_envelope(hook)
    for number, event in enumerate(body["events"]):
        contact = require_object(event, "contact", f"events[{number}].")
        require_words(contact, "key", f"events[{number}].contact.", MAX_KEY)


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the request's events. Raises BadPayload for a body that is not in the channel's format."""
    mapping = custom_mapping.read_mapping(hook)
    if mapping is not None:
        return custom_mapping.parse(hook, mapping)
    if _is_bridge(hook):
        return custom_bridge.parse(hook)
    as_object(hook.json())
    return read_envelope(hook, lambda _, event: _frame(hook, event))


def _is_bridge(hook: Webhook) -> bool:
    try:
        body = hook.json()
    except BadPayload:
        return False
    return isinstance(body, dict) and ("contactId" in body or "channelId" in body)


def _frame(hook: Webhook, event: JSON) -> Frame:
    contact = object_in(event, "contact")
    sender = Sender(
        sender_id(contact, "key"),
        phone=text_in(contact, "phone"),
        email=text_in(contact, "email"),
        display_name=text_in(contact, "name"),
        language=text_in(contact, "language"),
        avatar_url=text_in(contact, "avatar_url"),
    )
    return Frame(sender, "", hook.received_at)


def answer(hook: Webhook) -> Answer:
    """Return what the sender takes for success: what the mapping says, nothing for bridges, else the accepted ids."""
    mapping = custom_mapping.read_mapping(hook)
    if mapping is not None:
        return mapping.answer.as_answer()
    return Answer() if _is_bridge(hook) else accepted(hook)


ADAPTER = Adapter(
    "custom",
    verify,
    parse,
    settings=(
        Setting("token", "Bearer token that the other system sends", secret=True, required=False),
        Setting(
            "secret",
            "Signs requests in the X-Ingest-Signature header, in place of the token",
            secret=True,
            required=False,
        ),
        Setting("channel_id", "The `channelId` that a bridge sends; others are then not taken", required=False),
        Setting("contact_ids", "`phone` or `custom`: what a bridge's `contactId` is", required=False),
        Setting("mapping", "JSON that says where things are in requests of another format", required=False),
    ),
    check=check,
    answer=answer,
    account_setting="channel_id",
    address_kind=lambda settings: "phone" if settings.get("contact_ids") == "phone" else "opaque",
    # Where ids are numbers: an address that is no number is never known before its owner writes.
    startable=True,
    source="custom_channel",
)
