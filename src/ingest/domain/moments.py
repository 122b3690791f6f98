"""Moments as people and programs write them, and the spans of time they stand for.

A bare date means the whole day, a time without seconds the whole minute; without an offset both are in the asker's zone.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest.domain.refusals import Invalid

DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
TO_THE_MINUTE = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")
NUMBER = re.compile(r"-?\d{1,17}(\.\d+)?")
DURATION = re.compile(r"(\d{1,9})\s*(second|minute|hour|day|week|month)s?")
# Above this a number is milliseconds.
MILLISECONDS_FROM = 10**11
UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """From `start`, which is in it, to `end`, which is not; aware UTC."""

    start: datetime
    end: datetime


def read_zone(name: str | None) -> ZoneInfo:
    """Return the zone of that name. An unknown one is UTC: clients send names that do not exist."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def read_span(value: object, zone: ZoneInfo, field: str = "value") -> Span:
    """Return the span that a moment stands for: a day, a minute, a second or less. Raises Invalid."""
    text = str(value).strip()
    try:
        if NUMBER.fullmatch(text):
            return _from_number(float(text))
        start = datetime.fromisoformat(text)
        length = _length(text)
        end = (start if start.tzinfo else start.replace(tzinfo=zone)) + length
        # A day is as long as the calendar says, also when clocks change.
        start, end = (each if each.tzinfo else each.replace(tzinfo=zone) for each in (start, end))
        span = Span(start.astimezone(UTC), end.astimezone(UTC))
    except (ValueError, OverflowError, OSError):
        raise Invalid("a moment such as 2026-06-30, 2026-06-30T09:30:00+08:00 or unix seconds", field=field) from None
    return _bounded(span, field)


def _from_number(number: float) -> Span:
    seconds = number / 1000 if abs(number) >= MILLISECONDS_FROM else number
    start = datetime.fromtimestamp(seconds, UTC)
    return _bounded(Span(start, start + timedelta(microseconds=1)), "value")


def _length(text: str) -> timedelta:
    if DATE.fullmatch(text):
        return timedelta(days=1)
    return timedelta(minutes=1) if TO_THE_MINUTE.fullmatch(text) else timedelta(microseconds=1)


def _bounded(span: Span, field: str) -> Span:
    if not EARLIEST <= span.start <= LATEST:
        raise Invalid("a moment between 1900 and 9000", field=field)
    return span


def read_duration(value: object, field: str = "value") -> timedelta:
    """Return a duration: "30 days", "2 hours", or seconds as a number. Raises Invalid."""
    text = str(value).strip().lower()
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return timedelta(seconds=int(text))
    found = DURATION.fullmatch(text)
    if not found:
        raise Invalid("a duration such as 30 days, 2 hours, or seconds", field=field)
    seconds = int(found[1]) * UNIT_SECONDS[found[2]]
    if seconds > 200 * 365 * 86400:
        raise Invalid("at most 200 years", field=field)
    return timedelta(seconds=seconds)
