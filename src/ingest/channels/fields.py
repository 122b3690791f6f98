"""Reading an item's fields by name: any may be missing, null or of another type, and none of that may crash.

An id or address that is missing makes its item unreadable (BadPayload); anything else that is missing is just not there.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from ingest.channels.base import clamp
from ingest.channels.ids import derived_id, is_junk_id
from ingest.domain.events import JSON, AttachmentKind, InboundEvent, Location, ignored
from ingest.errors import BadPayload

# What a database's whole number holds.
MAX_COUNT = 2**63 - 1


def as_object(value: object) -> JSON:
    """Return the value when it is an object. Raises BadPayload when it is anything else."""
    if not isinstance(value, dict):
        raise BadPayload("not an object")
    return value


def as_text(value: object) -> str | None:
    """Return a string trimmed or a number as its digits; None for anything else and for blanks."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return None


def text_in(item: JSON, *names: str) -> str | None:
    """Return the first of the named fields that holds text, trimmed; numbers as digits; None where none does."""
    for name in names:
        if (text := as_text(item.get(name))) is not None:
            return text
    return None


def words_in(item: JSON, name: str) -> str:
    """Return what a person wrote, untouched; "" where the field is missing or no string."""
    value = item.get(name)
    return value if isinstance(value, str) else ""


def required(item: JSON, *names: str) -> str:
    """Return the first of the named fields that holds text. Raises BadPayload naming the first where none does."""
    text = text_in(item, *names)
    if text is None:
        raise BadPayload(f"item without {names[0]}")
    return text


def sender_id(item: JSON, *names: str) -> str:
    """Return the address in the first of the named fields that holds text.

    Raises BadPayload where none does, and for placeholders ("null", "0"): as an address they would join strangers.
    """
    address = required(item, *names)
    if is_junk_id(address):
        raise BadPayload(f"item with a placeholder for {names[0]}")
    return address


def object_in(item: JSON, name: str) -> dict[str, Any]:
    """Return the object in a field; an empty one where there is none."""
    value = item.get(name)
    return value if isinstance(value, dict) else {}


def list_in(item: JSON, name: str) -> list[Any]:
    """Return the list in a field; an empty one where there is none."""
    value = item.get(name)
    return value if isinstance(value, list) else []


def objects_in(item: JSON, name: str) -> list[dict[str, Any]]:
    """Return the objects of a list in a field, skipping anything else in it."""
    return [each for each in list_in(item, name) if isinstance(each, dict)]


def number_in(item: JSON, name: str) -> float | None:
    """Return a number given as a number or as text; None where it is neither, or not finite."""
    try:
        number = float(as_text(item.get(name)) or "")
    except ValueError:
        return None
    return number if isfinite(number) else None


def count_in(item: JSON, name: str) -> int | None:
    """Return a whole number from 0 on, given as a number or as digits; None where it is neither, or past 64 bits."""
    digits = as_text(item.get(name)) or ""
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        return None
    return int(digits) if int(digits) <= MAX_COUNT else None


def place_in(
    item: JSON, latitude: str, longitude: str, name: str | None = None, address: str | None = None
) -> Location | None:
    """Return the place whose coordinates are in the two named fields; None where either is missing or no number."""
    north, east = number_in(item, latitude), number_in(item, longitude)
    return None if north is None or east is None else Location(north, east, name, address)


def kept(item: JSON, *names: str) -> dict[str, object]:
    """Return the named fields that are there and not empty, for a message's details."""
    return {name: item[name] for name in names if item.get(name) not in (None, "", [], {})}


def storable(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the fields of a form or query, untrimmed, the last of a repeated name, without what no database takes."""
    return {_storable_text(name): _storable_text(value) for name, value in fields}


def _storable_text(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def instant(text: str | None, received_at: datetime) -> datetime | None:
    """Return an ISO 8601 time as aware UTC, a missing zone read as UTC; None where it is missing or unusable.

    A time more than a day ahead of `received_at` becomes `received_at`.
    """
    try:
        at = datetime.fromisoformat(text or "")
        return clamp(at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC), received_at)
    except (ValueError, OverflowError):
        return None


def attachment_kind(mime_type: str | None) -> AttachmentKind:
    """Return the kind of attachment a media type makes; `file` for what is neither picture, film nor sound."""
    kinds: dict[str, AttachmentKind] = {"image": "image", "video": "video", "audio": "audio"}
    return kinds.get((mime_type or "").partition("/")[0].strip().lower(), "file")


def read_each(
    items: Iterable[object], read: Callable[[JSON], list[InboundEvent]], account: str = "", id_field: str = ""
) -> list[InboundEvent]:
    """Return the events of all items. One that cannot be read becomes an ignored event; its neighbours are unharmed.

    That event is named by the item's `id_field`, else by its content, so that a redelivery makes no second one.
    """
    events: list[InboundEvent] = []
    for item in items:
        try:
            events += read(as_object(item))
        except BadPayload:
            own = text_in(item, id_field) if isinstance(item, dict) else None
            events.append(ignored(derived_id("unreadable", own or item), "unreadable_item", account))
    return events
