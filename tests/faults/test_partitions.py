"""N1 and N2: parts of the network fall silent, in both directions or one; a worker comes back after its lease."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import time
from collections.abc import Iterator
from functools import partial

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.record import Row
from tests.faults.trial import Trial, trial
from tests.system import System, running_system, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(600)]

PLAN = Plan(rate=50, senders=1000, connections=32)
LEASE_SECONDS = 2
WAYS = {
    "both directions": {"to_server": True, "to_client": True},
    "requests only": {"to_server": True, "to_client": False},
    "answers only": {"to_server": False, "to_client": True},
}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(is_proxied=True, environment={"INGEST_LEASE_SECONDS": str(LEASE_SECONDS)}) as system:
        yield system


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", ["broker", "database"])
@pytest.mark.parametrize("side", ["web", "worker"])
def test_N1_a_partition_heals_by_itself(system: System, side: str, server: str, way: str) -> None:
    row = Row(
        "N1", "network silent for 8 s", "heals by itself; nothing lost, nobody refused", f"{side} to {server}, {way}"
    )
    with trial(system, row, PLAN, bound=45) as run, run.fault():
        for each in system.proxies(side, server):
            each.hold(**WAYS[way])
        time.sleep(8)
        for each in system.proxies(side, server):
            each.heal()
    assert run.during()[1] == 0.0


def lost_leases(system: System) -> int:
    """Return how often a worker found its lease lost."""
    return system.output.count("lease.lost")


def hold_up(run: Trial, before: int) -> None:
    """Wait until a late holder has found out."""
    until(lambda: lost_leases(run.system) > before, 20)
    run.more["late holders that changed nothing"] = lost_leases(run.system) - before


def test_N2_a_worker_that_slept_past_its_lease_changes_nothing(system: System) -> None:
    row = Row(
        "N2", f"a worker sleeps for 6 s with a lease of {LEASE_SECONDS} s", "the late one changes nothing", "asleep"
    )
    before = lost_leases(system)
    with trial(system, row, PLAN, bound=20) as run:
        with run.fault():
            for _ in range(3):
                system.arm("claimed", "sleep 6")
                time.sleep(4)
        time.sleep(6)
        hold_up(run, before)
    assert run.more["late holders that changed nothing"] >= 3


@pytest.mark.parametrize("way", WAYS)
def test_N2_a_partition_of_one_worker_longer_than_its_lease(system: System, way: str) -> None:
    fault = f"one worker of two cut off from PostgreSQL for 8 s with a lease of {LEASE_SECONDS} s"
    before = lost_leases(system)
    with trial(system, Row("N2", fault, "the late one changes nothing", way), PLAN, bound=45) as run:
        second = system.network["second-database"]
        with run.fault():
            # Right after it has claimed and committed that: its work is done by the other one meanwhile.
            cut_off = partial(second.hold, **WAYS[way])
            second.on_reply(b"resolve_requests", partial(second.on_reply, b"COMMIT", cut_off))
            until(lambda: second.is_holding, 20, interval=0.01)
            time.sleep(8)
            second.heal()
        hold_up(run, before)
