"""Q1, Q2, Q3, Q5, Q6: the broker restarts, forgets, hangs, fills up, turns read-only, or is replaced by a stale replica."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from ingest.embedded.servers import EmbeddedServers
from ingest.simulators.traffic import Plan
from tests.faults.fault_proxy import FaultProxy
from tests.faults.record import NIGHTLY, SOAK, Row
from tests.faults.trial import IS_LONG, on, trial
from tests.naive_system import NaiveSystem
from tests.system import System, children_of, running_system, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(600)]

PLAN = Plan(rate=50, senders=1000, connections=32)
RESTARTS = 5
OURS = on(System)
BOTH = on(System, NaiveSystem)


def broker_of(system: System) -> Redis:
    """Return a client of the system's broker, past all proxies."""
    return Redis(unix_socket_path=str(system.servers.places.valkey_socket), socket_timeout=5)


@BOTH
@pytest.mark.parametrize("end", ["stop", "kill"], ids=["clean", "kill -9"])
def test_Q1_the_broker_restarts_with_its_file_under_load(system: System, end: str) -> None:
    case = {"stop": "clean", "kill": "kill -9"}[end]
    row = Row("Q1", f"broker with AOF restarted {RESTARTS} times", "consumption resumes; nothing lost", case)
    with trial(system, row, PLAN, bound=20) as run:
        for _ in range(RESTARTS):
            with run.fault():
                getattr(system.servers.valkey, end)()
                system.servers.valkey.start()


def lose_everything(system: System) -> None:
    """Kill the broker, whose file is switched off and gone."""
    with broker_of(system) as broker:
        broker.config_set("appendonly", "no")
    system.servers.valkey.kill()
    shutil.rmtree(system.servers.places.valkey / "appendonlydir")
    system.servers.valkey.start()


def flush(system: System) -> None:
    """Empty the broker for two seconds."""
    with broker_of(system) as broker:
        for _ in range(40):
            broker.flushall()
            time.sleep(0.05)


def delete_keys(system: System) -> None:
    """Delete the queue's key and the key that binds it to its exchange, for two seconds."""
    with broker_of(system) as broker:
        for _ in range(40):
            broker.delete("ingest:resolve", "ingest:_kombu.binding.resolve")
            time.sleep(0.05)
        assert not broker.exists("ingest:_kombu.binding.resolve")


@OURS
@pytest.mark.parametrize(
    ("forget", "case"),
    [
        (lose_everything, "kill -9 without AOF"),
        (flush, "FLUSHALL"),
        (delete_keys, "queue and binding keys deleted"),
    ],
)
def test_T72_and_Q2_a_broker_that_forgets_loses_nothing(
    system: System, forget: Callable[[System], None], case: str
) -> None:
    row = Row("Q2", "the broker forgets, 3 times", "nothing lost; nobody refused", case)
    with trial(system, row, PLAN, bound=20) as run:
        for _ in range(3):
            with run.fault():
                forget(system)
    assert run.during()[1] == 0.0


def threads_of(system: System) -> int:
    """Return how many threads the web process and its children have."""
    pid = system.supervisor.pids()["web"]
    found = (Path(f"/proc/{each}/status").read_text() for each in (pid, *children_of(pid)))
    return sum(int(re.findall(r"Threads:\s+(\d+)", status)[0]) for status in found)


@BOTH
@pytest.mark.parametrize(
    "seconds", [5, 40, pytest.param(300, marks=pytest.mark.skipif(not IS_LONG, reason="FAULTS_LONG"))]
)
def test_Q3_a_broker_that_hangs_delays_no_answer(system: System, seconds: int) -> None:
    when = SOAK if seconds > 60 else NIGHTLY
    row = Row("Q3", "broker stopped (SIGSTOP)", "answered within 1.2 s; no more threads", f"{seconds} s", when)
    pid = system.servers.valkey.pid
    assert pid is not None
    # Celery waits 2, 4, 6 and more seconds between its attempts to connect again.
    with trial(system, row, PLAN, bound=20 if seconds < 10 else 40) as run:
        before = threads_of(system)
        with run.fault():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            after = threads_of(system)
            os.kill(pid, signal.SIGCONT)
        run.more["threads"] = f"{before}, then {after}"
    if system.name == "ours":
        p99, share = run.during()
        assert p99 is not None
        assert (p99 < 1200, share) == (True, 0.0)
        assert after <= before + 2


@contextmanager
def full(system: System) -> Iterator[None]:
    """Have the broker out of memory meanwhile."""
    with broker_of(system) as broker:
        broker.config_set("maxmemory", "1mb")
        yield
        broker.config_set("maxmemory", "512mb")


@contextmanager
def read_only(system: System) -> Iterator[None]:
    """Have the broker a replica meanwhile, of a server that is not there."""
    with broker_of(system) as broker:
        broker.replicaof("127.0.0.1", "1")
        yield
        broker.replicaof("NO", "ONE")


@OURS
@pytest.mark.parametrize(
    ("state", "case"),
    [(full, "maxmemory reached"), (read_only, "a read-only replica answers")],
    ids=["full", "read-only"],
)
def test_Q5_a_broker_that_refuses_writes_loses_nothing(
    system: System, state: Callable[[System], AbstractContextManager[None]], case: str
) -> None:
    row = Row("Q5", "broker refuses writes for 6 s", "accepted all the same, for PostgreSQL keeps them", case)
    # Workers that cannot write give up and are started again.
    with trial(system, row, PLAN, bound=30) as run, run.fault(), state(system):
        time.sleep(6)
    assert run.during()[1] == 0.0


def test_Q6_a_failover_to_a_stale_replica_loses_nothing(tmp_path: Path) -> None:
    row = Row("Q6", "failover to a replica that stopped following 3 s before", "nothing lost; nobody refused")
    with running_system(is_proxied=True) as system:
        standby = EmbeddedServers(system.home / "standby", with_postgres=False)
        standby.start()
        socket_path = str(standby.places.valkey_socket)
        try:
            with (
                FaultProxy(str(system.servers.places.valkey_socket)) as way,
                Redis(unix_socket_path=socket_path) as replica,
                trial(system, row, PLAN, bound=20) as run,
            ):
                replica.replicaof("127.0.0.1", str(way.port))
                until(lambda: replica.info("replication")["master_link_status"] == "up", 20)
                time.sleep(1)
                replica.replicaof("NO", "ONE")
                time.sleep(3)
                with run.fault():
                    system.servers.valkey.kill()
                    for proxy in (*system.proxies("web", "broker"), *system.proxies("worker", "broker")):
                        proxy.upstream = socket_path
                        proxy.reset()
        finally:
            standby.stop()
    assert run.during()[1] in {None, 0.0}
