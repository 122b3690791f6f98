"""Token buckets: how fast they empty and fill."""

from ingest.web.api.limits import Buckets


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bucket_gives_its_rate_at_once_and_then_one_each_share_of_a_second() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    assert [buckets.take("a", 5).is_exceeded for _ in range(6)] == [False] * 5 + [True]
    clock.seconds += 0.2
    assert not buckets.take("a", 5).is_exceeded
    assert buckets.take("a", 5).is_exceeded


def test_an_exceeded_bucket_says_how_long_to_wait_in_whole_seconds() -> None:
    buckets = Buckets(Clock())
    for _ in range(2):
        told = buckets.take("a", 1)
    assert (told.limit, told.remaining, told.wait_seconds, told.is_exceeded) == (1, 0, 1, True)


def test_buckets_of_different_keys_are_strangers() -> None:
    buckets = Buckets(Clock())
    buckets.take("a", 1)
    assert not buckets.take("b", 1).is_exceeded


def test_a_bucket_never_holds_more_than_its_rate() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    buckets.take("a", 3)
    clock.seconds += 1000
    assert [buckets.take("a", 3).is_exceeded for _ in range(4)] == [False, False, False, True]
