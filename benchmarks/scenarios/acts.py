"""Deleting contacts by the thousand beside inbound messages, and merging contacts with long histories."""

import json
import os
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks import seeding
from benchmarks.aside import Aside
from benchmarks.bench import Bench, Found, Load, Row, describe
from benchmarks.load import percentile
from benchmarks.sites import WORKSPACE, Site
from benchmarks.systems import ours
from ingest.pipeline.delete import DeletionRequest, accept_deletion
from ingest.pipeline.merge import MergeRequest, merge_contacts

DELETED_CONTACTS, DELETED_MESSAGES_EACH = 10_000, 20
MERGED_MESSAGES, PAIRS = 10_000, 3
FINISH_SECONDS = 120
# Windows with the deletion and without it, whose worker is stopped meanwhile, take turns, because a machine that is shared
# changes from one half minute to the next. The load's beginning is not looked at.
WINDOW_SECONDS, WINDOW_PAIRS, WARM_UP_SECONDS = 4.0, 8, 3.0
# Messages a second beside a deletion: 17 million a day.
RATE = 200.0

PROGRESS = """
    select state, row_counts, cast(extract(epoch from started_at) as float8) as started_at,
           cast(extract(epoch from finished_at) as float8) as finished_at
    from deletion_job where workspace_id = %s and id = %s
"""

VACUUMS = "select 1 from pg_stat_progress_vacuum where datname = current_database() limit 1"


@dataclass
class Round:
    """One deletion, alone or beside a load. Times are unix time; `windows` are those with it and those without."""

    begun_at: float
    accepted_at: float = 0.0
    first_batch_at: float = 0.0
    ended_at: float = 0.0
    job: dict[str, Any] = field(default_factory=dict)
    removed: list[tuple[float, int]] = field(default_factory=list)
    beside: list[tuple[float, float]] = field(default_factory=list)
    without: list[tuple[float, float]] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Rows removed a second, from the first batch's start to the end."""
        rows: int = sum(self.job["row_counts"].values())
        return rows / max(0.001, float(self.job["finished_at"] - self.job["started_at"]))

    @property
    def rows_per_second_beside(self) -> float:
        """Rows removed a second in the windows beside the load."""
        ends_at = self.beside[-1][1]
        rows = max((rows for at, rows in self.removed if at <= ends_at), default=0)
        return rows / sum(ends - begins for begins, ends in self.beside)


class Deletion(Aside):
    """Accepts a deletion and watches it to its end, in a thread beside the load.

    Beside a load it runs in every other window; in those between the worker with `pid` is stopped.
    """

    def __init__(self, site: Site, contact_ids: Sequence[int], pid: int | None = None) -> None:
        self._site, self._contact_ids, self._pid = site, contact_ids, pid
        super().__init__()
        self.round = Round(0.0)

    def work(self) -> None:
        if self._pid is not None:
            time.sleep(WARM_UP_SECONDS)
        each = self.round
        each.begun_at = time.time()
        with self._site.runtime.unit_of_work() as uow:
            job_id = accept_deletion(uow, DeletionRequest(WORKSPACE, list(self._contact_ids))).deletion_job_id
        each.accepted_at = time.time()
        with psycopg.connect(self._site.conninfo, autocommit=True, row_factory=dict_row) as connection:
            if self._pid is not None:
                self._take_turns(connection, job_id, self._pid)
            self._watch(connection, job_id, time.time() + FINISH_SECONDS)

    def _take_turns(self, connection: psycopg.Connection[dict[str, Any]], job_id: int, pid: int) -> None:
        begins_at = self.round.begun_at
        for _ in range(WINDOW_PAIRS):
            self._watch(connection, job_id, begins_at + WINDOW_SECONDS)
            if self.round.ended_at:
                return
            self.round.beside.append((begins_at, time.time()))
            os.kill(pid, signal.SIGSTOP)
            try:
                begins_at = time.time()
                self._watch(connection, job_id, begins_at + WINDOW_SECONDS)
                self.round.without.append((begins_at, time.time()))
            finally:
                os.kill(pid, signal.SIGCONT)
            begins_at = time.time()

    def _watch(self, connection: psycopg.Connection[dict[str, Any]], job_id: int, until: float) -> None:
        """Note how far it is, until a moment or its end."""
        each = self.round
        while time.time() < until and not each.ended_at:
            each.job = connection.execute(PROGRESS, (WORKSPACE, job_id)).fetchone() or {}
            each.removed.append((time.time(), sum((each.job.get("row_counts") or {}).values())))
            if each.removed[-1][1] and not each.first_batch_at:
                each.first_batch_at = time.time()
            if str(each.job.get("state", "")).startswith("completed"):
                each.ended_at = time.time()
            time.sleep(0.02)


