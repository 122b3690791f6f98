"""Ids: for items that have none of their own, and those that are no ids at all."""

import hashlib

import msgspec

# As the only id of a sender each of these would make one contact of many strangers.
JUNK_IDS = frozenset({"null", "undefined", "none", "nil", "nan", "anonymous", "unknown", "[object object]"})

_ENCODER = msgspec.json.Encoder(order="sorted")


def derived_id(prefix: str, *parts: object) -> str:
    """Return an id made from what identifies an item: the same parts, the same id, in whatever order it comes.

    Parts are JSON values; the order of keys in them does not count.
    """
    digest = hashlib.blake2b(_ENCODER.encode(parts), digest_size=16).hexdigest()
    return f"{prefix}:{digest}"


def is_junk_id(text: str) -> bool:
    """Return whether a sender's id is empty, all zeros, or a placeholder that many senders share."""
    return not text.strip("0") or text.lower() in JUNK_IDS
