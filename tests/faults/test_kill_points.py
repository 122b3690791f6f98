"""K1 and K2: the web process or a worker dies at a named step, and every message is stored once all the same."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.record import QUICK, SEED, Row
from tests.faults.trial import Trial, conclude
from tests.system import System, children_of, running_system, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

MESSAGES = 25
PLAN = Plan(rate=100, count=MESSAGES, senders=10, seed=SEED, connections=4)
WEB = Row("K1", "kill -9 of the web process", "not answered; sent again; stored once", when=QUICK)
WORKER = Row("K2", "kill -9 of a worker", "taken over by another worker; stored once", when=QUICK)
LEASE_SECONDS = 2
BOUND_SECONDS = 15
# Of a web process on a busy machine; nobody else listens meanwhile.
RESTART_SECONDS = 30
STALL = """
    create function stall() returns trigger language plpgsql as $$ begin perform pg_sleep(20); return null; end $$;
    create trigger stall after insert on message for each statement execute function stall();
"""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(is_proxied=True, environment={"INGEST_LEASE_SECONDS": str(LEASE_SECONDS)}) as system:
        yield system


def send(system: System, row: Row, strike: Callable[[], object], bound: float = BOUND_SECONDS) -> Trial:
    """Send the messages while somebody dies; then send again what was not accepted, as a provider does.

    The recovery time runs from the death until everything is stored.
    """
    load = system.load(PLAN)
    run = Trial(system, row, load, bound)
    started = time.monotonic()
    load.start()
    strike()
    struck = time.monotonic()
    load.join(30)
    run.windows.append((started, time.monotonic()))
    refused = list(load.ledger.unaccepted.values())
    for delivery in refused:
        until(lambda delivery=delivery: system.repeat(load, delivery), bound)
    system.drain(bound)
    run.recoveries.append(round(time.monotonic() - struck, 1))
    run.more["sent again"] = len(refused)
    return run


def has_fired(system: System, point: str) -> Callable[[], object]:
    """Return what waits until somebody has died at the point."""
    return lambda: until(lambda: not system.is_armed(point), 15, interval=0.01)


@pytest.mark.parametrize(
    ("point", "case"),
    [
        ("received", "before the request is parsed"),
        ("proved", "after its proof"),
        ("durable", "after it is durable, before the answer"),
    ],
)
def test_K1_a_web_process_killed_at_a_step_loses_nothing_and_what_is_sent_again_is_stored_once(
    system: System, point: str, case: str
) -> None:
    system.arm(point)
    run = send(system, replace(WEB, case=case), has_fired(system, point), RESTART_SECONDS)
    assert run.more["sent again"] > 0
    verdict = conclude(run, 30)
    assert verdict.stored == verdict.accepted == MESSAGES


@pytest.mark.parametrize(
    ("point", "case"),
    [
        ("woken", "after the bell, before the claim"),
        ("claimed", "after the claim, before the transaction"),
        ("completed", "before the commit"),
        ("committed", "after the commit, before the bell is acknowledged"),
    ],
)
def test_K2_a_worker_killed_at_a_step_is_taken_over(system: System, point: str, case: str) -> None:
    system.arm(point)
    settle(system, send(system, replace(WORKER, case=case), has_fired(system, point)))


def test_K2_a_worker_killed_in_the_middle_of_a_statement_is_taken_over(system: System) -> None:
    with system.engine.begin() as tx:
        tx.exec_driver_sql(STALL)

    def strike() -> None:
        stalled = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
        until(lambda: system.rows(stalled), 15, interval=0.01)
        kill_workers(system)
        with system.engine.begin() as tx:
            # Its session notices after five seconds that nobody is there; the insert is undone then.
            tx.exec_driver_sql("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
            tx.exec_driver_sql("drop trigger stall on message; drop function stall()")

    settle(system, send(system, replace(WORKER, case="in the middle of a statement"), strike))


def test_K2_a_worker_killed_right_after_the_acknowledgement_has_nothing_to_repeat(system: System) -> None:
    killed: list[float] = []

    def kill() -> None:
        kill_workers(system)
        killed.append(time.monotonic())

    # Celery takes the acknowledged bell out of the hash of those that are under way.
    system.network["worker-broker"].on_request(b"HDEL", kill)
    row = replace(WORKER, case="after the acknowledgement")
    settle(system, send(system, row, lambda: until(lambda: killed, 15, interval=0.01)))


def kill_workers(system: System) -> None:
    """End the resolve workers with their children."""
    for name, pid in system.supervisor.pids().items():
        if name.startswith("worker_resolve"):
            for each in (*children_of(pid), pid):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)


def settle(system: System, run: Trial) -> None:
    """Judge, and hold that all messages of the run are stored, each once."""
    verdict = conclude(run, 30)
    assert (verdict.stored, verdict.accepted, dict(verdict.refused)) == (MESSAGES, MESSAGES, {})
