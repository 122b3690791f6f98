"""The content of a Messenger or Instagram message: text, files, shared things, stories.

Source: Meta for Developers, "Messenger Platform: messages" and "Instagram Messaging: Webhooks".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingest.channels.fields import kept, number_in, object_in, objects_in, text_in, words_in
from ingest.domain.events import JSON, Attachment, AttachmentKind, Location, Message, MessageKind

FILES: dict[str, AttachmentKind] = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "file": "file",
    "sticker": "sticker",
    "reel": "video",
    "ig_reel": "video",
}
# Links to something elsewhere: a page, a post, a product. Only the link is ours to keep.
SHARES = frozenset({"fallback", "share", "ig_post", "post", "template", "appointment_booking"})
HEART = "❤️"


@dataclass(frozen=True, slots=True)
class _Body:
    """What a message turned out to hold, before what surrounds it (a reply, a referral) is added."""

    kind: MessageKind
    text: str = ""
    files: tuple[Attachment, ...] = ()
    location: Location | None = None
    raw_kind: str | None = None
    details: JSON | None = None


def read_content(message: JSON) -> Message:
    """Return the message's content. One without any that we can read is `unsupported`, with what came in `details`."""
    body = _read_body(message)
    reply_to = object_in(message, "reply_to")
    payload = text_in(object_in(message, "quick_reply"), "payload")
    around = kept(
        {"reply_to_story": reply_to.get("story"), "app_id": message.get("app_id")}, "reply_to_story", "app_id"
    )
    return Message(
        "button" if payload and body.kind == "text" else body.kind,
        body.text,
        body.files,
        body.location,
        reply_to=text_in(reply_to, "mid"),
        payload=payload,
        referral=object_in(message, "referral") or None,
        raw_kind=body.raw_kind,
        details={**(body.details or {}), **around},
    )


def _read_body(message: JSON) -> _Body:
    text = words_in(message, "text").strip()
    attachments = _without_twins(objects_in(message, "attachments"))
    files = tuple(file for each in attachments if (file := _file(each)) is not None)
    if files:
        return _Body(files[0].kind, text, files, details=_shared(attachments))
    for each in attachments:
        special = _special(each, text)
        if special is not None:
            return special
    if text:
        return _Body("text", text, details=_shared(attachments))
    raw_kind = text_in(attachments[0], "type") if attachments else None
    fallback = "is_unsupported" if message.get("is_unsupported") is True else "empty"
    return _Body("unsupported", raw_kind=raw_kind or fallback, details=kept({"raw": attachments}, "raw"))


def _without_twins(attachments: Sequence[JSON]) -> list[JSON]:
    """Return the attachments with each thing once.

    While a new type is introduced the old one accompanies it: a sticker comes as `image` too, a post as `share` too,
    a reel under both its names.
    """
    stickers = {_payload_id(each, "sticker_id") for each in attachments if each.get("type") == "sticker"} - {None}
    has_post = any(each.get("type") == "ig_post" for each in attachments)
    kept_ones, reels = [], set()
    for each in attachments:
        kind, reel = each.get("type"), _payload_id(each, "reel_video_id")
        twin_sticker = kind == "image" and _payload_id(each, "sticker_id") in stickers
        if twin_sticker or (kind == "share" and has_post) or (reel is not None and reel in reels):
            continue
        reels.add(reel)
        kept_ones.append(each)
    return kept_ones


def _payload_id(attachment: JSON, name: str) -> str | None:
    return text_in(object_in(attachment, "payload"), name)


def _file(attachment: JSON) -> Attachment | None:
    kind, payload = FILES.get(text_in(attachment, "type") or ""), object_in(attachment, "payload")
    url, sticker_id = text_in(payload, "url"), text_in(payload, "sticker_id")
    if kind is None or not (url or sticker_id):
        return None
    return Attachment("sticker" if sticker_id else kind, url, None if url else sticker_id, text_in(payload, "title"))


def _shared(attachments: Sequence[JSON]) -> dict[str, Any]:
    """Return the links among the attachments, as `details` keeps them."""
    links = [
        {"type": each.get("type"), **kept(payload, "title", "url", "ig_post_media_id", "id")}
        for each in attachments
        if text_in(each, "type") in SHARES
        for payload in [{**each, **object_in(each, "payload")}]
    ]
    return {"shared": links} if links else {}


def _special(attachment: JSON, text: str) -> _Body | None:
    """Return the content of an attachment that is no file; None where it says nothing."""
    kind, payload = text_in(attachment, "type"), object_in(attachment, "payload")
    if kind == "like_heart":
        return _Body("text", text or HEART)
    if kind == "story_mention":
        # Gone within a day, and to be forgotten then: a link, not a picture to archive.
        return _Body("story", text, details={"story_mention": kept(payload, "url", "id")})
    if kind == "location":
        return _location(attachment, payload)
    if kind in SHARES:
        told = (
            text_in(payload, "title", "text") or text_in(attachment, "title"),
            text_in({**attachment, **payload}, "url"),
        )
        words = text or "\n".join(filter(None, told))
        return _Body("text", words, details=_shared([attachment])) if words else None
    return None


def _location(attachment: JSON, payload: JSON) -> _Body | None:
    place = object_in(payload, "coordinates")
    latitude, longitude = number_in(place, "lat"), number_in(place, "long")
    if latitude is None or longitude is None:
        return None
    return _Body("location", location=Location(latitude, longitude, text_in(attachment, "title")))
