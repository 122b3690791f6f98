"""A tenant's backlog beside others: who comes first, how large a claim is, and that nothing is lost or counted twice."""

# ruff: noqa: N802 - the names carry the lessons

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest.jobs.queues import DELETE, REACT, RESOLVE, TRANSFER
from ingest.store.jobs import CROWDED_WEIGHT, FRESH_SHARE, Claim, claim_jobs
from tests import builders
from tests.builders import at
from tests.integration.test_jobs import House
from tests.pipeline_world import Pipeline
from workers import handling, resolve, turns
from workers.turns import Turns

pytestmark = pytest.mark.database

assert resolve.resolver_of
BATCH = 500


@dataclass
class Tenant:
    """A workspace of the house with one channel. Its messages are numbered from 0 on."""

    house: House
    workspace_id: int
    channel_id: int
    sent: int = 0

    def send(self, count: int, group: int = CROWDED_WEIGHT) -> None:
        """Have the edge accept so many messages, in rows of `group`."""
        self.house.workspace_id, self.house.channel_id = self.workspace_id, self.channel_id
        numbers = range(self.sent, self.sent + count)
        bodies = (
            builders.whatsapp_text(f"4477009{each % 1000:05d}", f"m{each}", str(each), at(each / 100))
            for each in numbers
        )
        self.house.accept(*bodies, group=group)
        self.sent += count

    def stored(self) -> int:
        """Return how many of its messages are stored."""
        return int(self.house.scalar(f"select count(*) from message where workspace_id = {self.workspace_id}"))


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


def take(house: House, *, fresh: bool = False, at_most: int | None = None) -> Claim:
    """Claim as a worker would."""
    with house.runtime.begin() as tx:
        return claim_jobs(tx, RESOLVE, BATCH, 20, fresh=fresh, at_most=at_most)


def let_age(house: House) -> None:
    """Have all that waits be five seconds old."""
    house.run("update job set due_at = due_at - interval '5 seconds'")


def weights(claim: Claim) -> Counter[int]:
    """Return how much of the claim is whose."""
    found: Counter[int] = Counter()
    for job in claim.jobs:
        found[job.workspace_id] += job.weight
    return found


def test_T38_beside_a_tenants_backlog_all_that_another_has_comes_first_in_a_small_claim(
    house: House, big: Tenant, small: Tenant
) -> None:
    big.send(1000)
    small.send(40, group=4)
    claim = take(house)
    assert weights(claim) == {small.workspace_id: 40, big.workspace_id: CROWDED_WEIGHT}
    handling.handle_claim(house.runtime, RESOLVE, claim)
    assert (small.stored(), big.stored()) == (40, CROWDED_WEIGHT)
    house.work_off()
    assert (small.stored(), big.stored()) == (40, 1000)
    assert house.dead() == []
    house.check()


def test_T38_turns_are_counted_in_weight_not_in_rows(house: House, big: Tenant, small: Tenant) -> None:
    big.send(600, group=100)
    small.send(90, group=1)
    # Ninety rows of one come before the first hundred of the other.
    assert weights(take(house)) == {small.workspace_id: CROWDED_WEIGHT}
    assert weights(take(house))[small.workspace_id] == 90 - CROWDED_WEIGHT


@pytest.mark.parametrize("has_other", [False, True])
def test_a_backlog_beside_nobody_or_another_backlog_is_taken_in_full_batches(
    house: House, big: Tenant, small: Tenant, has_other: bool
) -> None:
    big.send(600)
    if has_other:
        small.send(600)
    assert sum(weights(take(house)).values()) == BATCH


def test_T38_a_fresh_claim_beside_a_tenants_backlog_takes_only_what_others_have(
    house: House, big: Tenant, small: Tenant
) -> None:
    big.send(1000)
    let_age(house)
    small.send(40, group=4)
    assert weights(take(house, fresh=True)) == {small.workspace_id: 40}


def test_T37_a_fresh_claim_takes_what_came_after_a_flood_before_the_flood(house: House, big: Tenant) -> None:
    big.send(1000)
    let_age(house)
    big.send(8, group=2)
    assert weights(take(house, fresh=True)) == {big.workspace_id: 8}
    assert weights(take(house, at_most=CROWDED_WEIGHT)) == {big.workspace_id: CROWDED_WEIGHT}
    # Nothing else is left that is fresh: a worker never finds a fresh claim empty while there is work, and catches up.
    assert weights(take(house, fresh=True, at_most=CROWDED_WEIGHT)) == {big.workspace_id: BATCH}


