"""Telegram bots: one update per POST, proved by a shared secret in a header.

A bot also serves a person's business account: there the owner's own messages come along, as echoes. Groups and channels
are left alone. Source: Telegram Bot API 10.0, object Update.
"""

from collections.abc import Callable
from dataclasses import replace

from ingest.channels.base import Adapter, Setting, Webhook, moment, require_equal
from ingest.channels.fields import as_object, kept, list_in, object_in, objects_in, required, text_in, words_in
from ingest.channels.ids import derived_id
from ingest.channels.telegram_content import is_service_message, read_content, shared_own_phone
from ingest.domain.events import JSON, EventKind, InboundEvent, Message, Sender, ignored
from ingest.errors import BadPayload

SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105, a header's name
START = "/start"
BLOCKS: dict[str, EventKind] = {"kicked": "opt_out", "member": "opt_in"}
OTHER_UPDATES = (
    *("channel_post", "edited_channel_post", "inline_query", "chosen_inline_result", "shipping_query"),
    *("pre_checkout_query", "purchased_paid_media", "poll", "poll_answer", "chat_member", "chat_join_request"),
    *(
        "chat_boost",
        "removed_chat_boost",
        "message_reaction_count",
        "business_connection",
        "guest_message",
        "managed_bot",
    ),
)


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the header carries the channel's secret token."""
    require_equal(hook.header(SECRET_HEADER), *hook.accepted("secret_token"))


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the update's events, mostly one. Raises BadPayload for a body that is no update.

    An update whose content cannot be read is an ignored event named by its `update_id`.
    """
    update = hook.json()
    if not isinstance(update, dict):
        raise BadPayload("body is not an update")
    update_id = f"update:{text_in(update, 'update_id') or derived_id('unnumbered', update)}"
    name = next((each for each in READERS if each in update), None)
    if name is None:
        return [ignored(update_id, next((each for each in OTHER_UPDATES if each in update), "unknown_event"))]
    try:
        return READERS[name](hook, update_id, as_object(update[name]))
    except BadPayload:
        return [ignored(update_id, "unreadable_item")]


def _read_message(hook: Webhook, update_id: str, item: JSON) -> list[InboundEvent]:
    event = _framed(hook, update_id, item)
    if event.kind == "ignored":
        return [event]
    if is_service_message(item):
        return [ignored(event.external_id, "service_message")]
    text = words_in(item, "text").strip()
    if event.kind == "message" and (text == START or text.startswith(START + " ")):
        return [_started(event, text)]
    if event.kind == "message" and event.sender is not None:
        event = replace(event, sender=replace(event.sender, phone=shared_own_phone(item)))
    return [replace(event, message=_content(item))]


def _read_edited(hook: Webhook, update_id: str, item: JSON) -> list[InboundEvent]:
    event = _framed(hook, update_id, item)
    if event.kind == "ignored":
        return [event]
    edit_date = item.get("edit_date", item.get("date"))
    return [
        replace(
            event,
            kind="edit",
            external_id=f"{event.external_id}:edit:{edit_date}",
            target_id=event.external_id,
            sent_at=moment(edit_date, hook.received_at),
            message=_content(item),
        )
    ]


def _read_deleted(hook: Webhook, update_id: str, item: JSON) -> list[InboundEvent]:
    chat_id = required(object_in(item, "chat"), "id")
    targets = [_message_id(item, chat_id, number) for number in list_in(item, "message_ids")]
    if not targets:
        raise BadPayload("deletion without messages")
    person = Sender(chat_id)
    return [InboundEvent("delete", f"{target}:delete", sender=person, target_id=target) for target in targets]


def _read_callback(hook: Webhook, update_id: str, item: JSON) -> list[InboundEvent]:
    message = object_in(item, "message")
    chat = object_in(message, "chat")
    callback_id = f"callback:{required(item, 'id')}"
    if chat.get("type", "private") != "private":
        return [ignored(callback_id, "group")]
    data = text_in(item, "data", "game_short_name")
    content = Message("button", _pressed(message, data), payload=data, reply_to=_reply_target(chat, message))
    return [InboundEvent("message", callback_id, sender=_person(object_in(item, "from")), message=content)]


def _read_membership(hook: Webhook, update_id: str, item: JSON) -> list[InboundEvent]:
    """Return the block or unblock of the bot in a private chat; elsewhere the bot was merely added or removed."""
    if object_in(item, "chat").get("type") != "private":
        return [ignored(update_id, "group")]
    status = text_in(object_in(item, "new_chat_member"), "status") or ""
    if status not in BLOCKS:
        return [ignored(update_id, "unknown_event")]
    at = moment(item.get("date"), hook.received_at)
    reason = "blocked" if status == "kicked" else "unblocked"
    return [InboundEvent(BLOCKS[status], update_id, sender=_person(object_in(item, "from")), sent_at=at, reason=reason)]


def _read_reaction(hook: Webhook, update_id: str, item: JSON) -> list[InboundEvent]:
    chat = object_in(item, "chat")
    if chat.get("type") != "private":
        return [ignored(update_id, "group")]
    emojis = [text_in(each, "emoji", "custom_emoji_id", "type") or "" for each in objects_in(item, "new_reaction")]
    event = InboundEvent(
        "reaction",
        update_id,
        sender=_person(object_in(item, "user")),
        sent_at=moment(item.get("date"), hook.received_at),
        target_id=f"{required(chat, 'id')}:{required(item, 'message_id')}",
        emoji=emojis[-1] if emojis else "",
    )
    return [event]


def _framed(hook: Webhook, update_id: str, item: JSON) -> InboundEvent:
    """Return the message's event without its content: an echo where the owner of a business account wrote it."""
    chat, writer = object_in(item, "chat"), object_in(item, "from")
    chat_id = required(chat, "id")
    if chat.get("type", "private") != "private":
        return ignored(update_id, "group")
    external_id = _message_id(item, chat_id, required(item, "message_id"))
    at = moment(item.get("date"), hook.received_at)
    if "business_connection_id" in item and text_in(writer, "id") != chat_id:
        return InboundEvent("echo", external_id, sender=_person(chat), sent_at=at)
    return InboundEvent("message", external_id, sender=_person(writer), sent_at=at)


