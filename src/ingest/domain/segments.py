"""Segments: how many a workspace may have, what they are called, and which come with it."""

from typing import Any

from ingest.domain.refusals import Invalid

MAX_SEGMENTS = 500
MAX_NAME = 100


def _since(field: str, operator: str, value: str) -> dict[str, Any]:
    return {"$and": [{"category": "timeSince", "field": field, "operator": operator, "value": value}]}


DEFAULT_SEGMENTS = {
    "New contacts": _since("createdAt", "isLessThan", "7 days"),
    "Inactive contacts": _since("lastMessage", "isGreaterThan", "30 days"),
}


def read_name(name: str) -> str:
    """Return the name, trimmed. Raises Invalid for an empty or long one."""
    trimmed = " ".join(name.split())
    if not 1 <= len(trimmed) <= MAX_NAME:
        raise Invalid(f"1 to {MAX_NAME} characters", field="name")
    return trimmed
