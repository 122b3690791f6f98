"""The long fault runs of `make faults`: kill, stop and flush everything under load, and count what was lost.

Each run prints its figures. The short versions are in `tests/acceptance/test_crash_safety.py`.
"""

# ruff: noqa: N802 - the names carry the lessons and faults

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator

import pytest

from ingest.domain.blocks import BlockTerms
from ingest.jobs.publisher import NoPublisher
from ingest.pipeline.block import block_contacts
from ingest.runtime import now
from ingest.simulators.traffic import Plan
from ingest.store.unit_of_work import unit_of_work
from tests.system import Load, System, Verdict, running_system, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(900)]

SEED = int(os.environ.get("FAULTS_SEED", "1"))


@pytest.fixture
def system() -> Iterator[System]:
    with running_system() as system:
        yield system


def judged(system: System, load: Load, what: str, drain_seconds: float = 180) -> Verdict:
    """Wait until nothing waits, print the figures, and assert that nothing bad happened."""
    drained = system.drain(drain_seconds)
    verdict = system.judge(load)
    kills = sum(system.killed.values())
    print(f"\n{what}, seed {SEED}: {verdict}; {kills} kills; drained {drained:.1f} s after the load")
    assert verdict.is_clean, verdict
    assert set(verdict.refused) <= {503}, verdict
    system.assert_sound()
    return verdict


def test_K4_and_T73_twenty_thousand_messages_while_a_random_process_is_killed_every_two_seconds(
    system: System,
) -> None:
    load = system.load(Plan(rate=400, seconds=300, senders=5000, seed=SEED, connections=32))
    load.start()
    system.kill_every(2, load, SEED, accepted=20_000)
    load.stop()
    verdict = judged(system, load, "20,000 messages, a process killed every 2 s")
    assert verdict.accepted >= 20_000
    assert sum(system.killed.values()) >= 20


def test_T72_and_Q1_and_Q2_the_broker_forgets_everything_and_restarts_five_times_under_load(system: System) -> None:
    load = system.load(Plan(rate=300, seconds=30, senders=2000, seed=SEED))
    load.start()
    resumed: list[float] = []
    for _ in range(5):
        time.sleep(4)
        system.flush_broker()
        started, stored = time.monotonic(), system.scalar("select count(*) from message")
        until(lambda stored=stored: system.scalar("select count(*) from message") > stored, 30)
        resumed.append(time.monotonic() - started)
    load.join(120)
    verdict = judged(system, load, "broker flushed and restarted 5 times")
    print(f"consumption resumed after {', '.join(f'{each:.1f}' for each in resumed)} s")
    assert (verdict.unknown, verdict.refused) == (0, {})


def test_D1_and_2_1_the_database_is_away_for_a_minute_while_web_and_worker_processes_are_killed(
    system: System,
) -> None:
    load = system.load(Plan(rate=150, seconds=90, senders=2000, seed=SEED, connections=32))
    load.start()
    time.sleep(10)
    chance = random.Random(SEED)
    with system.database_stopped():
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            time.sleep(10)
            system.kill_one(chance)
    load.join(120)
    verdict = judged(system, load, "PostgreSQL stopped for 60 s")
    assert verdict.accepted > 1000


def test_T27_fifty_first_messages_of_one_new_sender_on_four_workers() -> None:
    with running_system(resolvers=4) as system:
        load = system.load(Plan(rate=10_000, count=50, senders=1, seed=SEED, connections=50))
        load.start()
        load.join(60)
        judged(system, load, "50 first messages at once")
        for table, expected in (("contact", 1), ("conversation", 1), ("message", 50)):
            assert system.scalar(f"select count(*) from {table}") == expected


def test_P3_and_M5_a_block_committed_while_ten_thousand_messages_flow(system: System) -> None:
    load = system.load(Plan(rate=500, count=10_000, senders=5, seed=SEED, connections=32))
    load.start()
    until(lambda: system.scalar("select count(*) from message") > 2000, 60)
    ids = [row.id for row in system.rows("select id from contact")]
    with unit_of_work(system.engine, NoPublisher(), now) as uow:
        block_contacts(uow, system.workspace_id, ids, BlockTerms())
        # Under the contacts' locks: nobody is storing for them right now, and the commit follows.
        stored = uow.tx.exec_driver_sql("select count(*) from message").scalar_one()
    load.join(120)
    load.ledger.close()
    system.drain(60)
    final = system.scalar("select count(*) from message")
    dropped = system.scalar("select count(*) from dropped_message")
    print(f"\n{stored} stored before the block, {final - stored} after it, {dropped} dropped")
    assert (final, final + dropped) == (stored, 10_000)
    assert system.scalar("select count(distinct contact_id) from message") == len(ids) == 5
    system.assert_sound()


def test_K6_everything_is_killed_at_once_and_started_again(system: System) -> None:
    load = system.load(Plan(rate=300, seconds=20, senders=1000, seed=SEED))
    load.start()
    time.sleep(6)
    for pid in system.supervisor.pids().values():
        os.kill(pid, 9)
    system.servers.postgres.kill()
    system.servers.valkey.kill()
    system.engine.dispose()
    system.servers.valkey.start()
    system.servers.postgres.start()
    load.join(60)
    judged(system, load, "everything killed at once")


def test_Q3_a_broker_that_hangs_delays_no_answer(system: System) -> None:
    pid = system.servers.valkey.pid
    assert pid is not None
    load = system.load(Plan(rate=200, seconds=15, senders=1000, seed=SEED))
    load.start()
    time.sleep(3)
    os.kill(pid, 19)
    resume = threading.Timer(6, os.kill, (pid, 18))
    resume.start()
    report = load.join(60)
    resume.join()
    judged(system, load, "broker stopped for 6 s")
    slowest = report.percentile(99)
    assert slowest is not None
    assert slowest < 1.5


def test_the_same_smoke_on_rabbitmq() -> None:
    url = os.environ.get("FAULTS_RABBITMQ_URL", "")
    if not url:
        found = shutil.which("rabbitmq-server")
        reason = "rabbitmq-server is not installed" if found is None else "it is not running"
        pytest.skip(f"{reason}: run one and set FAULTS_RABBITMQ_URL, such as amqp://guest:guest@localhost//")
    with running_system(broker_url=url) as system:
        load = system.load(Plan(rate=200, seconds=15, senders=1000, seed=SEED))
        load.start()
        system.kill_every(3, load, SEED)
        load.join(60)
        judged(system, load, "RabbitMQ, a process killed every 3 s")
