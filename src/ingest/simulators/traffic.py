"""Open-loop traffic: requests start when the plan says, whether or not the earlier ones were answered.

A closed loop waits for the slow answers it should count, and so hides them (coordinated omission). Latency here runs
from the moment a request was due. Without a rate the loop is closed by its connections, to find the most there is.
"""

import asyncio
import random
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from ingest.simulators.base import Draft
from ingest.simulators.drafts import drafts
from ingest.simulators.http import Connection, Origin, raw_request
from ingest.simulators.registry import get_simulator

# From these the repeated deliveries are drawn, as a provider repeats what it sent a moment ago.
RECENT_REQUESTS = 1000
MAX_SAMPLES = 2_000_000
MAX_WAITING = 100_000
# At high rates several requests start together after one wait; being late counts as latency, being early would hide it.
SHORTEST_WAIT_SECONDS = 0.001
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Target:
    """A channel to write to. `settings` holds its plain settings and the newest value of each secret."""

    code: str
    channel_id: int
    url: str
    settings: dict[str, str] = field(repr=False)

    @cached_property
    def origin(self) -> Origin:
        """Where the channel's server is."""
        return Origin.of(self.url)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much traffic, for how long. `rate` in requests/s (None: as fast as answered), `seconds` None: until stopped.

    `count` ends it after so many requests. `duplicates` is the share of requests that repeat a recent one.
    """

    rate: float | None = 10.0
    seconds: float | None = None
    count: int | None = None
    senders: int = 100
    seed: int = 1
    duplicates: float = 0.0
    connections: int = 64
    run: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request: whose draft it carries, to which channel, and its bytes."""

    target: Target
    draft: Draft
    raw: bytes


Record = Callable[[Delivery, int | None, float], None]


@dataclass(slots=True)
class Report:
    """What came of the traffic. Latencies are in seconds from the moment a request was due."""

    statuses: Counter[int] = field(default_factory=Counter)
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    latencies: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def accepted(self) -> int:
        """Requests answered 2xx."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    @property
    def rejected(self) -> int:
        """Requests answered otherwise."""
        return self.statuses.total() - self.accepted

    def percentile(self, percent: float) -> float | None:
        """Return the latency that so many percent of the answers did not exceed, None without answers."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else None

    def summary(self) -> dict[str, object]:
        """Return the figures, JSON-safe; latencies in milliseconds."""
        ordered = sorted(self.latencies)
        at = {p: ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] if ordered else None for p in PERCENTILES}
        return {
            "accepted": self.accepted,
            "rejected": self.rejected,
            "failed": self.failed,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "accepted_per_second": round(self.accepted / self.seconds, 1) if self.seconds else 0.0,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "latency_ms": {f"p{p}": None if value is None else round(value * 1000, 2) for p, value in at.items()},
        }


def deliveries(targets: Sequence[Target], plan: Plan) -> Iterator[Delivery]:
    """Give the plan's requests, signed and ready to send, repeated ones among them; without end."""
    chance = random.Random(plan.seed)
    recent: deque[Delivery] = deque(maxlen=RECENT_REQUESTS)
    simulators = {each.code: get_simulator(each.code) for each in targets}
    for draft in drafts(plan.run or f"run{time.time_ns():x}", plan.senders, plan.seed):
        while recent and chance.random() < plan.duplicates:
            yield chance.choice(recent)
        target = targets[0] if len(targets) == 1 else chance.choice(targets)
        request = simulators[target.code](draft, target.settings, target.url)
        made = Delivery(target, draft, raw_request(target.url, request))
        recent.append(made)
        yield made


async def send_traffic(
    requests: Iterator[Delivery],
    plan: Plan,
    record: Record | None = None,
    stop: asyncio.Event | None = None,
) -> Report:
    """Send the requests as planned and return what came of them.

    `record` is called with each request, its status, or None where no answer came, and the seconds since it was due: a
    request without an answer may or may not have been taken. `requests` made beforehand cost the run nothing; they end it
    when they run out.
    """
    run = _Run(plan, record, stop or asyncio.Event())
    return await run.play(requests)


class _Run:
    def __init__(self, plan: Plan, record: Record | None, stop: asyncio.Event) -> None:
        self._plan = plan
        self._record = record
        self._stop = stop
        self._report = Report()
        self._waiting: asyncio.Queue[tuple[float, Delivery] | None] = asyncio.Queue()

    async def play(self, requests: Iterator[Delivery]) -> Report:
        started = time.perf_counter()
        if self._plan.rate is None:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._plan.connections):
                    group.create_task(self._send_at_once(requests, started))
        else:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._plan.connections):
                    group.create_task(self._send_when_due())
                await self._schedule(requests, started, self._plan.rate)
        self._report.seconds = time.perf_counter() - started
        return self._report

    async def _schedule(self, requests: Iterator[Delivery], started: float, rate: float) -> None:
        """Put each request into the queue when it is due, in bursts of a few milliseconds at high rates."""
        for sent, request in enumerate(requests):
            due = started + sent / rate
            if (wait := due - time.perf_counter()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), max(wait, SHORTEST_WAIT_SECONDS))
            if self._is_over(sent, due - started):
                break
            if self._waiting.qsize() < MAX_WAITING:
                self._waiting.put_nowait((due, request))
            else:
                self._report.skipped += 1
            if sent % 100 == 99:
                # Behind schedule nothing above waits, and the connections would never get their turn.
                await asyncio.sleep(0)
        for _ in range(self._plan.connections):
            self._waiting.put_nowait(None)

    async def _send_when_due(self) -> None:
        connections: dict[Origin, Connection] = {}
        while (due := await self._waiting.get()) is not None:
            await self._send(connections, due[1], due[0])
        _close(connections)

    async def _send_at_once(self, requests: Iterator[Delivery], started: float) -> None:
        connections: dict[Origin, Connection] = {}
        for request in requests:
            done = self._report.statuses.total() + self._report.failed
            if self._is_over(done, time.perf_counter() - started):
                break
            await self._send(connections, request, time.perf_counter())
        _close(connections)

    def _is_over(self, sent: int, elapsed: float) -> bool:
        plan = self._plan
        return (
            self._stop.is_set()
            or (plan.count is not None and sent >= plan.count)
            or (plan.seconds is not None and elapsed >= plan.seconds)
        )

    async def _send(self, connections: dict[Origin, Connection], request: Delivery, due: float) -> None:
        origin = request.target.origin
        if origin not in connections:
            connections[origin] = Connection(origin)
        status: int | None = None
        try:
            status = await connections[origin].send(request.raw)
        except (OSError, TimeoutError):
            self._report.failed += 1
            # A server that is away refuses at once; asking it in a tight loop helps nobody.
            await asyncio.sleep(0.05)
        else:
            self._report.statuses[status] += 1
            if len(self._report.latencies) < MAX_SAMPLES:
                self._report.latencies.append(time.perf_counter() - due)
        if self._record is not None:
            self._record(request, status, time.perf_counter() - due)


def _close(connections: dict[Origin, Connection]) -> None:
    for each in connections.values():
        each.close()
