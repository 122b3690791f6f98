"""Processes that die or are told to end: pool children, the beat, workers and web processes, at bad moments."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.balancer import Balancer
from tests.faults.judging import judged, rounded
from tests.faults.record import SEED, Figures, Row, record
from tests.faults.world import FaultySystem, faulty_system, percentile, python, set_timer, timer_delay
from tests.system import free_port, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]

POISONED = python("-m", "tests.faults.poisoned_worker", "resolve")
STOP_SECONDS = 20.0

CHILDREN = Row("K3", "kill -9 of the workers' pool children, twice a second", "batches split, everything stored")
MEMORY_GONE = Row("K3", "two messages that exhaust the worker's memory", "set aside after 3 tries alone, others stored")
BEATS = Row("K5", "two beats, one of them killed every 3 s", "no tick late by much, none harmful twice")
WORKERS_END = Row(
    "G1", "SIGTERM to workers: in mid batch, with work waiting, idle; to all of the group", "exit in < 20 s"
)
WEB_ROLLS = Row("G2", "rolling restart of two web processes, three times", "no 5xx, drained")
COMMIT_CUT = Row(
    "G3", "SIGTERM twice, SIGINT, SIGQUIT, SIGKILL during COMMIT", "outcome decided by the key: stored once"
)


@pytest.fixture
def system() -> Iterator[FaultySystem]:
    with faulty_system() as system:
        yield system


def test_K3_only_pool_children_are_killed(system: FaultySystem) -> None:
    load = system.load(Plan(rate=300, seconds=20, senders=2000, seed=SEED))
    load.start()
    chance, kills = random.Random(SEED), 0
    while not load.is_over:
        time.sleep(0.5)
        children = system.pool_children()
        if children:
            system.kill(chance.choice(children))
            kills += 1
    load.join(60)
    splits = system.output.count('"job.split"')
    judged(system, load, CHILDREN, bound=40, kills=kills, splits=splits)
    assert kills >= 20


MEMORY = Path("/sys/fs/cgroup/memory")


@contextmanager
def little_memory(limit_bytes: int) -> Iterator[tuple[str, str]]:
    """Give a shell command that puts its process under a memory limit, and how that is done."""
    group = MEMORY / f"ingest-faults-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError:
        # No cgroup of version 1 that we may use: a limit on the address space makes MemoryErrors instead of kills.
        yield f"ulimit -v {4 * limit_bytes // 1024}", "rlimit on the address space"
        return
    try:
        yield f"echo $$ > {group}/cgroup.procs", "memory cgroup v1"
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        until(lambda: not (group / "cgroup.procs").read_text().split(), 10)
        group.rmdir()


def test_K3_a_message_that_needs_more_memory_than_there_is_is_set_aside_and_its_neighbours_are_stored() -> None:
    with little_memory(400 * 1024**2) as (limit, how):
        command = ("sh", "-c", f"{limit}; exec {sys.executable} -m tests.faults.poisoned_worker resolve")
        with faulty_system(commands={"worker_resolve": command, "worker_resolve_1": command}) as system:
            load = system.load(Plan(rate=200, seconds=20, senders=1000, seed=SEED))
            load.start()
            time.sleep(2)
            assert [system.send(number, "poison-hoards", f"hoard{number}") for number in range(2)] == [200, 200]
            load.join(60)
            until(lambda: len(system.dead_reasons()) == 2, 60)
            died = "worker_died" if "cgroup" in how else "MemoryError"
            judged(
                system,
                load,
                replace(MEMORY_GONE, case=how),
                bound=30,
                dead=[died] * 2,
                splits=system.output.count('"job.split"'),
                tries=system.scalar("select max(attempts) from dead_letter") - 1,
            )


def test_K5_the_beat_is_killed_every_three_seconds_and_there_are_two() -> None:
    second = python("-m", "ingest", "beat")
    with faulty_system(more={"beat_2": second}, environment={"INGEST_LOG_LEVEL": "info"}) as system:
        chance, kills, delays = random.Random(SEED), 0, []
        started = time.monotonic()
        while time.monotonic() - started < 40:
            timer = set_timer(system)
            if kills < (time.monotonic() - started) / 3:
                beats = [pid for name, pid in system.supervisor.pids().items() if name.startswith("beat")]
                system.kill(*chance.sample(beats, min(1, len(beats))))
                kills += 1
            delays.append(timer_delay(system, timer))
        effects = system.output.count('"effects.applied"')
        told = rounded(
            {
                "kills": kills,
                "handled": effects,
                "missed ticks": 0,
                "double effects": 0,
                "worst delay s": max(delays),
                "delay p50 s": percentile(delays, 50),
            }
        )
        record(BEATS, Figures(len(delays), 0, 0, more=told), load="a timer at a time")
        # Handled once each, whoever rang: a tick that comes twice finds nothing.
        assert effects == len(delays)
        # A period is a second; the beats take a few to start again.
        assert max(delays) < 8
        system.assert_sound()


def test_G1_workers_told_to_end_in_mid_batch_with_work_waiting_and_idle_lose_nothing_and_end_in_time() -> None:
    commands = {"worker_resolve": POISONED, "worker_resolve_1": POISONED}
    with faulty_system(commands=commands) as system:
        seconds: dict[str, list[float]] = {"parent": [], "group": [], "waiting": [], "idle": []}
        load = system.load(Plan(rate=200, seconds=120, senders=1000, seed=SEED))
        load.start()
        for number in range(4):
            # Slow batches hold their transaction open for 1.5 s: the signal comes in the middle of one.
            assert system.send(number, "slow-batch", f"slow{number}") == 200
            until(lambda number=number: system.scalar("select count(*) from job where leased_until > now()"), 10, 0.01)
            is_group = bool(number % 2)
            seconds["group" if is_group else "parent"] += [system.end(*system.resolver_names(), group=is_group)]
            until(lambda: len(system.pool_children()) == 2, 20)
            time.sleep(1)
        stopped = system.stop_resolvers()
        until(lambda: system.waiting() > 500, 30)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        seconds["waiting"].append(system.end(*system.resolver_names()))
        load.stop()
        system.drain(60)
        until(lambda: len(system.pool_children()) == 2, 20)
        seconds["idle"].append(system.end(*system.resolver_names(), "worker_upkeep"))
        worst = {f"{kind}_worst_exit_s": max(each) for kind, each in seconds.items()}
        judged(system, load, WORKERS_END, bound=30, **worst)
        assert max(worst.values()) < STOP_SECONDS
        assert all(system.is_stored(f"slow{number}") for number in range(4))


def test_G2_two_web_processes_are_restarted_in_turn_under_load() -> None:
    ports = [free_port(), free_port()]
    web = {f"web_{number}": python("-m", "ingest", "web", INGEST_PORT=str(port)) for number, port in enumerate(ports)}
    with (
        Balancer(ports) as balancer,
        faulty_system(
            processes=("worker_resolve", "worker_upkeep", "beat"), public_port=balancer.port, more=web
        ) as system,
    ):
        load = system.load(Plan(rate=200, seconds=30, senders=1000, seed=SEED, connections=32))
        load.start()
        exits = []
        for _ in range(3):
            for number, name in enumerate(web):
                time.sleep(2)
                exits.append(system.end(name))
                until(lambda number=number: balancer.is_up(number), 20)
        load.join(60)
        verdict = judged(
            system,
            load,
            WEB_ROLLS,
            bound=20,
            refused=(),
            restarts=len(exits),
            worst_exit_s=max(exits),
        )
        # What was in flight on a process that went away may stay without an answer; nothing else.
        assert verdict.unknown <= 32 * len(exits)
        assert max(exits) < STOP_SECONDS


SLOW_COMMIT = """
    create function slow_commit() returns trigger language plpgsql as $$
    begin if starts_with(new.text, 'slow-commit') then perform pg_sleep(1.5); end if; return null; end $$;
    create constraint trigger slow_commit after insert on message deferrable initially deferred
    for each row execute function slow_commit();
