"""Others beside a backlog: one tenant with 10,000 waiting, and one sender with 5,000 in the workspace of the others.

Windows of one load take turns: alone, beside the tenant's backlog, beside the sender's flood. What waits is written by the
edge's own statement, in rows as full as the edge makes them, once the window's first messages are stored. The figure runs
from the acceptance of a message to the commit that stored it, which the database itself notes.
"""

import asyncio
import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import psycopg

from benchmarks.bench import Bench, Found, Load, Row, describe
from benchmarks.bodies import PHONE_NUMBER_ID, SECRET, whatsapp_body
from benchmarks.load import percentile
from benchmarks.sites import WHATSAPP, WORKSPACE, Site
from benchmarks.systems import newest_message, ours
from ingest.pipeline.administer import add_channel, create_workspace
from ingest.store.intake import IntakeRow, RawRequest, add_intake_rows, encode_rows

BACKLOG, FLOOD = 10_000, 5_000
# Senders apart from those of the load.
TENANTS_SENDERS, FLOODER = 80_000_000, 89_000_000
GROUP = 500
TENANTS_NUMBER_ID = PHONE_NUMBER_ID[::-1]
# Messages a second of the others: 17 million a day.
RATE = 200.0
BEGUN_SECONDS, DRAINED_SECONDS = 30, 120
MOST_GROWTH = 0.2
ALONE, BESIDE_TENANT, BESIDE_SENDER = "alone", "beside a tenant's backlog", "beside a sender's flood"

# Of the load's messages since a moment, how long each took from its acceptance to the commit that stored it.
WAITS = """
    select extract(epoch from pg_xact_commit_timestamp(message.xmin) - accepted_at)::float8
    from message where workspace_id = %s and id > %s and not starts_with(external_id, 'wamid.flood') and accepted_at >= %s
    order by 1
"""
STORED = """
    select count(*), extract(epoch from max(pg_xact_commit_timestamp(message.xmin)))::float8
    from message where id > %s and starts_with(external_id, %s)
"""


@dataclass
class Flood:
    """Puts requests into the queue once the load has begun, in a thread beside it: `senders` 1 is one person's flood."""

    site: Site
    endpoint: tuple[int, int]
    count: int
    senders: int
    first: int
    run: str = field(default_factory=lambda: f"wamid.flood.{time.monotonic_ns()}")
    waits_since: float = 0.0

    def __post_init__(self) -> None:
        self._before = newest_message(self.site.system, self.site.conninfo)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _run(self) -> None:
        requests = [self._request(number) for number in range(self.count)]
        starts = range(0, len(requests), GROUP)
        rows = [row for start in starts for row in encode_rows(requests[start : start + GROUP])]
        begins_before = time.monotonic() + BEGUN_SECONDS
        while newest_message(self.site.system, self.site.conninfo) <= self._before and time.monotonic() < begins_before:
            time.sleep(0.05)
        self.waits_since = time.time()
        if rows:
            asyncio.run(_put(self.site.conninfo, rows))

    def _request(self, number: int) -> RawRequest:
        workspace_id, channel_id = self.endpoint
        sender, message_id = self.first + number % self.senders, f"{self.run}.{number}"
        body = whatsapp_body(sender, message_id, int(time.time()), f"Flood {number}")
        if workspace_id != WORKSPACE:
            body = body.replace(PHONE_NUMBER_ID.encode(), TENANTS_NUMBER_ID.encode())
        headers = {"content-type": "application/json"}
        return RawRequest(workspace_id, channel_id, 0, datetime.now(UTC), os.urandom(16), "POST", "", headers, body)

    def drained_seconds(self) -> float:
        """Return how long it took until all of it was stored. Raises TimeoutError."""
        ends_at = time.monotonic() + DRAINED_SECONDS
        with psycopg.connect(self.site.conninfo, autocommit=True) as connection:
            while time.monotonic() < ends_at:
                row = connection.execute(STORED, (self._before, self.run)).fetchone()
                if row and row[0] >= self.count:
                    return float(row[1] or self.waits_since) - self.waits_since
                time.sleep(0.1)
        raise TimeoutError(f"the flood was not stored within {DRAINED_SECONDS} s")

    def waits(self) -> list[float]:
        """Return the sorted seconds from acceptance to storage of the load's messages since the flood was there."""
        with psycopg.connect(self.site.conninfo, autocommit=True) as connection:
            since = datetime.fromtimestamp(self.waits_since, UTC)
            return [row[0] for row in connection.execute(WAITS, (WORKSPACE, self._before, since))]


