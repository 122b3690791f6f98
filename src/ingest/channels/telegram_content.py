"""The content of a Telegram message: text, files, places, cards. Source: Telegram Bot API 10.0, object Message."""

from collections.abc import Callable

from ingest.channels.base import MIB
from ingest.channels.fields import count_in, kept, number_in, object_in, objects_in, text_in, words_in
from ingest.domain.events import JSON, Attachment, AttachmentKind, ContactCard, Location, Message

# What a bot may download; of a photo's sizes a larger one would be of no use.
MAX_DOWNLOAD = 20 * MIB
# An animation comes with a `document` twin and a venue with a `location` twin: the first name found here counts.
FILES: dict[str, AttachmentKind] = {
    "animation": "video",
    "video": "video",
    "video_note": "video",
    "audio": "audio",
    "voice": "voice",
    "sticker": "sticker",
    "live_photo": "image",
    "document": "file",
}
# What surrounds the content; whatever else a message holds is its content, known or not.
SURROUNDINGS = frozenset(
    {
        *("message_id", "from", "chat", "date", "edit_date", "message_thread_id", "is_topic_message", "media_group_id"),
        *(
            "sender_chat",
            "sender_boost_count",
            "sender_business_bot",
            "business_connection_id",
            "via_bot",
            "author_signature",
        ),
        *("forward_origin", "is_automatic_forward", "reply_to_message", "external_reply", "quote", "reply_to_story"),
        *("caption", "caption_entities", "show_caption_above_media", "has_media_spoiler", "entities", "effect_id"),
        *("link_preview_options", "has_protected_content", "is_from_offline", "is_paid_post", "paid_star_count"),
        *("reply_markup", "direct_messages_topic", "suggested_post_info", "reply_to_checklist_task_id"),
    }
)
SERVICE = (
    *("new_chat_members", "left_chat_member", "new_chat_title", "new_chat_photo", "delete_chat_photo"),
    *("group_chat_created", "supergroup_chat_created", "channel_chat_created", "migrate_to_chat_id"),
    *("migrate_from_chat_id", "pinned_message", "message_auto_delete_timer_changed", "write_access_allowed"),
    *("proximity_alert_triggered", "boost_added", "chat_background_set", "connected_website", "video_chat_started"),
    *("video_chat_ended", "video_chat_scheduled", "video_chat_participants_invited", "forum_topic_created"),
    *("forum_topic_edited", "forum_topic_closed", "forum_topic_reopened"),
)


def is_service_message(item: JSON) -> bool:
    """Return whether Telegram itself wrote this, about the chat."""
    return any(name in item for name in SERVICE)


def read_content(item: JSON) -> Message:
    """Return the message's content; `unsupported`, with what came, where there is none that we can read."""
    caption = words_in(item, "caption").strip()
    file = _photo(item) or _file(item)
    if file is not None:
        return Message(file.kind, caption, (file,))
    for name, read in READERS.items():
        if name in item:
            message = read(object_in(item, name), words_in(item, name).strip())
            if message is not None:
                return message
    raw_kind = next((name for name in item if name not in SURROUNDINGS), "empty")
    raw = object_in(item, raw_kind)
    words = text_in(raw, "question", "title", "emoji", "description") or caption
    return Message("unsupported", words, raw_kind=raw_kind, details={"raw": raw} if raw else {})


def shared_own_phone(item: JSON) -> str | None:
    """Return the phone that the sender shared of their own; a card of anybody else is no fact about them."""
    card, writer = object_in(item, "contact"), object_in(item, "from")
    same = text_in(card, "user_id") is not None and text_in(card, "user_id") == text_in(writer, "id")
    return _international(text_in(card, "phone_number")) if same else None


def _international(phone: str | None) -> str | None:
    """Return the phone with its plus: Telegram's are in international form, mostly without it."""
    return f"+{phone}" if phone and phone.isascii() and phone.isdigit() else phone


def _photo(item: JSON) -> Attachment | None:
    """Return the largest size of the photo that can be downloaded."""
    sizes = [each for each in objects_in(item, "photo") if text_in(each, "file_id")]
    fitting = [each for each in sizes if (count_in(each, "file_size") or 0) <= MAX_DOWNLOAD]
    if not sizes:
        return None
    best = (fitting or sizes)[-1]
    return Attachment(
        "image", media_id=text_in(best, "file_id"), mime_type="image/jpeg", size=count_in(best, "file_size")
    )


def _file(item: JSON) -> Attachment | None:
    for name, kind in FILES.items():
        file = object_in(item, name)
        media_id = text_in(file, "file_id")
        if media_id is not None:
            mime_type = text_in(file, "mime_type") or _sticker_type(name, file)
            return Attachment(kind, None, media_id, text_in(file, "file_name"), mime_type, count_in(file, "file_size"))
    return None


def _sticker_type(name: str, file: JSON) -> str | None:
    if name != "sticker":
        return None
    if file.get("is_video") is True:
        return "video/webm"
    return "application/x-tgsticker" if file.get("is_animated") is True else "image/webp"


def _text(_: JSON, words: str) -> Message | None:
    return Message("text", words) if words else None


def _venue(venue: JSON, _: str) -> Message | None:
    place = _place(object_in(venue, "location"), text_in(venue, "title"), text_in(venue, "address"))
    return Message("location", location=place) if place is not None else None


def _location(location: JSON, _: str) -> Message | None:
    place = _place(location, None, None)
    return Message("location", location=place, details=kept(location, "live_period")) if place is not None else None


def _place(location: JSON, name: str | None, address: str | None) -> Location | None:
    latitude, longitude = number_in(location, "latitude"), number_in(location, "longitude")
    if latitude is None or longitude is None:
        return None
    return Location(latitude, longitude, name, address)


def _contact(card: JSON, _: str) -> Message | None:
    phone = _international(text_in(card, "phone_number"))
    name = " ".join(filter(None, (text_in(card, "first_name"), text_in(card, "last_name"))))
    if not (phone or name):
        return None
    return Message("contact", contacts=(ContactCard(name or None, (phone,) if phone else ()),))


def _web_app(data: JSON, _: str) -> Message | None:
    return Message("form", words_in(data, "button_text").strip(), payload=text_in(data, "data"))


def _story(story: JSON, _: str) -> Message | None:
    return Message("story", details={"story": story}) if story else None


READERS: dict[str, Callable[[JSON, str], Message | None]] = {
    "text": _text,
    "venue": _venue,
    "location": _location,
    "contact": _contact,
    "web_app_data": _web_app,
    "story": _story,
}
