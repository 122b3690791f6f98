"""The content of a WhatsApp message: one small reader a type.

Source: WhatsApp Cloud API, webhook reference, object `messages`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ingest.channels.fields import as_text, kept, number_in, object_in, objects_in, text_in, words_in
from ingest.domain.events import JSON, Attachment, AttachmentKind, ContactCard, Location, Message


def read_content(kind: str, item: JSON) -> Message:
    """Return the item's content. A type that is unknown, or empty, is kept as `unsupported` with what came."""
    reader = READERS.get(kind)
    message = reader(item.get(kind)) if reader is not None else None
    if message is None:
        message = _unsupported(kind, item)
    if "context" in item or "referral" in item:
        message = _with_context(message, item)
    return message


def shared_own_phone(item: JSON) -> str | None:
    """Return the phone that the sender gave on our request for it; a card without that origin is somebody else's."""
    for card in objects_in(item, "contacts"):
        if "contact_request" in (item.get("origin"), card.get("origin")):
            return next(iter(_card(card).phones), None)
    return None


def _unsupported(kind: str, item: JSON) -> Message:
    told = object_in(item, "unsupported")
    details = kept({"raw": item.get(kind), "errors": item.get("errors")}, "raw", "errors")
    return Message("unsupported", raw_kind=text_in(told, "type") or kind or "none", details=details)


def _with_context(message: Message, item: JSON) -> Message:
    context = object_in(item, "context")
    return replace(
        message,
        reply_to=text_in(context, "id"),
        referral=object_in(item, "referral") or None,
        details={**message.details, **kept(context, "forwarded", "frequently_forwarded", "referred_product")},
    )


def _text(content: Any) -> Message | None:
    body = content.get("body") if isinstance(content, dict) else None
    return Message("text", body.strip()) if isinstance(body, str) and body else None


def _media(kind: AttachmentKind) -> Callable[[Any], Message | None]:
    def read(content: Any) -> Message | None:
        if not isinstance(content, dict):
            return None
        # The link beside an id needs our token and lasts minutes: the id is what can be kept.
        media_id = text_in(content, "id")
        url = None if media_id else text_in(content, "url", "link")
        if not (media_id or url):
            return None
        exact: AttachmentKind = "voice" if kind == "audio" and content.get("voice") is True else kind
        file = Attachment(exact, url, media_id, text_in(content, "filename"), text_in(content, "mime_type"))
        return Message(
            exact, words_in(content, "caption").strip(), (file,), details=kept(content, "sha256", "animated")
        )

    return read


def _location(content: Any) -> Message | None:
    if not isinstance(content, dict):
        return None
    latitude, longitude = number_in(content, "latitude"), number_in(content, "longitude")
    if latitude is None or longitude is None:
        return None
    place = Location(latitude, longitude, text_in(content, "name"), text_in(content, "address"))
    return Message("location", location=place, details=kept(content, "url"))


def _contacts(content: Any) -> Message | None:
    cards = tuple(_card(each) for each in objects_in({"cards": content}, "cards"))
    return Message("contact", contacts=cards) if cards else None


def _card(card: JSON) -> ContactCard:
    phones = [text_in(each, "phone") or _plus(text_in(each, "wa_id")) for each in objects_in(card, "phones")]
    emails = [text_in(each, "email") for each in objects_in(card, "emails")]
    name = object_in(card, "name")
    return ContactCard(
        name=text_in(name, "formatted_name", "first_name", "last_name"),
        phones=tuple(each for each in phones if each),
        emails=tuple(each for each in emails if each),
    )


def _plus(digits: str | None) -> str | None:
    return f"+{digits}" if digits else None


def _button(content: Any) -> Message | None:
    if not isinstance(content, dict):
        return None
    return Message("button", words_in(content, "text").strip(), payload=as_text(content.get("payload")))


def _interactive(content: Any) -> Message | None:
    if not isinstance(content, dict):
        return None
    kind = text_in(content, "type") or ""
    answer = object_in(content, kind)
    if kind in ("button_reply", "list_reply"):
        title, chosen = words_in(answer, "title").strip(), as_text(answer.get("id"))
        return Message("interactive", title, payload=chosen, details=kept(answer, "description"))
    if kind == "nfm_reply":
        body, filled_in = words_in(answer, "body").strip(), as_text(answer.get("response_json"))
        return Message("form", body, payload=filled_in, details=kept(answer, "name"))
    if kind == "call_permission_reply":
        return Message("interactive", payload=text_in(answer, "response"), details={kind: answer})
    return Message("unsupported", raw_kind=f"interactive:{kind}" if kind else "interactive", details={"raw": content})


def _order(content: Any) -> Message | None:
    if not isinstance(content, dict):
        return None
    text, catalog = words_in(content, "text").strip(), as_text(content.get("catalog_id"))
    return Message("order", text, payload=catalog, details=kept(content, "product_items"))


READERS: dict[str, Callable[[Any], Message | None]] = {
    "text": _text,
    "image": _media("image"),
    "video": _media("video"),
    "document": _media("file"),
    "sticker": _media("sticker"),
    "audio": _media("audio"),
    "voice": _media("voice"),
    "location": _location,
    "contacts": _contacts,
    "button": _button,
    "interactive": _interactive,
    "order": _order,
}
