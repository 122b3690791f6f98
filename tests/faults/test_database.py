"""D1, D2, D7: PostgreSQL restarts, hangs, is cut off, and answers a commit to nobody."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.record import SEED, Row
from tests.faults.trial import on, trial
from tests.system import System, children_of, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(600)]

# Many channels: every look-up of one may hang.
OURS = on(System, is_proxied=True, more_channels=12)
DROPPED = 10
PLAN = Plan(rate=50, senders=1000, connections=32)


def fast(system: System) -> None:
    """Stop PostgreSQL as an operator does."""
    system.servers.postgres.stop("fast")


def immediate(system: System) -> None:
    """Stop PostgreSQL as a power cut does, politely."""
    system.servers.postgres.stop("immediate")


def kill_postmaster(system: System) -> None:
    """Kill the postmaster alone; its children notice and go."""
    pid = system.servers.postgres.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: system.servers.postgres.pid is None, 10)


@OURS
@pytest.mark.parametrize("end", [fast, immediate, kill_postmaster], ids=["fast", "immediate", "kill -9"])
def test_D1_the_database_restarts_under_load(system: System, end: Callable[[System], None]) -> None:
    case = {"fast": "fast", "immediate": "immediate"}.get(end.__name__, "kill -9 of the postmaster")
    row = Row(
        "D1", "PostgreSQL restarted 3 times, away for 2 s", "spooled, replayed; nothing lost, nobody refused", case
    )
    with trial(system, row, PLAN, bound=20) as run:
        for _ in range(3):
            with run.fault():
                system.engine.dispose()
                end(system)
                time.sleep(2)
                system.servers.postgres.start()
    assert run.during()[1] == 0.0


@OURS
def test_D1_and_2_1_the_database_is_away_for_a_minute_while_web_and_worker_processes_are_killed(system: System) -> None:
    row = Row(
        "D1", "PostgreSQL away for 60 s, a process killed every 10 s", "spooled, replayed; nothing lost", "a minute"
    )
    chance = random.Random(SEED)
    with trial(system, row, PLAN, bound=40) as run, run.fault(), system.database_stopped():
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            time.sleep(10)
            system.kill_one(chance)


@OURS
@pytest.mark.parametrize("seconds", [5, 60])
def test_D2_a_database_that_hangs_delays_answers_by_a_second_at_most(system: System, seconds: int) -> None:
    row = Row("D2", "PostgreSQL stopped (SIGSTOP)", "spooled; leases kept or passed on once", f"{seconds} s")
    with trial(system, row, PLAN, bound=40) as run:
        pid = system.servers.postgres.pid
        assert pid is not None
        with run.fault():
            os.kill(pid, signal.SIGSTOP)
            stopped = [pid, *children_of(pid)]
            for each in stopped[1:]:
                os.kill(each, signal.SIGSTOP)
            time.sleep(seconds)
            for each in stopped:
                os.kill(each, signal.SIGCONT)
    p99, share = run.during()
    assert p99 is not None
    assert (p99 < 4500, share) == (True, 0.0)


@OURS
def test_D2_connections_to_the_database_that_fall_silent_are_given_up(system: System) -> None:
    row = Row(
        "D2", "network to PostgreSQL swallows everything for 20 s", "spooled; dead connections given up", "black hole"
    )
    with trial(system, row, PLAN, bound=60) as run:
        proxies = [*system.proxies("web", "database"), *system.proxies("worker", "database")]
        with run.fault():
            for each in proxies:
                each.blackhole()
            time.sleep(20)
            for each in proxies:
                each.heal()
    p99, share = run.during()
    assert p99 is not None
    assert (p99 < 4500, share) == (True, 0.0)


@OURS
@pytest.mark.parametrize(
    ("side", "answer", "case"),
    [("worker", b"COMMIT\0", "a worker's COMMIT"), ("web", b"INSERT 0", "the web process's grouped insert")],
    ids=["worker", "web"],
)
def test_D7_a_commit_that_is_answered_to_nobody_is_stored_once(
    system: System, side: str, answer: bytes, case: str
) -> None:
    row = Row("D7", "the answer to a commit never arrives, 10 times in a row", "outcome unknown; stored once", case)
    with trial(system, row, PLAN, bound=20) as run:
        proxies = system.proxies(side, "database")
        before = sum(each.dropped for each in proxies)
        with run.fault():
            for each in proxies:
                each.drop_reply(answer, times=DROPPED)
            until(lambda: sum(each.dropped for each in proxies) >= before + DROPPED, 60)
            for each in proxies:
                each.heal()
        run.more["dropped"] = sum(each.dropped for each in proxies) - before
    assert run.during()[1] == 0.0
