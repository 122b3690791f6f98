"""Others beside a backlog: one tenant with 10,000 waiting, and one sender with 5,000 in the workspace of the others.

Under one load that lasts, windows take turns: alone, and right after it beside what has just been put into the queue, by the
edge's own statement and in rows as full as the edge makes them. Each is compared with the window before it, because a
machine that is shared changes from one half minute to the next. The figure runs from the acceptance of a message to the
commit that stored it, which the database itself notes.
"""

import asyncio
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from benchmarks.aside import Aside
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
WARM_UP_SECONDS, WINDOW_SECONDS, DRAINED_SECONDS = 5.0, 6.0, 120.0
# Of each kind, a round.
PAIRS = 3
# What the load goes on for, at most, so that backlogs can drain between windows.
DRAINING_SECONDS = 6.0
MOST_GROWTH = 0.2
BESIDE_TENANT, BESIDE_SENDER = "beside a tenant's backlog", "beside a sender's flood"

# Of the load's messages accepted between two moments, how long each took from there to the commit that stored it.
WAITS = """
    select 1000 * extract(epoch from pg_xact_commit_timestamp(message.xmin) - accepted_at)::float8
    from message
    where workspace_id = %s and not starts_with(external_id, 'wamid.flood') and accepted_at >= %s and accepted_at < %s
    order by 1
"""
STORED = """
    select count(*), extract(epoch from max(pg_xact_commit_timestamp(message.xmin)))::float8
    from message where id > %s and starts_with(external_id, %s)
"""
Window = tuple[float, float]
"""When it began and ended, in unix time."""


@dataclass
class Flood:
    """Requests that are put into the queue at once. `senders` 1 is one person's flood."""

    label: str
    endpoint: tuple[int, int]
    count: int
    senders: int
    first: int

    def __post_init__(self) -> None:
        self.run = f"wamid.flood.{time.monotonic_ns()}"
        requests = [self._request(number) for number in range(self.count)]
        starts = range(0, len(requests), GROUP)
        self._rows = [row for start in starts for row in encode_rows(requests[start : start + GROUP])]

    def _request(self, number: int) -> RawRequest:
        workspace_id, channel_id = self.endpoint
        sender, message_id = self.first + number % self.senders, f"{self.run}.{number}"
        body = whatsapp_body(sender, message_id, int(time.time()), f"Flood {number}")
        if workspace_id != WORKSPACE:
            body = body.replace(PHONE_NUMBER_ID.encode(), TENANTS_NUMBER_ID.encode())
        headers = {"content-type": "application/json"}
        return RawRequest(workspace_id, channel_id, 0, datetime.now(UTC), os.urandom(16), "POST", "", headers, body)

    def put(self, conninfo: str) -> None:
        """Put all of it into the queue."""
        asyncio.run(_put(conninfo, self._rows))


class Floods(Aside):
    """Lets windows alone and beside a flood take turns, in a thread beside the load."""

    def __init__(self, site: Site, floods: Sequence[Flood]) -> None:
        self._site, self._floods = site, floods
        super().__init__()
        self.pairs: dict[str, list[tuple[Window, Window]]] = defaultdict(list)
        self.drained: dict[str, list[float]] = defaultdict(list)

    def work(self) -> None:
        time.sleep(WARM_UP_SECONDS)
        for flood in self._floods:
            before = newest_message(self._site.system, self._site.conninfo)
            alone_at = time.time()
            time.sleep(WINDOW_SECONDS)
            begun_at = time.time()
            flood.put(self._site.conninfo)
            time.sleep(max(0.0, begun_at + WINDOW_SECONDS - time.time()))
            self.pairs[flood.label].append(((alone_at, begun_at), (begun_at, time.time())))
            self.drained[flood.label].append(self._drained_at(flood, before) - begun_at)

    def _drained_at(self, flood: Flood, before: int) -> float:
        """Wait until all of it is stored; return when that was. Raises TimeoutError."""
        ends_at = time.monotonic() + DRAINED_SECONDS
        with psycopg.connect(self._site.conninfo, autocommit=True) as connection:
            while time.monotonic() < ends_at:
                row = connection.execute(STORED, (before, flood.run)).fetchone()
                if row and row[0] >= flood.count:
                    return float(row[1])
                time.sleep(0.2)
        raise TimeoutError(f"the flood was not stored within {DRAINED_SECONDS} s")


async def _put(conninfo: str, rows: list[IntakeRow]) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await add_intake_rows(connection, rows)


def fairness(bench: Bench) -> Found:
    """Return by how much the others' time from acceptance to storage grows, and how long the backlogs took to drain."""
    options, pairs = bench.options, PAIRS * bench.options.rounds
    seconds = WARM_UP_SECONDS + 2 * pairs * (2 * WINDOW_SECONDS + DRAINING_SECONDS)
    with _noting_commits(bench):
        site = bench.site(ours(), options.senders)
        tenant = _tenant(site)
        backlog, flood = options.scaled(BACKLOG), options.scaled(FLOOD)
        floods = [
            each
            for number in range(pairs)
            for each in (
                Flood(BESIDE_TENANT, tenant, backlog, backlog // 5, TENANTS_SENDERS),
                Flood(BESIDE_SENDER, (WORKSPACE, WHATSAPP), flood, 1, FLOODER + number),
            )
        ]
        load = Load(options.senders, int(RATE * seconds), seconds, RATE, "others, and the senders' floods")
        with bench.running(site) as pids, Floods(site, floods) as turns:
            run = bench.put(site, load, pids)
        print(describe(run))
        waits = {
            label: [tuple(_waits(site, each) for each in pair) for pair in turns.pairs[label]] for label in turns.pairs
        }
    found = Found(runs=[run], series={"rate": RATE, "p95_ms": {"alone": []}, "growth": {}})
    for label, count in ((BESIDE_TENANT, backlog), (BESIDE_SENDER, flood)):
        _report(found, f"{label} of {count:,}", label, waits[label], turns.drained[label])
    return found


def _waits(site: Site, window: Window) -> list[float]:
    """Return the sorted milliseconds from acceptance to storage of the load's messages of a window."""
    between = [datetime.fromtimestamp(moment, UTC) for moment in window]
    with psycopg.connect(site.conninfo, autocommit=True) as connection:
        return [row[0] for row in connection.execute(WAITS, (WORKSPACE, *between))]


def _report(
    found: Found, where: str, label: str, waits: Sequence[tuple[list[float], ...]], drained: Sequence[float]
) -> None:
    """Add the rows: medians over pairs of neighbouring windows."""
    alone, beside = ([percentile(pair[place], 95) for pair in waits] for place in (0, 1))
    growths = [one / other - 1 for one, other in zip(beside, alone, strict=True)]
    growth = statistics.median(growths)
    found.series["p95_ms"]["alone"] += alone
    found.series["p95_ms"][label] = beside
    found.series["growth"][label] = growths
    every = [percentile(sorted(wait for pair in waits for wait in pair[place]), 95) for place in (0, 1)]
    pairs = f"median of {len(growths)} pairs of windows of {WINDOW_SECONDS:.0f} s"
    found.rows += [
        Row(f"others' p95 {where}", f"{growth:+.0%} ({pairs})", "< 20 %", growth < MOST_GROWTH),
        Row(f"p95 of all windows, without and {where}", f"{every[0]:.1f} ms, {every[1]:.1f} ms"),
        Row(f"drained {where}", f"{statistics.median(drained):.1f} s beside the others"),
    ]


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
