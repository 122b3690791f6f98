"""WeChat Official Accounts: one XML message or event per request, in the plain or under AES (safe mode).

Source: WeChat, "Receiving standard messages", "Receiving event pushes", "Access overview".
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ingest.channels.base import (
    Adapter,
    Answer,
    BadPayload,
    BadSignature,
    Setting,
    Webhook,
    moment,
    require_equal,
    require_recent,
    require_setting,
)
from ingest.channels.fields import kept, place_in, required, sender_id, text_in
from ingest.channels.ids import derived_id
from ingest.channels.wechat_crypto import open_message, read_xml, signature_of
from ingest.domain.events import JSON, Attachment, InboundEvent, Message, Sender, ignored

QR_PREFIX = "qrscene_"
DELIVERED = "success"

# What stands in a text where the person sent something that the account cannot be given.
_PLACEHOLDERS = {"[Unsupported Message]", "【收到不支持的消息类型，暂无法显示】"}
_KNOWN_EVENTS = {
    "location",
    "view",
    "view_miniprogram",
    "scancode_push",
    "scancode_waitmsg",
    "pic_sysphoto",
    "pic_photo_or_album",
    "pic_weixin",
    "location_select",
    "masssendjobfinish",
    "subscribe_msg_popup_event",
    "subscribe_msg_change_event",
    "subscribe_msg_sent_event",
}


def handshake(hook: Webhook) -> Answer | None:
    """Return the answer to the set-up request: its echo, alone, or 403 where the token did not sign it."""
    if hook.method != "GET" or "echostr" not in hook.query:
        return None
    try:
        _verify_query(hook)
    except BadSignature:
        return Answer(403)
    return Answer(200, hook.query["echostr"].encode("utf-8", "replace"))


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the token signed the request within five minutes of now.

    The plain signature covers neither body nor URL. So where the channel has an AES key, only a body under that key
    and for our app id gets in; a plain one could be anybody's who saw one query.
    """
    if not _in_safe_mode(hook):
        _verify_query(hook)
        return
    _require_fresh(hook)
    encrypted = _encrypted(hook)
    _require_signed(hook, "msg_signature", encrypted)
    if _opened(hook, encrypted) is None:
        raise BadSignature("body is not under our key or not for our app")


def _in_safe_mode(hook: Webhook) -> bool:
    return any(hook.secrets.get("encoding_aes_key", ()))


def _verify_query(hook: Webhook) -> None:
    _require_fresh(hook)
    _require_signed(hook, "signature")


def _require_fresh(hook: Webhook) -> None:
    signed_at = moment(hook.query.get("timestamp"), hook.received_at)
    if signed_at is None:
        raise BadSignature("query has no timestamp")
    require_recent(signed_at, hook.received_at)


def _require_signed(hook: Webhook, name: str, *more: str) -> None:
    parts = (hook.query.get("timestamp", ""), hook.query.get("nonce", ""), *more)
    require_equal(hook.query.get(name, ""), *(signature_of(token, *parts) for token in hook.accepted("token")))


def _encrypted(hook: Webhook) -> str:
    try:
        return read_xml(hook.body)["Encrypt"]
    except (BadPayload, KeyError) as missing:
        raise BadSignature("body is not encrypted") from missing