def test_while_all_that_is_fresh_is_more_than_a_claim_the_newest_comes_first(house: House, big: Tenant) -> None:
    big.send(600)
    house.run(
        "update job set due_at = now() - interval '400 milliseconds' + (id - :first) * interval '10 milliseconds'",
        first=house.scalar("select min(id) from job"),
    )
    first, last = house.scalar("select min(id) from job"), house.scalar("select max(id) from job")
    taken = take(house, fresh=True).ids
    assert taken == list(range(last - BATCH // FRESH_SHARE // CROWDED_WEIGHT, last + 1))
    assert first in take(house).ids


def test_without_a_backlog_a_fresh_claim_is_like_any_other(house: House, big: Tenant, small: Tenant) -> None:
    big.send(300)
    small.send(100)
    let_age(house)
    claim = take(house, fresh=True)
    assert weights(claim) == {big.workspace_id: 300, small.workspace_id: 100}
    assert not claim.is_crowded


def test_a_worker_takes_fresh_work_and_pieces_of_a_backlog_in_turn(house: House, big: Tenant, small: Tenant) -> None:
    big.send(1000)
    let_age(house)
    taken = []
    worker = Turns(house.runtime, RESOLVE)
    for _ in range(3):
        small.send(3, group=3)
        taken += [weights(worker.claim()), weights(worker.claim())]
    assert taken == [{small.workspace_id: 3}, {big.workspace_id: CROWDED_WEIGHT}] * 3


@pytest.mark.parametrize(("fresh", "piece"), [(40, CROWDED_WEIGHT), (BATCH // FRESH_SHARE, BATCH)])
def test_a_piece_is_small_unless_what_is_fresh_is_too_much_time_after_time(
    house: House, big: Tenant, fresh: int, piece: int
) -> None:
    big.send(3000)
    let_age(house)
    worker = Turns(house.runtime, RESOLVE)
    for _ in range(turns.LATE_CLAIMS - 1):
        big.send(fresh, group=25)
        assert (worker.claim().weight, worker.claim().weight) == (fresh, CROWDED_WEIGHT)
    big.send(fresh, group=25)
    assert (worker.claim().weight, worker.claim().weight) == (fresh, piece)


def test_a_queue_without_turns_takes_all_that_is_due_however_much(house: House) -> None:
    house.run(
        "insert into job (workspace_id, queue, name) select :w, 'react', 'step' from generate_series(1, 600)",
        w=house.workspace_id,
    )
    assert Turns(house.runtime, REACT).claim().weight == BATCH


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long workers wanted to rest; nobody waits."""
    taken: list[float] = []
    monkeypatch.setattr(turns.time, "sleep", taken.append)
    return taken


def test_a_worker_rests_until_more_has_come_but_never_while_somebody_has_a_backlog(
    house: House, big: Tenant, rests: list[float]
) -> None:
    big.send(10)
    worker = Turns(house.runtime, RESOLVE)
    worker.rest(worker.claim(), 0.01)
    assert rests == [turns.GATHER_SECONDS[RESOLVE]]
    big.send(1000)
    let_age(house)
    big.send(10)
    for _ in range(2):
        worker.rest(worker.claim(), 0.01)
    assert len(rests) == 1


@pytest.mark.parametrize("queue", [TRANSFER, DELETE])
def test_bulk_work_rests_longer_while_messages_come(
    house: House, big: Tenant, rests: list[float], monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    monkeypatch.setattr(turns, "TRAFFIC", turns.Traffic())
    worker, pace = Turns(house.runtime, queue), turns.PACES[queue]
    for messages in (0, 0, 200, 0):
        big.send(messages)
        house.work_off()
        worker.rest(worker.claim(), 0.03)
    # Nobody has looked before the first look, so it takes nothing for busy.
    taken = [each for each in rests if each not in turns.GATHER_SECONDS.values()]
    assert taken == pytest.approx([0.03 * each for each in (pace.alone, pace.alone, pace.beside, pace.alone)])
    assert pace.beside > pace.alone


@pytest.mark.parametrize(("messages", "share"), [(0, 0.0), (25, 0.5), (50, 1.0), (500, 1.0)])
def test_how_busy_it_is_goes_by_the_messages_of_each_second(
    house: House, big: Tenant, monkeypatch: pytest.MonkeyPatch, messages: int, share: float
) -> None:
    big.send(1)
    house.work_off()
    traffic = turns.Traffic()
    traffic.look(house.runtime)
    big.send(messages)
    house.work_off()
    monkeypatch.setattr(turns.time, "monotonic", lambda: traffic.looked_at + 1)
    assert traffic.look(house.runtime) == pytest.approx(share)
