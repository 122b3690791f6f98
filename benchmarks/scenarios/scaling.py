"""What a message costs in each part, and how well the model of `benchmarks.scaling` foretells what is then measured."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from sqlalchemy import event

from benchmarks.bench import Bench, Found, Load, Measured, Row, describe
from benchmarks.bodies import whatsapp_body
from benchmarks.scaling import Costs, Machine, capacity, curve, simulate
from benchmarks.sites import WHATSAPP, WORKSPACE, Site
from benchmarks.systems import ours
from ingest.jobs.queues import RESOLVE
from ingest.logs import configure_logs
from ingest.store.intake import RawRequest, add_intake_rows, encode_rows
from ingest.store.jobs import FRESH_SECONDS
from workers import handling, resolve
from workers.turns import Turns

SIZES, TIMES = (1, 20, 100, 500), 8
HALF = 0.5
# What a model is good for: a plan, not a promise.
MOST_ERROR = 0.25

COUNTERS = """
    select pg_current_wal_lsn() - '0/0'::pg_lsn, (select xact_commit from pg_stat_database where datname = current_database()),
           (select coalesce(sum(fsyncs), 0) from pg_stat_io where object = 'wal'),
           (select count(*) from pg_stat_activity where datname = current_database())
"""
SIZE = "select coalesce(sum(pg_total_relation_size(to_regclass(name))), 0) from unnest(%s::text[]) as name"
MESSAGE_TABLES = ["message"]
CONTACT_TABLES = ["contact", "identity", "contact_key", "conversation", "active_contact"]
assert resolve.resolver_of


@dataclass(frozen=True)
class Counters:
    """What the database counts, and the connections to it."""

    wal_bytes: float
    commits: int
    fsyncs: int
    connections: int
    message_bytes: int


def scaling(bench: Bench) -> Found:
    """Return the costs, and the model's error against one and two workers, and against the latency at half the load."""
    configure_logs("warning", "json", "benchmark")
    found = Found()
    site = bench.site(ours(), bench.options.senders)
    contact_bytes = _size(site, CONTACT_TABLES) / bench.options.senders
    with bench.running(site) as pids:
        before = _counters(site)
        run = _put(bench, found, site, pids, bench.full_load(bench.options.senders, "1 worker"))
        after = _counters(site)
        half = bench.options.seconds, HALF * run.stored_per_second
        load = Load(bench.options.senders, int(half[0] * half[1]), *half, "half of the maximum")
        half_run = _put(bench, found, site, pids, load)
    commit, request = _line(lambda size: _time_commit(site, size))
    claim, message = _line(lambda size: _time_claim(site, size))
    costs = Costs(
        run.cpu_us["web"], run.cpu_us["worker resolve"], run.cpu_us["postgres"],
        sum(spent for name, spent in run.cpu_us.items() if name not in {"web", "worker resolve", "postgres"}),
        commit, request, claim, message, (after.wal_bytes - before.wal_bytes) / run.stored,
        (after.message_bytes - before.message_bytes) / run.stored, contact_bytes,
    )  # fmt: skip
    other = bench.site(ours(2), bench.options.senders)
    with bench.running(other) as pids:
        two = _put(bench, found, other, pids, bench.full_load(bench.options.senders, "2 workers"))
    found.series = {"costs": asdict(costs), "statements_per_claim": _statements(site), "over_load": curve(costs)}
    found.rows += [
        Row("CPU µs a message: web, worker, database, everything else", _told(costs)),
        Row("a commit of n requests", f"{1e3 * commit:.2f} ms + n × {1e6 * request:.0f} µs"),
        Row("a claim of n messages", f"{1e3 * claim:.1f} ms + n × {1e6 * message:.0f} µs"),
        Row("statements a claim, whatever its size", str(found.series["statements_per_claim"])),
        Row("WAL a message", f"{costs.wal_bytes:,.0f} bytes"),
        Row("commits/s and fsyncs/s of the log at the maximum", _per_second(before, after, run)),
        Row("connections: one web process, four workers, beat", str(after.connections)),
        Row("tables and indexes", f"{costs.message_bytes:,.0f} bytes a message, {contact_bytes:,.0f} a contact"),
    ]
    cores = float(os.cpu_count() or 1)
    _judge(found, "maximum with 1 worker, messages/s", capacity(costs, Machine(1, 1, cores))[0], run.stored_per_second)
    _judge(found, "maximum with 2 workers, messages/s", capacity(costs, Machine(1, 2, cores))[0], two.stored_per_second)
    foretold = simulate(costs, half[1], Machine(1, 1, cores))
    _judge(found, "answer p50 at half the maximum, ms", foretold["answer_50"], half_run.latency_ms["50"])
    _judge(found, "answer p95 at half the maximum, ms", foretold["answer_95"], half_run.latency_ms["95"])
    return found