async def _put(conninfo: str, rows: list[IntakeRow]) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await add_intake_rows(connection, rows)


def fairness(bench: Bench) -> Found:
    """Return by how much the others' time from acceptance to storage grows, and how long the backlogs took to drain."""
    seconds = 2 * bench.options.seconds
    load = Load(bench.options.senders, int(RATE * seconds), seconds, RATE)
    found = Found(series={"rate": load.rate})
    p95, drained = defaultdict(list), defaultdict(list)
    with _noting_commits(bench):
        site = bench.site(ours(), bench.options.senders)
        endpoints = {ALONE: (WORKSPACE, WHATSAPP), BESIDE_SENDER: (WORKSPACE, WHATSAPP), BESIDE_TENANT: _tenant(site)}
        sizes = {
            ALONE: (0, 1, 0),
            BESIDE_TENANT: (bench.options.scaled(BACKLOG), bench.options.scaled(BACKLOG) // 5, TENANTS_SENDERS),
            BESIDE_SENDER: (bench.options.scaled(FLOOD), 1, FLOODER),
        }
        with bench.running(site) as pids:
            bench.put(site, replace(load, label="warming up"), pids)
            for _ in range(bench.options.rounds):
                for label, (count, senders, first) in sizes.items():
                    with Flood(site, endpoints[label], count, senders, first) as flood:
                        run = bench.put(site, replace(load, label=label), pids)
                    drained[label].append(flood.drained_seconds())
                    p95[label].append(1000 * percentile(flood.waits(), 95))
                    print(describe(run), f"  stored p95 {p95[label][-1]:.1f} ms, drained {drained[label][-1]:.1f} s")
                    found.runs.append(run)
    found.series |= {"p95_ms": dict(p95), "drained_seconds": dict(drained)}
    found.rows += _rows(found, sizes)
    return found


def _tenant(site: Site) -> tuple[int, int]:
    """Make another workspace with a channel; return the ids of both."""
    with site.runtime.begin() as tx:
        workspace_id = create_workspace(tx, "Tenant with a backlog")
        secrets = {"app_secret": (SECRET,), "verify_token": ("unused",)}
        settings = {"phone_number_id": TENANTS_NUMBER_ID}
        channel = add_channel(tx, workspace_id, "whatsapp_cloud", "WhatsApp", settings, secrets, site.runtime.sealer)
    return workspace_id, channel.id


@contextmanager
def _noting_commits(bench: Bench) -> Iterator[None]:
    """Have the database note the time of every commit, for as long as the block lasts."""
    for value in ("on", None):
        conninfo = bench.servers.postgres.url_of("postgres").replace("+psycopg", "")
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute(
                f"alter system {'set' if value else 'reset'} track_commit_timestamp{' = on' if value else ''}"
            )
        bench.servers.postgres.stop()
        bench.servers.postgres.start()
        if value:
            yield


def _rows(found: Found, sizes: dict[str, tuple[int, int, int]]) -> list[Row]:
    p95, drained = found.series["p95_ms"], found.series["drained_seconds"]
    alone = statistics.median(p95[ALONE])
    rows = [Row(f"others at {found.series['rate']:,.0f}/s: accepted → stored, p95 alone", f"{alone:.1f} ms")]
    for label in (BESIDE_TENANT, BESIDE_SENDER):
        beside = statistics.median(p95[label])
        growth = beside / alone - 1
        told = f"{growth:+.0%} ({beside:.1f} ms, median of {len(p95[label])})"
        what = f"{label} of {sizes[label][0]:,}"
        rows.append(Row(f"others' p95 {what}", told, "< 20 %", growth < MOST_GROWTH))
        rows.append(Row(f"drained {what}", f"{statistics.median(drained[label]):.1f} s beside the others"))
    return rows
