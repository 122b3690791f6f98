"""A long run at a moderate load with random faults: nothing lost, and nothing that grows."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import os
import random
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.judging import judged
from tests.faults.record import SEED, SOAK, Row
from tests.faults.world import FaultySystem, faulty_system, resident_mib
from tests.system import children_of

SECONDS = float(os.environ.get("FAULTS_SOAK_SECONDS", "0"))
RATE = float(os.environ.get("FAULTS_SOAK_RATE", "100"))
FAULT_EVERY_SECONDS = 20.0
SAMPLE_SECONDS = 2.0
# What a process needs may differ from one start to the next; what leaks grows by more than that in any longer run.
GROWTH = 1.25

pytestmark = [
    pytest.mark.faults,
    pytest.mark.processes,
    pytest.mark.timeout(SECONDS + 300),
    pytest.mark.skipif(SECONDS <= 0, reason="say for how long: FAULTS_SOAK_SECONDS=28800 is a night"),
]

LONG_RUN = Row("F1", "random faults for a long time", "nothing lost, nothing grows", when=SOAK)

Sample = dict[str, float]


def sample(system: FaultySystem) -> Sample:
    """Return what the web process and the resolvers hold just now."""
    found: Sample = {}
    for kind in ("web", "worker_resolve"):
        parents = [pid for name, pid in system.supervisor.pids().items() if name.startswith(kind)]
        pids = [each for pid in parents for each in (pid, *children_of(pid))]
        found[f"{kind} MiB"] = resident_mib(pids) / max(1, len(pids))
        found[f"{kind} files"] = sum(map(count_files, pids)) / max(1, len(pids))
    found["connections"] = system.scalar("select count(*) from pg_stat_activity where application_name like 'ingest-%'")
    return found


def count_files(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def do_harm(system: FaultySystem, chance: random.Random) -> str:
    """Do something bad for a moment, and say what it was."""
    kind = chance.choice(["kill", "kill", "beat", "broker", "broker hangs", "database", "connections"])
    match kind:
        case "kill":
            system.kill_one(chance)
        case "beat":
            system.kill(system.supervisor.pids()["beat"])
        case "broker":
            system.flush_broker()
        case "broker hangs":
            pid = system.servers.valkey.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            time.sleep(3)
            os.kill(pid, signal.SIGCONT)
        case "database":
            with system.database_stopped():
                time.sleep(3)
        case _:
            system.rows("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'ingest-%'")
    return kind


def growth(values: Sequence[float]) -> float:
    """Return by which factor the values of the last third are greater than those of the second."""
    third = len(values) // 3
    return statistics.median(values[-third:]) / max(1e-9, statistics.median(values[third : 2 * third]))


def test_F1_random_faults_for_a_long_time_lose_nothing_and_nothing_grows() -> None:
    with faulty_system() as system:
        load = system.load(Plan(rate=RATE, seconds=SECONDS, senders=5000, seed=SEED, duplicates=0.01))
        load.start()
        chance, harms, samples = random.Random(SEED), list[str](), list[Sample]()
        next_harm = time.monotonic() + FAULT_EVERY_SECONDS / 2
        while not load.is_over:
            time.sleep(SAMPLE_SECONDS)
            samples.append(sample(system))
            if time.monotonic() > next_harm:
                harms.append(do_harm(system, chance))
                next_harm = time.monotonic() + FAULT_EVERY_SECONDS
                print(f"  F1 {len(harms)}: {harms[-1]}, accepted {load.ledger.accepted}, {samples[-1]}", flush=True)
        load.join(60)
        grown = {name: growth([each[name] for each in samples]) for name in samples[0]}
        judged(
            system,
            load,
            LONG_RUN,
            bound=60,
            hours=SECONDS / 3600,
            faults=len(harms),
            **{f"{name} last": samples[-1][name] for name in grown},
            **{f"{name} grown to": f"{factor:.0%}" for name, factor in grown.items()},
        )
        assert {name: factor for name, factor in grown.items() if factor > GROWTH} == {}
