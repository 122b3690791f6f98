"""Nothing acknowledged is lost, nothing is stored twice: the short versions. `make faults` runs the long ones."""

# ruff: noqa: N802 - the names carry the lessons and faults

from collections.abc import Iterator

import pytest

from ingest.simulators.traffic import Plan
from tests.system import System, running_system, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def shared_system() -> Iterator[System]:
    with running_system() as system:
        yield system


@pytest.fixture
def system(shared_system: System) -> System:
    """The system, up again after whatever the test before has killed."""
    until(shared_system.is_ready, 60)
    return shared_system


def test_K4_processes_killed_under_load_lose_nothing_and_store_nothing_twice(system: System) -> None:
    load = system.load(Plan(rate=200, seconds=6, senders=300, seed=4, duplicates=0.05))
    load.start()
    system.kill_every(1.5, load, seed=4)
    load.join(60)
    system.drain(60)
    verdict = system.judge(load)
    assert verdict.is_clean, verdict
    assert verdict.accepted > 0
    assert set(verdict.refused) <= {503}, verdict
    assert sum(system.killed.values()) >= 3
    system.assert_sound()


def test_T81_and_Q2_a_broker_that_forgets_everything_under_load_loses_nothing(system: System) -> None:
    load = system.load(Plan(rate=200, seconds=4, senders=300, seed=5))
    load.start()
    for _ in range(2):
        until(lambda: system.waiting() > 0 or load.is_over, 10, interval=0.01)
        system.flush_broker()
    load.join(60)
    system.drain(40)
    verdict = system.judge(load)
    assert verdict.is_clean, verdict
    assert (verdict.unknown, verdict.refused) == (0, {})


def test_D1_a_database_that_stops_under_load_loses_nothing_that_was_answered(system: System) -> None:
    load = system.load(Plan(rate=100, seconds=8, senders=300, seed=6))
    load.start()
    until(lambda: load.ledger.path.stat().st_size > 0, 10)
    with system.database_stopped():
        before = len(load.ledger.answers())
        until(lambda: len(load.ledger.answers()) > before + 100, 10)
    load.join(60)
    system.drain(60)
    verdict = system.judge(load)
    assert verdict.is_clean, verdict
    assert set(verdict.refused) <= {503}, verdict
    assert verdict.accepted > 500
    system.assert_sound()
