"""A model of the system under load: what it needs for a rate, and how long messages take, from what one message costs.

Costs are those that the scenario `scaling` measured (docs/benchmarks/results.json). Capacity is arithmetic: processor time a
message against the processors there are. Latency is a simulation of the two batching steps, each of which takes all that has
come while it was busy. What is assumed is in docs/scaling.md.

Examples: python -m benchmarks.scaling --rate 100000
          python -m benchmarks.scaling --rate 1500 --workers 2 --web 1 --cores 4
"""

import argparse
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmarks.load import percentile
from benchmarks.plots import PLOTS, draw_plot

RESULTS = Path("docs/benchmarks/results.json")
BATCH, GROUP = 500, 500
# As in jobs.publisher: one bell stands for all within this span.
QUIET_SECONDS = 0.04
# What is planned with: the rest is for bursts, vacuum, and the loss of one of several.
PLANNED_LOAD = 0.6
DATABASE_CORES, DATABASE_WAL_BYTES = 32, 400e6
WEB_CONNECTIONS, WORKER_CONNECTIONS = 8, 6
RATES = (100, 1_000, 3_000, 10_000, 30_000, 100_000)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SIMULATED_SECONDS, SIMULATED_MESSAGES = 20.0, 10_000
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Costs:
    """What was measured. CPU is in microseconds a message in full batches; seconds are without anybody else about.

    A commit of n requests takes `commit_seconds` + n × `request_seconds`, a claim of n messages `claim_seconds` +
    n × `message_seconds`. `_bytes` are a message's or a contact's, in tables and indexes together.
    """

    web_us: float
    worker_us: float
    database_us: float
    other_us: float
    commit_seconds: float
    request_seconds: float
    claim_seconds: float
    message_seconds: float
    wal_bytes: float
    message_bytes: float
    contact_bytes: float

    @property
    def total_us(self) -> float:
        """CPU time a message, all processes together."""
        return self.web_us + self.worker_us + self.database_us + self.other_us

    @property
    def worker_rate(self) -> float:
        """The most messages/s of one resolve worker, in full batches."""
        return BATCH / (self.claim_seconds + BATCH * self.message_seconds)

    @property
    def web_rate(self) -> float:
        """The most requests/s of one web process."""
        return 1e6 / self.web_us


@dataclass(frozen=True)
class Machine:
    """What runs on one machine: web processes, resolve workers, and the processor cores that all of it shares."""

    web: int
    workers: int
    cores: float


SMALL = Machine(1, 1, 2)


@dataclass(frozen=True)
class Plan:
    """What a rate needs at the planned load, and what is the first to run out."""

    rate: float
    web_processes: int
    workers: int
    web_cores: float
    worker_cores: float
    database_cores: float
    database_nodes: int
    wal_bytes_per_second: float
    connections: int
    bytes_per_day: float
    bells_per_second: float


# Where the scenario has not run yet: CPU of the published run with 20,000 known senders; lines of commit and claim that agree
# with its maximum, not measured by themselves; bytes as the scenario counted them in a short run.
PUBLISHED = Costs(
    web_us=119, worker_us=106, database_us=133, other_us=53, commit_seconds=0.002, request_seconds=0.00002,
    claim_seconds=0.008, message_seconds=0.00025, wal_bytes=1_488, message_bytes=373, contact_bytes=2_369,
)  # fmt: skip


def capacity(costs: Costs, machine: Machine) -> tuple[float, str]:
    """Return the most messages/s that the machine accepts and stores, and what stops them."""
    limits = {
        "processors": machine.cores * 1e6 / costs.total_us,
        "web processes": machine.web * costs.web_rate,
        "resolve workers": machine.workers * costs.worker_rate,
    }
    name = min(limits, key=lambda each: limits[each])
    return limits[name], name


def plan(costs: Costs, rate: float) -> Plan:
    """Return what the rate needs."""
    web = math.ceil(rate / (PLANNED_LOAD * costs.web_rate))
    workers = math.ceil(rate / (PLANNED_LOAD * costs.worker_rate))
    database_cores = rate * costs.database_us / 1e6 / PLANNED_LOAD
    wal = rate * costs.wal_bytes
    nodes = max(1, math.ceil(database_cores / DATABASE_CORES), math.ceil(wal / (PLANNED_LOAD * DATABASE_WAL_BYTES)))
    return Plan(
        rate,
        web,
        workers,
        rate * costs.web_us / 1e6 / PLANNED_LOAD,
        rate * costs.worker_us / 1e6 / PLANNED_LOAD,
        database_cores,
        nodes,
        wal,
        web * WEB_CONNECTIONS + workers * WORKER_CONNECTIONS,
        rate * costs.message_bytes * DAY_SECONDS,
        min(rate, web / QUIET_SECONDS),
    )


