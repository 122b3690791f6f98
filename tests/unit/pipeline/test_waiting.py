"""Who goes into the next commit: everybody at once, or workspaces in turn; and who is turned away."""

# ruff: noqa: N802 - the names carry the lessons

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ingest.pipeline.waiting import (
    LARGE_BODY_BYTES,
    MAX_GROUP_BYTES,
    MAX_GROUP_REQUESTS,
    MAX_WAITING_BYTES,
    Waiter,
    Waiting,
)
from ingest.store.intake import RawRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture(scope="module")
def done() -> Iterator["asyncio.Future[None]"]:
    loop = asyncio.new_event_loop()
    yield loop.create_future()
    loop.close()


def request(workspace_id: int, number: int = 0, length: int = 10) -> RawRequest:
    return RawRequest(workspace_id, 1, 0, NOW, number.to_bytes(16, "big"), "POST", "", {}, b"x" * length)


def by_workspace(group: list[Waiter]) -> Counter[int]:
    return Counter(each.workspace_id for each, _ in group)


def test_what_fits_goes_at_once_in_order_of_arrival_within_a_workspace(
    waiting: Waiting, done: "asyncio.Future[None]"
) -> None:
    for number in range(6):
        waiting.add(request(1 + number % 2, number), done)
    group = waiting.take_group()
    assert by_workspace(group) == {1: 3, 2: 3}
    assert [each.trace_id[-1] for each, _ in group if each.workspace_id == 2] == [1, 3, 5]
    assert (len(waiting), waiting.take_group()) == (0, [])


def test_T38_a_tenants_burst_at_the_edge_leaves_another_its_place_in_the_next_commit(
    waiting: Waiting, done: "asyncio.Future[None]"
) -> None:
    for number in range(10 * MAX_GROUP_REQUESTS):
        waiting.add(request(1, number), done)
    for number in range(3):
        waiting.add(request(2, number), done)
    assert by_workspace(waiting.take_group()) == {1: MAX_GROUP_REQUESTS - 3, 2: 3}


def test_nothing_is_taken_twice_or_left_behind(waiting: Waiting, done: "asyncio.Future[None]") -> None:
    sent = {(workspace_id, number) for workspace_id in range(1, 8) for number in range(300 * workspace_id)}
    for workspace_id, number in sorted(sent, key=lambda each: each[1]):
        waiting.add(request(workspace_id, number), done)
    taken: list[tuple[int, int]] = []
    while len(waiting):
        group = waiting.take_group()
        assert 0 < len(group) <= MAX_GROUP_REQUESTS
        taken += [(each.workspace_id, int.from_bytes(each.trace_id, "big")) for each, _ in group]
    assert (len(taken), set(taken)) == (len(sent), sent)


def test_large_bodies_travel_alone_and_get_their_turn(waiting: Waiting, done: "asyncio.Future[None]") -> None:
    for number in range(3 * MAX_GROUP_REQUESTS):
        waiting.add(request(1, number), done)
    for number in range(2):
        waiting.add(request(2, number, LARGE_BODY_BYTES + 1), done)
    sizes = []
    while len(waiting):
        group = waiting.take_group()
        sizes.append((len(group), by_workspace(group)[2]))
    assert [large for _, large in sizes].count(1) == 2
    assert all(size == 1 for size, large in sizes if large)
    assert sizes.index((1, 1)) <= 1


def test_a_group_stays_below_its_bytes(waiting: Waiting, done: "asyncio.Future[None]") -> None:
    for number in range(40):
        waiting.add(request(1 + number % 3, number, LARGE_BODY_BYTES), done)
    while len(waiting):
        assert sum(len(each.body) for each, _ in waiting.take_group()) <= MAX_GROUP_BYTES


def test_a_workspace_that_holds_half_of_the_memory_is_turned_away_and_nobody_else(
    waiting: Waiting, done: "asyncio.Future[None]"
) -> None:
    for number in range(MAX_WAITING_BYTES // 2 // 1_000_000 + 1):
        waiting.add(request(1, number, 1_000_000), done)
    assert not waiting.has_room(1)
    assert waiting.has_room(2)
    while len(waiting):
        waiting.take_group()
    assert waiting.has_room(1)
