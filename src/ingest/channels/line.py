"""LINE: several events per request, perhaps of different people, proved by a signature over the body.

Source: LINE Messaging API reference, "Webhooks", "Webhook event objects", "Message event".
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ingest.channels.base import Adapter, Setting, Webhook, moment, require_hmac, unbase64
from ingest.channels.fields import (
    as_object,
    count_in,
    kept,
    object_in,
    place_in,
    read_each,
    required,
    sender_id,
    text_in,
    words_in,
)
from ingest.channels.ids import derived_id
from ingest.domain.events import (
    JSON,
    Attachment,
    AttachmentKind,
    InboundEvent,
    Message,
    Sender,
    ignored,
)
from ingest.errors import BadPayload

SIGNATURE_HEADER = "x-line-signature"

_MEDIA: Mapping[str, AttachmentKind] = {"image": "image", "video": "video", "audio": "audio"}
_GROUP_EVENTS = {"join", "leave", "memberJoined", "memberLeft"}
_KNOWN_EVENTS = {
    "beacon",
    "accountLink",
    "videoPlayComplete",
    "membership",
    "module",
    "activated",
    "deactivated",
    "botSuspended",
    "botResumed",
    "delivery",
    "things",
}


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the header is the body's signature with the channel secret."""
    require_hmac(unbase64(hook.header(SIGNATURE_HEADER)), hook.body, "sha256", *hook.accepted("channel_secret"))


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return what each event of the request means; nothing for the console's Verify button, which sends none.

    What happens in groups and rooms is ignored: an answer there would go to all. Raises BadPayload where there is no
    list of events.
    """
    body = as_object(hook.json())
    events = body.get("events")
    if not isinstance(events, list):
        raise BadPayload("line request without events")
    account = text_in(body, "destination") or ""
    return read_each(events, lambda item: [_read(item, account, hook)], account, "webhookEventId")


def _read(item: JSON, account: str, hook: Webhook) -> InboundEvent:
    kind, source = text_in(item, "type") or "", object_in(item, "source")
    if kind in _GROUP_EVENTS or text_in(source, "type") in {"group", "room"}:
        return ignored(_event_id(item), "group", account)
    reader = _READERS.get(kind)
    if reader is None:
        return ignored(_event_id(item), kind if kind in _KNOWN_EVENTS else "unknown_event", account)
    event = InboundEvent(
        "message",
        _event_id(item),
        account,
        Sender(sender_id(source, "userId")),
        sent_at=moment(item.get("timestamp"), hook.received_at),
        # In standby another module owns the chat, and we have no right to reply.
        elsewhere=text_in(item, "mode") == "standby",
    )
    return reader(event, item)


def _event_id(item: JSON) -> str:
    """Return the event's id. Older deliveries carry none: it is made of what a redelivery repeats."""
    own = text_in(item, "webhookEventId")
    source = object_in(item, "source")
    return own or derived_id("event", item.get("type"), source, item.get("timestamp"))


def _read_message(event: InboundEvent, item: JSON) -> InboundEvent:
    message = object_in(item, "message")
    # The message's own id, because unsend and quotes name it; a redelivery repeats it.
    return replace(event, external_id=required(message, "id"), message=_message(message))


def _message(item: JSON) -> Message:
    kind = text_in(item, "type") or ""
    reader = _CONTENTS.get(kind)
    content = reader(item) if reader else None
    if content is None:
        content = Message("unsupported", raw_kind=kind or None)
    return replace(content, reply_to=text_in(item, "quotedMessageId"))


def _text(item: JSON) -> Message:
    # Emojis are (names) in the text, by index and length.
    return Message("text", words_in(item, "text"), details=kept(item, "emojis", "mention"))


def _media(item: JSON) -> Message:
    kind = _MEDIA[required(item, "type")]
    provider = object_in(item, "contentProvider")
    # External content has a plain URL, LINE's own is fetched by the message's id.
    external = text_in(provider, "originalContentUrl") if text_in(provider, "type") == "external" else None
    attachment = Attachment(kind, url=external, media_id=None if external else text_in(item, "id"))
    return Message(kind, attachments=(attachment,), details=kept(item, "duration", "imageSet"))


def _file(item: JSON) -> Message:
    attachment = Attachment(
        "file", media_id=text_in(item, "id"), name=text_in(item, "fileName"), size=count_in(item, "fileSize")
    )
    return Message("file", attachments=(attachment,))


def _location(item: JSON) -> Message | None:
    place = place_in(item, "latitude", "longitude", text_in(item, "title"), text_in(item, "address"))
    return Message("location", location=place) if place else None


def _sticker(item: JSON) -> Message:
    attachment = Attachment("sticker", media_id=text_in(item, "stickerId"))
    details = kept(item, "packageId", "stickerResourceType", "keywords")
    return Message("sticker", words_in(item, "text"), (attachment,), details=details)


def _read_follow(event: InboundEvent, item: JSON) -> InboundEvent:
    unblocked = object_in(item, "follow").get("isUnblocked") is True
    return replace(event, kind="opt_in", reason="unblocked" if unblocked else "follow")


def _read_unfollow(event: InboundEvent, item: JSON) -> InboundEvent:
    return replace(event, kind="opt_out", reason="unfollow")


def _read_unsend(event: InboundEvent, item: JSON) -> InboundEvent:
    return replace(event, kind="delete", target_id=required(object_in(item, "unsend"), "messageId"))


def _read_postback(event: InboundEvent, item: JSON) -> InboundEvent:
    postback = object_in(item, "postback")
    message = Message("postback", payload=text_in(postback, "data"), details=kept(postback, "params"))
    return replace(event, message=message)


_READERS: Mapping[str, Callable[[InboundEvent, JSON], InboundEvent]] = {
    "message": _read_message,
    "follow": _read_follow,
    "unfollow": _read_unfollow,
    "unsend": _read_unsend,
    "postback": _read_postback,
}
_CONTENTS: Mapping[str, Callable[[JSON], Message | None]] = {
    "text": _text,
    "image": _media,
    "video": _media,
    "audio": _media,
    "file": _file,
    "location": _location,
    "sticker": _sticker,
}

ADAPTER = Adapter(
    "line",
    verify,
    parse,
    settings=(
        Setting("channel_secret", "Channel secret, on the console's page Basic settings; signs the body", secret=True),
        Setting("bot_user_id", "The bot's own user id, U and 32 hex digits, on the same page", required=False),
    ),
    account_setting="bot_user_id",
    source="line",
)
