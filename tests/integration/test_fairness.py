"""Backlogs and floods beside others: who comes first, what is put back, and that nothing is lost or counted twice."""

# ruff: noqa: N802 - the names carry the lessons

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from ingest.jobs.queues import RESOLVE
from ingest.pipeline.resolve.sharing import BACKLOG_LANE, FLOOD_REQUESTS, PIECE_REQUESTS, find_surplus, lane_of
from ingest.store.intake import encode_requests
from ingest.store.jobs import Claim, claim_jobs
from ingest.store.lanes import find_newest_body
from tests import builders
from tests.builders import at
from tests.integration.test_jobs import House
from tests.pipeline_world import Pipeline
from workers import handling, resolve
from workers.room import LEAST

pytestmark = pytest.mark.database

assert resolve.resolver_of
BUSY, OTHER = "447700900888", "447700900111"


@dataclass
class Tenant:
    """A workspace of the house with one channel. Its messages are numbered from 0 on."""

    house: House
    workspace_id: int
    channel_id: int
    sent: int = 0

    def send(self, count: int, group: int = 500, sender: Callable[[int], str] | str = OTHER) -> None:
        """Have the edge accept so many messages, in rows of `group`."""
        self.house.workspace_id, self.house.channel_id = self.workspace_id, self.channel_id
        numbers = range(self.sent, self.sent + count)
        whose = sender if callable(sender) else lambda _: sender
        bodies = (builders.whatsapp_text(whose(each), f"m{each}", str(each), at(each / 100)) for each in numbers)
        self.house.accept(*bodies, group=group)
        self.sent += count

    def stored(self) -> int:
        """Return how many of its messages are stored."""
        return int(self.house.scalar(f"select count(*) from message where workspace_id = {self.workspace_id}"))

    def waiting(self) -> dict[int, int]:
        """Return how many of its requests wait, by lane."""
        with self.house.runtime.begin() as tx:
            found = tx.execute(
                text("select lane, sum(weight) from job where queue = 'resolve' and workspace_id = :w group by lane"),
                {"w": self.workspace_id},
            )
            return {lane: int(weight) for lane, weight in found}


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    made = House(database_url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def big(house: House) -> Tenant:
    return Tenant(house, house.workspace_id, house.channel_id)


@pytest.fixture
def small(house: House) -> Tenant:
    with house.runtime.begin() as tx:
        pipeline = Pipeline(tx, house.runtime.sealer)
        return Tenant(house, pipeline.workspace_id, pipeline.channel("whatsapp_cloud"))


def many(number: int) -> str:
    """Return one of a thousand senders."""
    return f"4477009{number % 1000:05d}"


def claim_once(house: House) -> Claim:
    """Claim as a worker would, and handle it."""
    with house.runtime.begin() as tx:
        claim = handling._claim(house.runtime, tx, RESOLVE)
    handling.handle_claim(house.runtime, RESOLVE, claim)
    return claim


def assert_exact(house: House, *tenants: Tenant) -> None:
    """Assert that each message sent is stored once, and that the account says so."""
    house.work_off()
    assert [each.stored() for each in tenants] == [each.sent for each in tenants]
    outcomes = house.scalar("select sum(count) from tally where outcome = 'stored'")
    assert outcomes == sum(each.sent for each in tenants)
    assert house.scalar("select count(*) from tally where outcome <> 'accepted' and count <= 0") == 0
    assert house.dead() == []
    house.check()


# A tenant's backlog


def test_T38_beside_a_tenants_backlog_another_is_stored_at_once_and_the_claim_stays_small(
    house: House, big: Tenant, small: Tenant
) -> None:
    big.send(2_000, sender=many)
    small.send(6, group=2)
    claim_once(house)
    assert (small.stored(), big.stored()) == (6, LEAST)
    assert big.waiting() == {0: 1_500, BACKLOG_LANE: 500 - LEAST}
    assert_exact(house, big, small)


def test_T38_what_a_tenant_with_a_backlog_sends_now_does_not_wait_behind_it(
    house: House, big: Tenant, small: Tenant
) -> None:
    big.send(500, sender=many)
    small.send(1)
    claim_once(house)
    big.send(3, sender="447700977777")
    claim_once(house)
    assert (
        house.scalar(
            "select count(*) from message join contact on contact.id = contact_id where contact.phone = '+447700977777'"
        )
        == 3
    )
    assert_exact(house, big, small)


def test_a_backlog_with_nobody_else_about_is_worked_off_in_full_batches(house: House, big: Tenant) -> None:
    big.send(2_000, sender=many)
    assert [sum(job.share for job in claim_once(house).jobs) for _ in range(4)] == [500] * 4
    assert_exact(house, big)


def test_a_backlog_gets_everything_again_a_second_after_the_last_of_the_others(
    house: House, big: Tenant, small: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    big.send(1_000, sender=many)
    small.send(1)
    claim_once(house)
    assert sum(job.share for job in claim_once(house).jobs) == LEAST
    later = time.monotonic() + 1.1
    monkeypatch.setattr(handling.time, "monotonic", lambda: later)
    assert sum(job.share for job in claim_once(house).jobs) >= 490
    monkeypatch.undo()
    assert_exact(house, big, small)


def test_two_backlogs_share_the_room_beside_a_third(house: House, big: Tenant, small: Tenant) -> None:
    with house.runtime.begin() as tx:
        pipeline = Pipeline(tx, house.runtime.sealer)
        third = Tenant(house, pipeline.workspace_id, pipeline.channel("whatsapp_cloud"))
    big.send(1_000, sender=many)
    small.send(1_000, sender=many)
    for _ in range(30):
        third.send(1)
        claim_once(house)
    assert third.stored() == 30
    assert min(big.stored(), small.stored()) >= 5 * LEAST
    assert_exact(house, big, small, third)


def test_lanes_take_turns_by_weight_and_not_by_rows(house: House, big: Tenant, small: Tenant) -> None:
    big.send(90, group=90)
    small.send(90, group=1)
    with house.runtime.begin() as tx:
        claim = claim_jobs(tx, RESOLVE, 50, 20)
        weights = Counter[int]()
        for job in claim.jobs:
            weights[job.workspace_id] += job.weight
    assert weights == {big.workspace_id: 90}
    with house.runtime.begin() as tx:
        claim = claim_jobs(tx, RESOLVE, 50, 20)
    assert {job.workspace_id for job in claim.jobs} == {small.workspace_id}
    assert sum(job.weight for job in claim.jobs) == 50


# A sender's flood


def test_T37_a_senders_flood_is_put_apart_when_somebody_else_is_in_the_claim(house: House, big: Tenant) -> None:
    big.send(400, group=400, sender=lambda each: BUSY if each % 20 else many(each))
    claim_once(house)
    assert big.stored() == 20 + PIECE_REQUESTS
    assert sum(big.waiting().values()) == 380 - PIECE_REQUESTS
    (lane,) = big.waiting()
    assert lane > 0
    assert_exact(house, big)


def test_T37_who_waits_behind_a_flood_comes_before_its_rest(house: House, big: Tenant) -> None:
    big.send(2_000, sender=BUSY)
    big.send(5, sender=many)
    for _ in range(4):
        claim_once(house)
    claim_once(house)
    assert house.scalar("select count(distinct contact_id) from message") == 6
    assert big.stored() < 500
    assert_exact(house, big)


def test_T37_a_flood_with_nobody_else_about_is_stored_in_full_batches(house: House, big: Tenant) -> None:
    big.send(1_500, sender=BUSY)
    for _ in range(3):
        claim_once(house)
    assert (big.stored(), big.waiting()) == (1_500, {})
    assert_exact(house, big)


def test_T37_a_flood_in_a_tenants_backlog_is_put_apart_from_it(house: House, big: Tenant, small: Tenant) -> None:
    big.send(500, sender=lambda each: BUSY if each % 2 else many(each))
    small.send(1)
    claim_once(house)
    waiting = big.waiting()
    # The first few of the flood share the room with the others.
    assert waiting.pop(BACKLOG_LANE) == 250 + PIECE_REQUESTS - LEAST
    assert list(waiting.values()) == [250 - PIECE_REQUESTS]
    assert_exact(house, big, small)


def test_what_is_apart_is_not_put_back_again(house: House, big: Tenant) -> None:
    big.send(400, group=400, sender=lambda each: BUSY if each % 20 else many(each))
    claim_once(house)
    newest = house.scalar("select max(id) from job where queue = 'resolve'")
    house.work_off()
    assert house.scalar(f"select count(*) from job where queue = 'resolve' and id > {newest}") == 0
    assert_exact(house, big)


def test_a_request_that_cannot_be_read_is_set_aside_once_though_its_neighbours_are_put_back(
    house: House, big: Tenant
) -> None:
    big.send(300, group=300, sender=lambda each: BUSY if each % 20 else many(each))
    house.accept(*[b"{"] * 3)
    with house.runtime.begin() as tx:
        bodies = list(tx.scalars(text("select body from job where queue = 'resolve' order by id")))
    requests = [each for body in bodies for each in resolve_requests_of(body)]
    house.run("delete from job")
    house.run(
        "insert into job (workspace_id, queue, name, body, weight) values (:w, 'resolve', 'resolve_requests', :b, :n)",
        w=big.workspace_id,
        b=encode_requests(requests),
        n=len(requests),
    )
    house.work_off()
    assert (big.stored(), len(house.dead())) == (300, 3)
    house.check()


def resolve_requests_of(body: bytes) -> list[Any]:
    from ingest.store.intake import decode_requests

    return decode_requests(body)


# Faults in between


def test_T37_a_worker_killed_while_it_puts_back_has_changed_nothing(
    house: House, big: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As abrupt as a signal: nothing handles it."""

    def die(*_: object) -> None:
        raise Killed

    house.runtime.settings.__dict__["lease_seconds"] = 0.2
    big.send(60, sender=lambda each: BUSY if each % 10 else many(each))
    monkeypatch.setattr(handling, "complete_jobs", die)
    with pytest.raises(Killed):
        claim_once(house)
    monkeypatch.undo()
    assert (big.stored(), big.waiting()) == (0, {0: 60})
    house.check()
    time.sleep(0.3)
    house.runtime.settings.__dict__["lease_seconds"] = 20
    assert_exact(house, big)


def test_a_fault_of_the_moment_repeats_the_putting_back_once(house: House, big: Tenant, small: Tenant) -> None:
    house.run("create sequence fault")
    house.run(
        """create function refuse() returns trigger language plpgsql as $$
            begin if nextval('fault') = 1 then raise exception using errcode = '40001'; end if; return null; end $$"""
    )
    house.run("create trigger refuse after insert on message for each statement execute function refuse()")
    big.send(500, sender=many)
    small.send(2)
    claim_once(house)
    assert (small.stored(), big.waiting()) == (2, {BACKLOG_LANE: 500 - LEAST})
    assert_exact(house, big, small)


# The ordinary case


def test_an_ordinary_claim_reads_nothing_more_and_puts_nothing_back(house: House, big: Tenant, small: Tenant) -> None:
    from sqlalchemy import event

    said: list[str] = []
    for tenant in (big, small):
        tenant.send(90, group=9, sender=many)
    claim_once(house)
    big.send(90, group=9, sender=many)
    small.send(90, group=9, sender=many)
    event.listen(house.runtime.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    claim_once(house)
    assert not [each for each in said if "due_at desc" in each or "as piece" in each or "coalesce(sum(weight)" in each]
    assert (big.waiting(), small.waiting()) == ({}, {})
    assert_exact(house, big, small)


def test_the_newest_in_line_is_asked_of_the_ordinary_lane_alone(house: House, big: Tenant) -> None:
    with house.runtime.begin() as tx:
        assert find_newest_body(tx, RESOLVE, big.workspace_id) is None
    big.send(2, group=1)
    house.run("update job set lane = 3 where id = (select max(id) from job)")
    with house.runtime.begin() as tx:
        found = find_newest_body(tx, RESOLVE, big.workspace_id)
    assert found is not None
    assert b'"m0"' in found.replace(b" ", b"")


def test_only_requests_of_one_flooding_sender_are_surplus() -> None:
    flood = [frozenset({"a"})] * (FLOOD_REQUESTS + 1)
    assert find_surplus(flood, lambda: False) == {}
    assert set(find_surplus(flood, lambda: True)) == set(range(PIECE_REQUESTS, FLOOD_REQUESTS + 1))
    mixed = [frozenset({"a", "b"})] * (FLOOD_REQUESTS + 1)
    assert find_surplus([*mixed, frozenset({"c"})]) == {}
    assert find_surplus([frozenset({""})] * 100 + [frozenset({"c"})]) == {}
    assert lane_of("a") == lane_of("a") != lane_of("b")