def simulate(costs: Costs, rate: float, machine: Machine, seed: int = 1) -> dict[str, float]:
    """Return p50 and p95 in milliseconds of the answer and of the way from acceptance to storage; inf beyond capacity."""
    most, _ = capacity(costs, machine)
    if rate >= most:
        return dict.fromkeys(("answer_50", "answer_95", "stored_50", "stored_95"), math.inf)
    stretch = _stretch(rate * costs.total_us / 1e6 / machine.cores, machine.cores)
    count = int(min(rate * SIMULATED_SECONDS, SIMULATED_MESSAGES))
    draw = random.Random(seed)
    accepted = [
        each
        for _ in range(machine.web)
        for each in _commit_all(costs, rate / machine.web, stretch, count // machine.web, draw)
    ]
    answers = sorted(1000 * (done - arrived) for arrived, done in accepted)
    waits = sorted(
        1000 * each for each in _store_all(costs, machine.workers, stretch, sorted(accepted, key=lambda each: each[1]))
    )
    return {
        "answer_50": percentile(answers, 50),
        "answer_95": percentile(answers, 95),
        "stored_50": percentile(waits, 50),
        "stored_95": percentile(waits, 95),
    }


def _stretch(load: float, cores: float) -> float:
    """Return how many times longer work takes because others use the processors. Source: Sakasegawa's approximation."""
    return 1 + load ** (math.sqrt(2 * (cores + 1)) - 1) / (cores * (1 - load))


def _commit_all(
    costs: Costs, rate: float, stretch: float, count: int, draw: random.Random
) -> list[tuple[float, float]]:
    """Return when each request came to one web process and was durable: one commit is under way, the next takes all."""
    proving = stretch * costs.web_us / 1e6
    done: list[tuple[float, float]] = []
    line: deque[float] = deque()
    now = free_at = 0.0
    for _ in range(max(1, count)):
        now += draw.expovariate(rate)
        line.append(now + proving)
    while line:
        begins = max(free_at, line[0])
        group = [line.popleft() for _ in range(GROUP) if line and line[0] <= begins]
        free_at = begins + stretch * (costs.commit_seconds + len(group) * costs.request_seconds)
        done += [(proved - proving, free_at) for proved in group]
    return done


def _store_all(costs: Costs, workers: int, stretch: float, accepted: Sequence[tuple[float, float]]) -> list[float]:
    """Return each message's seconds from its arrival to its storage: the first free worker claims all that has come."""
    free = [0.0] * workers
    waits: list[float] = []
    rung_at = -QUIET_SECONDS
    first = 0
    while first < len(accepted):
        free_at = begins = heapq.heappop(free)
        due_at = accepted[first][1]
        if due_at > free_at:
            # Nothing is due: the worker sleeps until the bell, which keeps its distance from the one before, or another
            # worker is done earlier and looks.
            rung_at = begins = max(due_at, rung_at + QUIET_SECONDS)
            if free and free[0] < begins:
                begins = max(due_at, heapq.heapreplace(free, free_at))
        last = first
        while last < len(accepted) and last - first < BATCH and accepted[last][1] <= begins:
            last += 1
        ends = begins + stretch * (costs.claim_seconds + (last - first) * costs.message_seconds)
        waits += [ends - arrived for arrived, _ in accepted[first:last]]
        heapq.heappush(free, ends)
        first = last
    return waits


def curve(costs: Costs, machine: Machine = SMALL) -> list[dict[str, float]]:
    """Return the latency at shares of what the machine takes."""
    most, _ = capacity(costs, machine)
    return [{"rate": share * most, **simulate(costs, share * most, machine)} for share in SHARES]


def read_costs(path: Path = RESULTS) -> Costs:
    """Return the costs that were measured last, or those published before the scenario `scaling` has run."""
    results = json.loads(path.read_text())
    if "scaling" not in results:
        return PUBLISHED
    found = results["scaling"]["series"]["costs"]
    return Costs(**{each.name: found[each.name] for each in fields(Costs)})


def table(costs: Costs, rates: Sequence[float] = RATES) -> list[str]:
    """Return the plan of each rate as lines of a Markdown table."""
    head = "messages/s | web processes | resolve workers | cores: web, workers, database | database nodes | WAL MB/s"
    lines = [f"| {head} | connections | GB a day |", "|" + " --- |" * 8]
    for rate in rates:
        each = plan(costs, rate)
        cores = f"{each.web_cores:.1f}, {each.worker_cores:.1f}, {each.database_cores:.1f}"
        cells = (
            f"{rate:,.0f}", each.web_processes, each.workers, cores, each.database_nodes,
            f"{each.wal_bytes_per_second / 1e6:.1f}", each.connections, f"{each.bytes_per_day / 1e9:,.0f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> None:
    """Print what a rate needs, and its latency, on the machines given or on those that the plan asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rate", type=float, help="messages/s; default: a table of several")
    parser.add_argument("--web", type=int, help="web processes; default: as planned")
    parser.add_argument("--workers", type=int, help="resolve workers; default: as planned")
    parser.add_argument("--cores", type=float, help="of one machine for all; default: as planned")
    parser.add_argument("--costs", type=Path, default=RESULTS, help="results with the scenario `scaling`")
    parser.add_argument("--plot", type=Path, help="draw the latency over load of two cores there, as SVG")
    arguments = parser.parse_args()
    costs = read_costs(arguments.costs)
    if arguments.plot:
        draw_plot(PLOTS["scaling"], {"series": {"over_load": curve(costs)}, "runs": []}, arguments.plot)
    if not arguments.rate:
        print("\n".join(table(costs)))
        return
    planned = plan(costs, arguments.rate)
    machine = Machine(
        arguments.web or planned.web_processes,
        arguments.workers or planned.workers,
        arguments.cores or planned.web_cores + planned.worker_cores + planned.database_cores,
    )
    most, stops = capacity(costs, machine)
    print(json.dumps(asdict(planned), indent=1))
    print(f"{machine}: at most {most:,.0f} messages/s, stopped by {stops}")
    for name, value in simulate(costs, arguments.rate, machine).items():
        print(f"{name}: {value:.1f} ms")


if __name__ == "__main__":
    main()
