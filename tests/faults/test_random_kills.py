"""K4 and K6: random processes die under load, and everything dies at once."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import os

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.record import SEED, Row
from tests.faults.trial import trial
from tests.naive_system import NaiveSystem
from tests.system import System, running_system

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(900)]

KILLS = "kill -9 of a random web or worker process or child every 2 s"
TAKEN_OVER = "taken over; stored once"


def test_K4_and_T73_twenty_thousand_messages_while_a_random_process_is_killed_every_two_seconds() -> None:
    row = Row("K4", KILLS, TAKEN_OVER, "20,000 messages")
    with running_system() as system:
        with trial(system, row, Plan(rate=400, senders=5000, connections=32), bound=30, drain_seconds=180) as run:
            with run.fault():
                system.kill_every(2, run.load, SEED, accepted=20_000)
            run.more["kills"] = sum(system.killed.values())
        assert run.load.ledger.accepted >= 20_000
        assert sum(system.killed.values()) >= 20


@pytest.mark.parametrize("kind", [System, NaiveSystem], ids=["ours", "naive"])
def test_K4_beside_naive(kind: type[System]) -> None:
    row = Row("K4", KILLS, TAKEN_OVER, "beside naive")
    with running_system(kind) as system:
        with trial(system, row, Plan(rate=50, senders=1000, connections=32), bound=30) as run:
            with run.fault():
                system.kill_every(2, run.load, SEED, accepted=3000)
            run.more["kills"] = sum(system.killed.values())
        assert sum(system.killed.values()) >= 15


def test_K6_everything_is_killed_at_once_and_started_again() -> None:
    row = Row("K6", "kill -9 of everything, PostgreSQL and broker too; started again", "every accepted message stored")
    with running_system() as system, trial(system, row, Plan(rate=200, senders=1000), bound=40) as run, run.fault():
        for pid in system.supervisor.pids().values():
            os.kill(pid, 9)
        system.servers.postgres.kill()
        system.servers.valkey.kill()
        system.engine.dispose()
        system.servers.valkey.start()
        system.servers.postgres.start()