def _put(bench: Bench, found: Found, site: Site, pids: dict[str, list[int]], load: Load) -> Measured:
    run = bench.put(site, load, pids)
    print(describe(run), flush=True)
    found.runs.append(run)
    return run


def _told(costs: Costs) -> str:
    return f"{costs.web_us:.0f}, {costs.worker_us:.0f}, {costs.database_us:.0f}, {costs.other_us:.0f}"


def _per_second(before: Counters, after: Counters, run: Measured) -> str:
    commits, fsyncs = after.commits - before.commits, after.fsyncs - before.fsyncs
    return f"{commits / run.seconds:,.0f} and {fsyncs / run.seconds:,.0f}"


def _judge(found: Found, what: str, foretold: float, measured: float) -> None:
    error = foretold / measured - 1
    told = f"{error:+.0%} (foretold {foretold:,.1f}, measured {measured:,.1f})"
    found.rows.append(Row(f"model: {what}", told, f"within {MOST_ERROR:.0%}", abs(error) <= MOST_ERROR))


def _counters(site: Site) -> Counters:
    with psycopg.connect(site.conninfo, autocommit=True) as connection:
        row: Any = connection.execute(COUNTERS).fetchone()
    return Counters(float(row[0]), row[1], int(row[2]), row[3], _size(site, MESSAGE_TABLES))


def _size(site: Site, tables: list[str]) -> int:
    with psycopg.connect(site.conninfo, autocommit=True) as connection:
        row = connection.execute(SIZE, (tables,)).fetchone()
    return int(row[0]) if row else 0


def _line(measure: Callable[[int], float]) -> tuple[float, float]:
    """Return the fixed seconds and those for each one more, by the quickest of several tries of each size.

    From the smallest and the largest size: the quickest tries are those that nobody disturbed.
    """
    quickest = {size: min(measure(size) for _ in range(TIMES)) for size in (SIZES[0], *SIZES)}
    slope = (quickest[SIZES[-1]] - quickest[SIZES[0]]) / (SIZES[-1] - SIZES[0])
    return quickest[SIZES[0]] - SIZES[0] * slope, slope


def _requests(size: int) -> list[RawRequest]:
    now, run = datetime.now(UTC), time.monotonic_ns()
    headers = {"content-type": "application/json"}
    bodies = [whatsapp_body(number, f"wamid.cost.{run}.{number}", int(time.time()), "Cost") for number in range(size)]
    return [RawRequest(WORKSPACE, WHATSAPP, 0, now, os.urandom(16), "POST", "", headers, body) for body in bodies]


def _time_commit(site: Site, size: int) -> float:
    async def commit() -> float:
        async with await psycopg.AsyncConnection.connect(site.conninfo, autocommit=True) as connection:
            await add_intake_rows(connection, encode_rows(_requests(1)))
            requests = _requests(size)
            began = time.perf_counter()
            await add_intake_rows(connection, encode_rows(requests))
            return time.perf_counter() - began

    seconds = asyncio.run(commit())
    handling.drain(site.runtime, RESOLVE)
    return seconds


def _time_claim(site: Site, size: int) -> float:
    async def add() -> None:
        async with await psycopg.AsyncConnection.connect(site.conninfo, autocommit=True) as connection:
            await add_intake_rows(connection, encode_rows(_requests(size)))

    asyncio.run(add())
    # What is fresh is taken in smaller claims.
    time.sleep(FRESH_SECONDS)
    began = time.perf_counter()
    claim = Turns(site.runtime, RESOLVE).claim()
    handling.handle_claim(site.runtime, RESOLVE, claim)
    took = time.perf_counter() - began
    assert claim.weight == size
    return took


def _statements(site: Site) -> int:
    """Return how many statements one claim takes, from the claim to the deletion of its rows."""
    said: list[str] = []

    def note(*given: Any) -> None:
        said.append(given[2])

    counted = []
    for size in (1, 500):
        said.clear()
        event.listen(site.runtime.engine, "before_cursor_execute", note)
        _time_claim(site, size)
        event.remove(site.runtime.engine, "before_cursor_execute", note)
        # Afterwards one more claim finds nothing: its two statements are not this one's.
        counted.append(len(said) - 2)
    return max(counted)