def _opened(hook: Webhook, encrypted: str) -> bytes | None:
    app_id = require_setting(hook, "app_id")
    found = (open_message(encrypted, key, app_id) for key in hook.accepted("encoding_aes_key"))
    return next((message for message in found if message is not None), None)


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the message, or what the event means. Raises BadPayload for what cannot be opened, read or attributed."""
    fields = read_xml(hook.body)
    if _in_safe_mode(hook):
        message = _opened(hook, required(fields, "Encrypt"))
        if message is None:
            raise BadPayload("body is not under our key or not for our app")
        fields = read_xml(message)
    event = InboundEvent(
        "message",
        "",
        text_in(fields, "ToUserName") or "",
        Sender(sender_id(fields, "FromUserName")),
        sent_at=moment(fields.get("CreateTime"), hook.received_at),
    )
    if required(fields, "MsgType") == "event":
        return _read_event(event, fields)
    return [replace(event, external_id=required(fields, "MsgId"), message=_message(fields))]


def _read_event(event: InboundEvent, fields: JSON) -> list[InboundEvent]:
    # Names of events vary in case.
    kind = required(fields, "Event").lower()
    key = text_in(fields, "EventKey")
    name = derived_id(kind, fields["FromUserName"], fields.get("CreateTime"), key)
    event = replace(event, external_id=name)
    if kind == "subscribe":
        # The code that was scanned to follow tells how the person came.
        opened = [_started(event, fields, f"{name}:started")] if key or text_in(fields, "Ticket") else []
        return [replace(event, kind="opt_in", reason="subscribe"), *opened]
    if kind == "unsubscribe":
        return [replace(event, kind="opt_out", reason="unsubscribe")]
    if kind == "scan":
        return [_started(event, fields, name)]
    if kind == "click":
        return [replace(event, message=Message("postback", payload=key))]
    if kind == "templatesendjobfinish":
        return [_template_status(event, fields)]
    return [ignored(name, kind if kind in _KNOWN_EVENTS else "unknown_event", event.account)]


def _started(event: InboundEvent, fields: JSON, name: str) -> InboundEvent:
    scene = (text_in(fields, "EventKey") or "").removeprefix(QR_PREFIX)
    found = {"ref": scene or None, "ticket": text_in(fields, "Ticket")}
    referral = {name: text for name, text in found.items() if text}
    return replace(event, kind="started", external_id=name, message=Message("text", referral=referral or None))


def _template_status(event: InboundEvent, fields: JSON) -> InboundEvent:
    target_id, word = required(fields, "MsgID", "MsgId"), required(fields, "Status")
    failed = word != DELIVERED
    return replace(
        event,
        kind="status",
        external_id=f"{target_id}:{word}",
        target_id=target_id,
        status="failed" if failed else "delivered",
        error=word if failed else None,
    )


def _message(fields: JSON) -> Message:
    kind = required(fields, "MsgType")
    reader = _READERS.get(kind)
    content = reader(fields) if reader else None
    return content or Message("unsupported", raw_kind=kind, details=_unread(fields))


def _unread(fields: JSON) -> dict[str, object]:
    envelope = {"ToUserName", "FromUserName", "CreateTime", "MsgType", "MsgId", "MsgDataId", "Idx"}
    return kept(fields, *(name for name in fields if name not in envelope))


def _text(fields: JSON) -> Message | None:
    words = fields.get("Content", "")
    if words.strip() in _PLACEHOLDERS:
        return None
    choice = text_in(fields, "bizmsgmenuid")
    return Message("interactive" if choice else "text", words, payload=choice)


def _image(fields: JSON) -> Message:
    picture = Attachment("image", text_in(fields, "PicUrl"), media_id=text_in(fields, "MediaId"))
    return Message("image", attachments=(picture,))


def _voice(fields: JSON) -> Message:
    """Read a voice note; its text is WeChat's own recognition, where the account has it switched on."""
    form = text_in(fields, "Format")
    note = Attachment("voice", media_id=text_in(fields, "MediaId"), mime_type=f"audio/{form.lower()}" if form else None)
    return Message("voice", fields.get("Recognition", ""), (note,), details=kept(fields, "MediaId16K"))


def _video(fields: JSON) -> Message:
    film = Attachment("video", media_id=text_in(fields, "MediaId"))
    return Message("video", attachments=(film,), details=kept(fields, "ThumbMediaId"))


def _location(fields: JSON) -> Message | None:
    # X is the latitude.
    place = place_in(fields, "Location_X", "Location_Y", address=text_in(fields, "Label"))
    return Message("location", location=place) if place else None


def _link(fields: JSON) -> Message:
    lines = (text_in(fields, name) for name in ("Title", "Description", "Url"))
    return Message("text", "\n".join(filter(None, lines)), details=kept(fields, "Title", "Description", "Url"))


_READERS: Mapping[str, Callable[[JSON], Message | None]] = {
    "text": _text,
    "image": _image,
    "voice": _voice,
    "video": _video,
    "shortvideo": _video,
    "location": _location,
    "link": _link,
}

ADAPTER = Adapter(
    "wechat",
    verify,
    parse,
    settings=(
        Setting("token", "The token entered where the server is configured; it signs each query", secret=True),
        Setting("encoding_aes_key", "EncodingAESKey of safe mode, 43 characters", secret=True, required=False),
        Setting("app_id", "AppID of the account; needed with safe mode", required=False),
        Setting("original_id", "The account's original id, gh_...", required=False),
    ),
    handshake=handshake,
    answer=Answer(200, b"success"),
    account_setting="original_id",
    source="wechat",
)
