"""Q1, Q4 and K4 with RabbitMQ as the broker: a node of the tests' own, or the one that FAULTS_RABBITMQ_URL names."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import os
from collections.abc import Iterator

import pytest

from benchmarks.rabbitmq import Node, is_installed, running_node
from ingest.simulators.traffic import Plan
from tests.faults.record import SEED, Row
from tests.faults.test_broker_network import Fault, cut, delay, drop_replies, half_open, throttle
from tests.faults.trial import trial
from tests.faults.world import timer_delay
from tests.system import System, running_system

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(600)]

GIVEN_URL = os.environ.get("FAULTS_RABBITMQ_URL", "")
PLAN = Plan(rate=50, senders=1000, connections=32)
RESTARTS = 3
TIMER_SECONDS = 5.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node | None]:
    """A running node; None where FAULTS_RABBITMQ_URL names one."""
    if GIVEN_URL:
        yield None
        return
    if not is_installed():
        pytest.skip(
            "rabbitmq-server is not installed: install it, or set FAULTS_RABBITMQ_URL, amqp://guest:guest@localhost//"
        )
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as running:
        yield running


@pytest.fixture(scope="module")
def system(node: Node | None) -> Iterator[System]:
    url = GIVEN_URL if node is None else node.url
    with running_system(broker_url=url, is_proxied=True, resolvers=1) as system:
        yield system


@pytest.mark.parametrize("end", ["stop", "kill"], ids=["clean", "kill -9"])
def test_Q1_rabbitmq_restarts_under_load(system: System, node: Node | None, end: str) -> None:
    if node is None:
        pytest.skip("the node that FAULTS_RABBITMQ_URL names is not ours to restart")
    case = {"stop": "RabbitMQ, clean", "kill": "RabbitMQ, kill -9"}[end]
    row = Row("Q1", f"broker restarted {RESTARTS} times", "consumption resumes; nothing lost", case)
    with trial(system, row, PLAN, bound=45) as run:
        for _ in range(RESTARTS):
            with run.fault():
                getattr(node, end)()
                node.start()
    assert run.during()[1] == 0.0
    assert timer_delay(system) < TIMER_SECONDS


@pytest.mark.parametrize(
    ("fault", "case", "bound"),
    [
        (drop_replies, "RabbitMQ, 10 deliveries to workers dropped", 20),
        (cut, "RabbitMQ, reset after 4 kB", 20),
        (half_open, "RabbitMQ, half-open, 3 times", 60),
        (delay, "RabbitMQ, 200 ms latency each way", 20),
        (throttle, "RabbitMQ, 64 kB/s", 20),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_Q4_a_bad_network_to_rabbitmq_loses_nothing(system: System, fault: Fault, case: str, bound: int) -> None:
    row = Row("Q4", "bad network to the broker", "nothing lost; nobody refused", case)
    with trial(system, row, PLAN, bound=bound) as run:
        web, worker = system.proxies("web", "broker"), system.proxies("worker", "broker")
        before = sum(each.cut + each.dropped for each in (*web, *worker))
        with run.fault():
            # A delivery names its routing key.
            fault(web, worker, b"resolve")
            for each in (*web, *worker):
                each.heal()
        run.more["connections reset"] = sum(each.cut + each.dropped for each in (*web, *worker)) - before
    assert run.during()[1] == 0.0
    # No message comes in any more, so nobody but the beat rings.
    assert timer_delay(system) < TIMER_SECONDS


def test_K4_processes_killed_every_three_seconds_with_rabbitmq(system: System) -> None:
    row = Row(
        "K4", "kill -9 of a random web or worker process or child every 3 s", "taken over; stored once", "RabbitMQ"
    )
    with trial(system, row, PLAN, bound=30) as run:
        with run.fault():
            system.kill_every(3, run.load, SEED, accepted=run.load.ledger.accepted + 750)
        run.more["kills"] = sum(system.killed.values())
    assert sum(system.killed.values()) >= 4