def _message_id(item: JSON, chat_id: str, number: object) -> str:
    """Return the message's id. Telegram's is unique only within its chat, and a business account has chats of its own."""
    connection = text_in(item, "business_connection_id")
    return f"{connection}:{chat_id}:{number}" if connection else f"{chat_id}:{number}"


def _person(user: JSON) -> Sender:
    first, last = text_in(user, "first_name"), text_in(user, "last_name")
    return Sender(
        required(user, "id"),
        display_name=" ".join(filter(None, (first, last))) or text_in(user, "username"),
        first_name=first,
        last_name=last,
        language=text_in(user, "language_code"),
    )


def _started(event: InboundEvent, text: str) -> InboundEvent:
    """Return the press on the Start button; the word after it says which link led here."""
    link = text.removeprefix(START).strip()
    return replace(event, kind="started", message=Message("text", text, referral={"ref": link}) if link else None)


def _content(item: JSON) -> Message:
    message = read_content(item)
    around = {
        "username": text_in(object_in(item, "from"), "username"),
        "forwarded": "forward_origin" in item or None,
        "quote": text_in(object_in(item, "quote"), "text"),
    }
    details = {
        **message.details,
        **kept(around, *around),
        **kept(item, "media_group_id", "message_thread_id", "business_connection_id", "reply_to_story"),
    }
    replied = object_in(item, "reply_to_message")
    reply_to = (
        _message_id(item, required(object_in(item, "chat"), "id"), text_in(replied, "message_id")) if replied else None
    )
    return replace(message, reply_to=reply_to, details=details)


def _reply_target(chat: JSON, message: JSON) -> str | None:
    chat_id, number = text_in(chat, "id"), text_in(message, "message_id")
    return _message_id(message, chat_id, number) if chat_id and number else None


def _pressed(message: JSON, data: str | None) -> str:
    """Return the words on the button that carries this data; "" where the message with it did not come along."""
    for row in list_in(object_in(message, "reply_markup"), "inline_keyboard"):
        for button in objects_in({"row": row}, "row"):
            if data is not None and button.get("callback_data") == data:
                return words_in(button, "text").strip()
    return ""


READERS: dict[str, Callable[[Webhook, str, JSON], list[InboundEvent]]] = {
    "message": _read_message,
    "edited_message": _read_edited,
    "business_message": _read_message,
    "edited_business_message": _read_edited,
    "deleted_business_messages": _read_deleted,
    "callback_query": _read_callback,
    "my_chat_member": _read_membership,
    "message_reaction": _read_reaction,
}

ADAPTER = Adapter(
    "telegram",
    verify,
    parse,
    settings=(
        Setting("secret_token", "The `secret_token` given to setWebhook: 1-256 letters, digits, _ and -", secret=True),
        Setting("bot_token", "Token from @BotFather, for sending and for fetching files", secret=True, required=False),
    ),
    source="telegram",
)
