"""Where the monthly active contacts of a running cycle are heading."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from ingest.domain.moments import read_zone

WARN_AT = (80, 95)


@dataclass(frozen=True, slots=True)
class Forecast:
    """A running cycle: when it ends, how many contacts it will have counted by then if it goes on so.

    `warning` is the highest of 80 and 95 per cent of the limit that is reached, None below or without a limit.
    """

    cycle_end: date
    expected: int
    warning: int | None


def next_cycle(cycle_start: date) -> date:
    """Return the start of the cycle after this one: the same day of the next month."""
    year, month = (cycle_start.year + 1, 1) if cycle_start.month == 12 else (cycle_start.year, cycle_start.month + 1)
    return date(year, month, cycle_start.day)


def forecast(cycle_start: date, counted: int, now: datetime, time_zone: str, limit: int | None) -> Forecast:
    """Return where the cycle is heading, in a straight line from what it has counted so far."""
    zone = read_zone(time_zone)
    end = next_cycle(cycle_start)
    began, ends = (datetime.combine(each, time(), zone).astimezone(UTC) for each in (cycle_start, end))
    passed = max(now - began, timedelta(hours=1))
    expected = max(counted, round(counted * ((ends - began) / min(passed, ends - began))))
    reached = [each for each in WARN_AT if limit is not None and counted * 100 >= each * limit]
    return Forecast(end, expected, max(reached, default=None))
