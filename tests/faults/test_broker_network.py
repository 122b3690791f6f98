"""Q4: the network between us and the broker loses answers, breaks, goes silent, is slow."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import time
from collections.abc import Callable

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.fault_proxy import FaultProxy
from tests.faults.record import Row
from tests.faults.trial import on, trial
from tests.naive_system import NaiveSystem
from tests.system import System, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(600)]

PLAN = Plan(rate=50, senders=1000, connections=32)
DROPPED = 10
Fault = Callable[[list[FaultProxy], list[FaultProxy], bytes], None]


def drop_replies(_web: list[FaultProxy], worker: list[FaultProxy], queue: bytes) -> None:
    """Have answers vanish that hand out a queue's message, one after the other."""
    wanted = worker[0].dropped + DROPPED
    worker[0].drop_reply(queue, times=DROPPED)
    until(lambda: worker[0].dropped >= wanted, 90)


def cut(web: list[FaultProxy], worker: list[FaultProxy], _queue: bytes) -> None:
    """Reset every connection after 4 kB of answers, for ten seconds."""
    for each in (*web, *worker):
        each.cut_after(4096)
    time.sleep(10)


def half_open(web: list[FaultProxy], worker: list[FaultProxy], _queue: bytes) -> None:
    """Hang up on the server, three times, without anybody hearing of it."""
    for _ in range(3):
        for each in (*web, *worker):
            each.half_open()
        time.sleep(2)


def delay(web: list[FaultProxy], worker: list[FaultProxy], _queue: bytes) -> None:
    """Take 200 ms for each way, for ten seconds."""
    for each in (*web, *worker):
        each.latency_seconds = 0.2
    time.sleep(10)


def throttle(web: list[FaultProxy], worker: list[FaultProxy], _queue: bytes) -> None:
    """Pass 64 kB/s, for ten seconds."""
    for each in (*web, *worker):
        each.bytes_per_second = 64_000
    time.sleep(10)


# One worker takes all bells, so that its answers can be counted.
@on(System, NaiveSystem, is_proxied=True, resolvers=1)
@pytest.mark.parametrize(
    ("fault", "case", "bound"),
    [
        (drop_replies, f"{DROPPED} answers to workers dropped", 20),
        (cut, "reset after 4 kB", 20),
        (half_open, "half-open, 3 times", 45),
        (delay, "200 ms latency each way", 20),
        (throttle, "64 kB/s", 20),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_Q4_a_bad_network_to_the_broker_loses_nothing(system: System, fault: Fault, case: str, bound: int) -> None:
    if system.name == "naive" and fault is half_open:
        pytest.skip(
            "naive's web process waits for ever on a half-open connection and answers nobody: its load has no end"
        )
    row = Row("Q4", "bad network to the broker", "nothing lost; nobody refused", case)
    with trial(system, row, PLAN, bound=bound) as run:
        web, worker = system.proxies("web", "broker"), system.proxies("worker", "broker")
        before = sum(each.cut + each.dropped for each in (*web, *worker))
        with run.fault():
            # An answer that hands out a message: the queue's name, then the message. Others name the queue too.
            queue = b"naive" if system.name == "naive" else b"ingest:resolve"
            fault(web, worker, b"\r\n" + queue + b"\r\n$")
            for each in (*web, *worker):
                each.heal()
        run.more["connections reset"] = sum(each.cut + each.dropped for each in (*web, *worker)) - before
    if system.name == "ours":
        assert run.during()[1] == 0.0
