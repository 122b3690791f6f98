"""Billing cycles begin once a month on the workspace's day, whatever clocks and calendars do in between."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

from datetime import UTC, date, datetime, timedelta

import pytest
from celery.schedules import crontab
from celery.utils.time import localize

from ingest.domain.billing import counts_while_blocked, cycle_start

# Clocks go forward in Berlin on 29 March 2026 at 2:00, and back on 25 October at 3:00; in Apia a whole day was left out,
# 30 December 2011; 2028 is a leap year.
ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu", "Australia/Lord_Howe"]
SPANS = [
    (datetime(2026, 3, 27, tzinfo=UTC), 5),
    (datetime(2026, 10, 23, tzinfo=UTC), 5),
    (datetime(2027, 12, 30, tzinfo=UTC), 5),
    (datetime(2028, 2, 26, tzinfo=UTC), 6),
    (datetime(2011, 12, 28, tzinfo=UTC), 6),
]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cycle_day", [1, 26, 28])
@pytest.mark.parametrize(("begin", "days"), SPANS, ids=["forward", "back", "year end", "leap day", "a day left out"])
def test_W2_a_cycle_never_begins_twice_and_never_goes_back(
    zone: str, cycle_day: int, begin: datetime, days: int
) -> None:
    moments = [begin + timedelta(minutes=10 * number) for number in range(days * 144)]
    starts = [cycle_start(at, zone, cycle_day) for at in moments]
    assert starts == sorted(starts)
    assert len(set(starts)) <= 2
    assert all(start.day == cycle_day for start in starts)


@pytest.mark.parametrize(
    ("at", "zone", "cycle_day", "expected"),
    [
        # The hour that comes twice belongs to one cycle both times.
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "Europe/Berlin", 25, date(2026, 10, 25)),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "Europe/Berlin", 25, date(2026, 10, 25)),
        (datetime(2027, 12, 31, 23, 30, tzinfo=UTC), "Europe/Berlin", 1, date(2028, 1, 1)),
        (datetime(2028, 1, 1, 2, 30, tzinfo=UTC), "America/Sao_Paulo", 1, date(2027, 12, 1)),
        (datetime(2028, 2, 29, 12, 0, tzinfo=UTC), "UTC", 28, date(2028, 2, 28)),
        (datetime(2028, 3, 1, 12, 0, tzinfo=UTC), "UTC", 28, date(2028, 2, 28)),
        (datetime(2027, 3, 1, 12, 0, tzinfo=UTC), "UTC", 28, date(2027, 2, 28)),
    ],
)
def test_W2_cycles_at_the_edges_of_the_calendar(at: datetime, zone: str, cycle_day: int, expected: date) -> None:
    assert cycle_start(at, zone, cycle_day) == expected


def test_W2_a_block_and_a_dropped_message_on_either_side_of_new_year_are_in_two_cycles() -> None:
    blocked_at = datetime(2027, 12, 31, 22, 30, tzinfo=UTC)
    assert counts_while_blocked(blocked_at + timedelta(minutes=29), blocked_at, "Europe/Berlin", 1)
    assert not counts_while_blocked(blocked_at + timedelta(minutes=31), blocked_at, "Europe/Berlin", 1)


@pytest.mark.parametrize(("begin", "days"), SPANS, ids=["forward", "back", "year end", "leap day", "a day left out"])
def test_W2_a_time_of_day_ticks_once_a_day(begin: datetime, days: int) -> None:
    # As the beat asks it, which knows UTC only: at 3:20, an hour that clocks go over or through twice elsewhere.
    clock = begin
    nightly = crontab(hour=3, minute=20, nowfun=lambda: localize(clock, UTC))
    last, ticks = begin, []
    for minute in range(days * 1440):
        clock = begin + timedelta(minutes=minute)
        if nightly.is_due(last).is_due:
            ticks.append(clock)
            last = clock
    assert [(each.hour, each.minute) for each in ticks] == [(3, 20)] * days
    assert [each.date() for each in ticks] == [(begin + timedelta(days=number)).date() for number in range(days)]