def deletion(bench: Bench) -> Found:
    """Return how fast mass deletions go alone, and how fast beside inbound messages and what they do to those."""
    found, options = Found(), bench.options
    rounds, contacts = max(2, options.rounds), options.scaled(DELETED_CONTACTS)
    seconds = WARM_UP_SECONDS + 2 * WINDOW_PAIRS * WINDOW_SECONDS + 1
    load = Load(options.senders, int(RATE * seconds), seconds, RATE, "beside a deletion")
    site = bench.site(ours(1, "delete"), options.senders)
    ids = seeding.store_contacts(site.conninfo, options.senders, 2 * rounds * contacts)
    seeding.store_messages(site.conninfo, ids, DELETED_MESSAGES_EACH)
    parts = [ids[start : start + contacts] for start in range(0, len(ids), contacts)]
    alone: list[Round] = []
    beside: list[Beside] = []
    with bench.running(site) as pids:
        for part in parts[:rounds]:
            _settle(site.conninfo)
            with Deletion(site, part) as act:
                pass
            alone.append(act.round)
        for part in parts[rounds:]:
            _settle(site.conninfo)
            samples = bench.directory / "samples.json"
            with Deletion(site, part, *pids["worker delete"]) as act:
                run = bench.put(site, load, pids, samples)
            print(describe(run), flush=True)
            found.runs.append(run)
            sent = [(run.started_at + at, latency) for at, latency in json.loads(samples.read_text())]
            beside.append(Beside(act.round, sent))
    finished = [each for each in [*alone, *(each.round for each in beside)] if each.ended_at]
    if len(finished) < 2 * rounds:
        found.rows.append(Row("deletion", f"{len(finished)} of {2 * rounds} finished in time", "", False))
        return found
    _report_alone(found, alone)
    _report(found, beside)
    return found


def _settle(conninfo: str) -> None:
    """Have the database write what it has in memory, and wait until it tidies up no more: both are of what was before."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("checkpoint")
        ends_at = time.monotonic() + FINISH_SECONDS
        while connection.execute(VACUUMS).fetchone() and time.monotonic() < ends_at:
            time.sleep(0.5)


@dataclass(frozen=True)
class Beside:
    """A deletion beside a load, and what was sent, as (unix time, seconds)."""

    round: Round
    sent: Sequence[tuple[float, float]]

    def within(self, windows: Sequence[tuple[float, float]]) -> list[float]:
        """The sorted milliseconds of what was due in the windows."""
        return sorted(
            1000 * latency for at, latency in self.sent if any(begins <= at < ends for begins, ends in windows)
        )

    @property
    def ratios(self) -> list[float]:
        """Of each pair of windows the p95 with the deletion over the p95 without it."""
        pairs = zip(self.round.beside, self.round.without, strict=True)
        return [percentile(self.within([one]), 95) / percentile(self.within([other]), 95) for one, other in pairs]


def _report_alone(found: Found, rounds: Sequence[Round]) -> None:
    per_second = statistics.median(each.rows_per_second for each in rounds)
    answers = [each.accepted_at - each.begun_at for each in rounds]
    answer = statistics.median(answers)
    found.series["answers_alone"] = answers
    found.rows += [
        Row("deletion alone: answer", f"{1000 * answer:.0f} ms", "≤ 200 ms", answer <= 0.2),
        Row("deletion alone: rows removed", f"{per_second:,.0f} rows/s", "≥ 20,000 rows/s", per_second >= 20_000),
    ]


def _report(found: Found, rounds: Sequence[Beside]) -> None:
    """Add the rows of deletions beside the load: medians over the rounds, and over pairs of windows."""
    answers = [each.round.accepted_at - each.round.begun_at for each in rounds]
    first = statistics.median(each.round.first_batch_at - each.round.accepted_at for each in rounds)
    per_second = statistics.median(each.round.rows_per_second_beside for each in rounds)
    shown = rounds[0]
    began_at = shown.sent[0][0]
    ratios = [ratio for each in rounds for ratio in each.ratios]
    without, beside = (
        percentile(sorted(one for each in rounds for one in each.within(getattr(each.round, name))), 95)
        for name in ("without", "beside")
    )
    found.series |= {
        "rounds": [{**asdict(each.round), "removed": []} for each in rounds],
        "windows": [(begins - began_at, ends - began_at) for begins, ends in shown.round.beside],
        "samples": [(at - began_at, latency) for at, latency in shown.sent],
        "ratios": ratios,
        "p95_ms": {"without": without, "beside": beside},
    }
    answer = statistics.median(answers)
    told = f"{1000 * answer:.0f} ms (slowest of {len(rounds)}: {1000 * max(answers):.0f} ms)"
    where = f"deletion beside {RATE:,.0f} messages/s"
    growth = statistics.median(ratios) - 1
    windows = f"median of {len(ratios)} pairs of windows of {WINDOW_SECONDS:.0f} s"
    found.rows += [
        Row(f"{where}: answer", told, "≤ 200 ms", answer <= 0.2),
        Row(f"{where}: first batch purged", f"{first:.2f} s after the answer", "≤ 5 s", first <= 5),
        Row(f"{where}: rows removed, as they give way", f"{per_second:,.0f} rows/s"),
        Row(f"{where}: growth of the inbound p95", f"{growth:+.0%} ({windows})", "< 20 %", growth < 0.2),
        Row(f"{where}: p95 of all windows", f"{without:.1f} ms without, {beside:.1f} ms beside"),
    ]


def merge(bench: Bench) -> Found:
    """Return how long merging two contacts with long histories takes, one transaction each."""
    site, each = bench.site(ours(), 1), bench.options.scaled(MERGED_MESSAGES)
    ids = seeding.store_contacts(site.conninfo, 1, 2 * PAIRS)
    seeding.store_messages(site.conninfo, ids, each)
    seconds = []
    for kept in ids[::2]:
        began = time.perf_counter()
        with site.runtime.unit_of_work() as uow:
            merge_contacts(uow, MergeRequest(WORKSPACE, kept, kept + 1))
        seconds.append(time.perf_counter() - began)
    slowest = max(seconds)
    told = f"{slowest:.2f} s (slowest of {PAIRS}; one transaction)"
    return Found(
        [Row(f"merge of two contacts with {each:,} messages each", told, "≤ 1 s", slowest <= 1)],
        series={"seconds": seconds},
    )
