"""The load: a process of its own that writes signed requests, closed by its connections or open at a rate.

At a rate, latency runs from the moment a request was due, so that a stall of the server is counted in full; requests are
then made as they are sent. As fast as answered, they are prepared before the clock starts. Prints one JSON line: accepted,
refused, seconds, CPU seconds of its own, latency percentiles in milliseconds.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bodies import raw_requests
from ingest.simulators.http import Connection, Origin

PERCENTILES = (50, 90, 95, 99)


@dataclass
class Sent:
    """What became of the requests: statuses, and [seconds since the start, latency in seconds] of each."""

    statuses: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[float, float]] = field(default_factory=list)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent of the sorted values do not exceed."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Send everything and return the figures."""
    origin = Origin.of(arguments.url)
    path = arguments.url.split("/", 3)[3]
    requests: Iterable[bytes] = raw_requests(
        f"/{path}",
        f"{origin.host}:{origin.port}",
        count=arguments.count,
        senders=arguments.senders,
        first=arguments.first,
        seed=arguments.seed,
        run=arguments.run,
    )
    if not arguments.rate:
        requests = list(requests)
    connections = [Connection(origin) for _ in range(arguments.connections)]
    print("ready", file=sys.stderr, flush=True)
    sent = Sent()
    started_at, cpu, started = time.time(), time.process_time(), time.perf_counter()
    await _send_all(connections, requests, started, arguments, sent)
    seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    if arguments.samples:
        arguments.samples.write_text(json.dumps(sent.samples))
    ordered = sorted(latency for _, latency in sent.samples)
    return {
        "statuses": dict(sent.statuses),
        "accepted": sum(count for status, count in sent.statuses.items() if status.startswith("2")),
        "started_at": started_at,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "latency_ms": {str(each): round(1000 * percentile(ordered, each), 2) for each in PERCENTILES}
        if ordered
        else {},
    }


async def _send_all(
    connections: Sequence[Connection],
    requests: Iterable[bytes],
    started: float,
    arguments: argparse.Namespace,
    sent: Sent,
) -> None:
    feed = enumerate(requests)
    ends_at = started + arguments.seconds

    async def send(connection: Connection) -> None:
        for number, raw in feed:
            due = started + number / arguments.rate if arguments.rate else time.perf_counter()
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            if time.perf_counter() > ends_at:
                return
            try:
                sent.statuses[str(await connection.send(raw))] += 1
            except (OSError, TimeoutError) as failure:
                sent.statuses[type(failure).__name__] += 1
            sent.samples.append((due - started, time.perf_counter() - due))

    await asyncio.gather(*(send(connection) for connection in connections))


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: python -m benchmarks.load --url URL --count 20000"
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: as fast as answered")
    parser.add_argument("--senders", type=int, default=20_000, help="0: every message has a sender of its own")
    parser.add_argument("--first", type=int, default=0, help="the first sender's number")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", default="run")
    parser.add_argument("--samples", type=Path, help="write every request's time and latency there, as JSON")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
