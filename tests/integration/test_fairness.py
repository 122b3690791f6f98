"""A tenant's backlog beside others: who comes first, how large a claim is, and that nothing is lost or counted twice."""

# ruff: noqa: N802 - the names carry the lessons

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest.jobs.queues import RESOLVE
from ingest.store.jobs import CROWDED_WEIGHT, Claim, claim_jobs
from tests import builders
from tests.builders import at
from tests.integration.test_jobs import House
from tests.pipeline_world import Pipeline
from workers import handling, resolve

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

    def send(self, count: int, group: int = 100) -> None:
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


def take(house: House) -> Claim:
    """Claim as a worker would."""
    with house.runtime.begin() as tx:
        return claim_jobs(tx, RESOLVE, BATCH, 20)


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
    # Ninety rows of one come before the first hundred of the other; a claim takes 64 rows.
    assert weights(take(house))[small.workspace_id] == 64
    assert weights(take(house))[small.workspace_id] == 26


@pytest.mark.parametrize("has_other", [False, True])
def test_a_backlog_beside_nobody_or_another_backlog_is_taken_in_full_batches(
    house: House, big: Tenant, small: Tenant, has_other: bool
) -> None:
    big.send(600)
    if has_other:
        small.send(600)
    assert sum(weights(take(house)).values()) == BATCH
