"""Billing cycles: the month-long spans in which an active contact counts once."""

from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@lru_cache(maxsize=4096)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def cycle_start(at: datetime, time_zone: str, cycle_day: int) -> date:
    """Return the first day of the billing cycle that the moment falls into, in the workspace's time zone.

    `cycle_day` is 1 to 28. An unknown time zone counts as UTC.
    """
    day = at.astimezone(_zone(time_zone)).date()
    if day.day >= cycle_day:
        return day.replace(day=cycle_day)
    year, month = (day.year, day.month - 1) if day.month > 1 else (day.year - 1, 12)
    return date(year, month, cycle_day)


def counts_while_blocked(at: datetime, blocked_at: datetime, time_zone: str, cycle_day: int) -> bool:
    """Return whether a dropped message still makes its contact count: only in the cycle of the block itself."""
    return cycle_start(at, time_zone, cycle_day) == cycle_start(blocked_at, time_zone, cycle_day)
