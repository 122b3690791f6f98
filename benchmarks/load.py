"""The load: a process of its own that writes prepared requests, closed by its connections or open at a rate.

At a rate, latency runs from the moment a request was due, so that a stall of the server is counted in full. Prints one
JSON line: accepted, refused, seconds, latency percentiles in milliseconds.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from itertools import islice

from benchmarks.bodies import raw_requests
from ingest.simulators.http import Connection, Origin

PERCENTILES = (50, 90, 95, 99)


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Send everything and return the figures."""
    origin = Origin.of(arguments.url)
    path = arguments.url.split("/", 3)[3]
    host = f"{origin.host}:{origin.port}"
    requests = raw_requests(f"/{path}", host, arguments.count, arguments.senders, arguments.seed, arguments.run)
    connections = [Connection(origin) for _ in range(arguments.connections)]
    print("ready", file=sys.stderr, flush=True)
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    feed = enumerate(requests)
    started = time.perf_counter()
    ends_at = started + arguments.seconds

    async def send_all(connection: Connection) -> None:
        for number, raw in feed:
            due = started + number / arguments.rate if arguments.rate else time.perf_counter()
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            if time.perf_counter() > ends_at:
                return
            try:
                statuses[str(await connection.send(raw))] += 1
            except (OSError, TimeoutError) as failure:
                statuses[type(failure).__name__] += 1
            latencies.append(time.perf_counter() - due)

    await asyncio.gather(*(send_all(connection) for connection in connections))
    seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    ordered = sorted(latencies)
    return {
        "statuses": dict(statuses),
        "accepted": sum(count for status, count in statuses.items() if status.startswith("2")),
        "seconds": seconds,
        "latency_ms": {
            str(each): round(1000 * ordered[min(len(ordered) - 1, len(ordered) * each // 100)], 2)
            for each in PERCENTILES
        }
        if ordered
        else {},
        "left": sum(1 for _ in islice(feed, 10**9)),
    }


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
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", default="run")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
