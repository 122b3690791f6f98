"""The room of backlogs beside others: small while it is enough, twice as much when it is not, everything when alone."""

from workers.room import LEAST, LOOK_SECONDS, Room

MOST = 500


def crowd(room: Room, waiting: list[int], begins: float = 100) -> list[int | None]:
    """Have others about, and look at what is waiting at every interval; return the limits."""
    limits = []
    for number, each in enumerate(waiting):
        now = begins + number * LOOK_SECONDS
        room.note(now, is_crowded=True)
        assert room.wants_look(now)
        room.look(now, each)
        limits.append(room.limit)
    return limits


def test_a_backlog_that_shrinks_keeps_the_least_room() -> None:
    assert set(crowd(Room(MOST), list(range(10_000, 5_000, -150)))) == {LEAST}


def test_a_backlog_that_grows_gets_twice_the_room_each_time_and_in_the_end_gives_way_no_more() -> None:
    limits = crowd(Room(MOST), list(range(10_000, 20_000, 500)))
    assert limits[:4] == [10, 20, 40, 80]
    assert limits[-1] is None


def test_a_backlog_that_would_take_longer_than_a_minute_gets_more() -> None:
    # 100,000 and 1,000 less a second: a hundred seconds.
    assert crowd(Room(MOST), list(range(100_000, 99_000, -250)))[-1] == 80


def test_the_room_becomes_small_again_when_little_is_waiting() -> None:
    room = Room(MOST)
    crowd(room, list(range(10_000, 20_000, 500)))
    assert crowd(room, [400] * 10, begins=200)[-1] == LEAST


def test_others_count_as_about_for_a_second() -> None:
    room = Room(MOST)
    assert not room.is_crowded(100)
    room.note(100, is_crowded=True)
    room.note(100.5, is_crowded=False)
    assert room.is_crowded(100.9)
    assert not room.is_crowded(101.1)


def test_nobody_looks_while_nobody_else_is_about() -> None:
    assert not Room(MOST).wants_look(100)