"""
COMMITTING = "select count(*) from pg_stat_activity where state = 'active' and query ilike 'commit%'"
GOODBYES = {
    "SIGTERM twice": ((signal.SIGTERM, signal.SIGTERM), False),
    "SIGINT to the group": ((signal.SIGINT,), True),
    "SIGINT twice": ((signal.SIGINT, signal.SIGINT), False),
    "SIGQUIT": ((signal.SIGQUIT,), False),
    "SIGTERM, then SIGQUIT to the group": ((signal.SIGTERM, signal.SIGQUIT), True),
    "SIGTERM, then SIGKILL to the group": ((signal.SIGTERM, signal.SIGKILL), True),
}


def test_G3_a_worker_is_told_to_end_while_a_commit_is_under_way() -> None:
    with faulty_system() as system:
        with system.engine.begin() as tx:
            tx.exec_driver_sql(SLOW_COMMIT)
        load = system.load(Plan(rate=50, seconds=280, senders=500, seed=SEED))
        load.start()
        exits: dict[str, float] = {}
        stored_after = [0.0]
        for number, (what, (signs, group)) in enumerate(GOODBYES.items()):
            until(lambda: len(system.pool_children()) == 2, 30)
            assert system.send(number, "slow-commit", f"commit{number}") == 200
            until(lambda: system.scalar(COMMITTING) > 0, 30, interval=0.01)
            exits[what] = system.end(*system.resolver_names(), signs=signs, group=group)
            ended = time.monotonic()
            until(lambda number=number: system.is_stored(f"commit{number}"), 60)
            stored_after.append(time.monotonic() - ended)
            print(f"  G3 {what}: ended after {exits[what]:.1f} s, stored {stored_after[-1]:.1f} s later", flush=True)
        load.stop()
        told = {f"{what}, exit s": seconds for what, seconds in exits.items()}
        judged(system, load, COMMIT_CUT, bound=40, stored_after_s=max(stored_after), **told)
        for number in range(len(GOODBYES)):
            found = system.scalar("select count(*) from message where external_id like :id", id=f"%commit{number}")
            assert found == 1
        # What operations.md says to allow a process, before it is killed.
        assert max(exits.values()) < 40
