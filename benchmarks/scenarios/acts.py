"""Deleting contacts by the thousand beside inbound messages, and merging contacts with long histories."""

import json
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks import seeding
from benchmarks.bench import Bench, Found, Load, Row, describe
from benchmarks.load import percentile
from benchmarks.sites import WORKSPACE, Site
from benchmarks.systems import ours
from ingest.pipeline.delete import DeletionRequest, accept_deletion
from ingest.pipeline.merge import MergeRequest, merge_contacts

DELETED_CONTACTS, DELETED_MESSAGES_EACH = 10_000, 20
MERGED_MESSAGES, PAIRS = 10_000, 3
FINISH_SECONDS = 120
# How long the load goes on once a deletion has begun, and its beginning, which is not looked at.
BESIDE_SECONDS, WARM_UP_SECONDS = 20.0, 3.0
# Messages a second beside a deletion: 17 million a day.
RATE = 200.0

PROGRESS = """
    select state, row_counts, cast(extract(epoch from started_at) as float8) as started_at,
           cast(extract(epoch from finished_at) as float8) as finished_at
    from deletion_job where workspace_id = %s and id = %s
"""


@dataclass
class Round:
    """One deletion beside the load. Times are unix time; `quiet_at` is when the window before it began."""

    quiet_at: float
    begun_at: float = 0.0
    accepted_at: float = 0.0
    first_batch_at: float = 0.0
    ended_at: float = 0.0
    job: dict[str, Any] = field(default_factory=dict)
    removed: list[tuple[float, int]] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Rows removed a second, from the first batch's start to the end."""
        rows: int = sum(self.job["row_counts"].values())
        return rows / max(0.001, float(self.job["finished_at"] - self.job["started_at"]))

    def rows_per_second_until(self, ends_at: float) -> float:
        """Rows removed a second from the first batch's start to a moment."""
        rows = max((rows for at, rows in self.removed if at <= ends_at), default=0)
        return rows / max(0.001, min(ends_at, self.ended_at) - float(self.job["started_at"]))


class Deletions:
    """Accepts a deletion after each quiet window, and watches it, in a thread beside the load."""

    def __init__(self, site: Site, parts: Sequence[range], quiet_seconds: float) -> None:
        self._site, self._parts, self._quiet_seconds = site, parts, quiet_seconds
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.rounds: list[Round] = []

    def __enter__(self) -> "Deletions":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(len(self._parts) * (self._quiet_seconds + FINISH_SECONDS))

    def _run(self) -> None:
        time.sleep(WARM_UP_SECONDS)
        for part in self._parts:
            each = Round(time.time())
            self.rounds.append(each)
            time.sleep(self._quiet_seconds)
            self._delete(part, each)

    def _delete(self, part: range, each: Round) -> None:
        each.begun_at = time.time()
        with self._site.runtime.unit_of_work() as uow:
            job_id = accept_deletion(uow, DeletionRequest(WORKSPACE, list(part))).deletion_job_id
        each.accepted_at = time.time()
        with psycopg.connect(self._site.conninfo, autocommit=True, row_factory=dict_row) as connection:
            while time.time() - each.accepted_at < FINISH_SECONDS and not each.ended_at:
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
    quiet, rounds, contacts = options.seconds, max(2, options.rounds), options.scaled(DELETED_CONTACTS)
    seconds = WARM_UP_SECONDS + quiet + BESIDE_SECONDS
    load = Load(options.senders, int(RATE * seconds), seconds, RATE, "beside a deletion")
    site = bench.site(ours(1, "delete"), options.senders)
    ids = seeding.store_contacts(site.conninfo, options.senders, 2 * rounds * contacts)
    seeding.store_messages(site.conninfo, ids, DELETED_MESSAGES_EACH)
    parts = [ids[start : start + contacts] for start in range(0, len(ids), contacts)]
    beside: list[Beside] = []
    with bench.running(site) as pids:
        with Deletions(site, parts[:rounds], 0.0) as alone:
            pass
        for part in parts[rounds:]:
            samples = bench.directory / "samples.json"
            with Deletions(site, [part], quiet) as act:
                run = bench.put(site, load, pids, samples)
            print(describe(run), flush=True)
            found.runs.append(run)
            sent = [(run.started_at + at, latency) for at, latency in json.loads(samples.read_text())]
            beside += [Beside(each, sent, run.started_at + seconds) for each in act.rounds if each.ended_at]
    finished = [each for each in alone.rounds if each.ended_at]
    if min(len(finished), len(beside)) < rounds:
        told = f"{len(finished)} and {len(beside)} of {rounds} finished in time, alone and beside the load"
        found.rows.append(Row("deletion", told, "", False))
        return found
    _report_alone(found, finished)
    _report(found, beside)
    return found


@dataclass(frozen=True)
class Beside:
    """A deletion beside a load: what was sent, as (unix time, seconds), and when the load ended."""

    round: Round
    sent: Sequence[tuple[float, float]]
    ends_at: float

    def p95(self, begins_at: float, ends_at: float) -> float:
        """Return the p95 in milliseconds of what was due between two moments."""
        within = sorted(latency for at, latency in self.sent if begins_at <= at < ends_at)
        return 1000 * percentile(within, 95) if within else 0.0

    @property
    def quiet_ms(self) -> float:
        """The p95 before the deletion."""
        return self.p95(self.round.quiet_at, self.round.begun_at)

    @property
    def beside_ms(self) -> float:
        """The p95 from the deletion's beginning to its end, or the load's."""
        return self.p95(self.round.begun_at, min(self.round.ended_at, self.ends_at))


def _report_alone(found: Found, rounds: Sequence[Round]) -> None:
    per_second = statistics.median(each.rows_per_second for each in rounds)
    answer = statistics.median(each.accepted_at - each.begun_at for each in rounds)
    found.rows += [
        Row("deletion alone: answer", f"{1000 * answer:.0f} ms", "≤ 200 ms", answer <= 0.2),
        Row("deletion alone: rows removed", f"{per_second:,.0f} rows/s", "≥ 20,000 rows/s", per_second >= 20_000),
    ]


def _report(found: Found, rounds: Sequence[Beside]) -> None:
    """Add the rows of deletions beside the load: medians over the rounds."""
    answers = [each.round.accepted_at - each.round.begun_at for each in rounds]
    first = statistics.median(each.round.first_batch_at - each.round.accepted_at for each in rounds)
    per_second = statistics.median(each.round.rows_per_second_until(each.ends_at) for each in rounds)
    shown = rounds[0]
    began_at = shown.sent[0][0]
    found.series |= {
        "rounds": [{**asdict(each.round), "removed": []} for each in rounds],
        "windows": [(shown.round.begun_at - began_at, min(shown.round.ended_at, shown.ends_at) - began_at)],
        "samples": [(at - began_at, latency) for at, latency in shown.sent],
    }
    answer = statistics.median(answers)
    told = f"{1000 * answer:.0f} ms (slowest of {len(rounds)}: {1000 * max(answers):.0f} ms)"
    where = f"deletion beside {RATE:,.0f} messages/s"
    quiet, beside = [each.quiet_ms for each in rounds], [each.beside_ms for each in rounds]
    found.series["p95_ms"] = {"quiet": quiet, "beside": beside}
    before, during = statistics.median(quiet), statistics.median(beside)
    growth = during / before - 1
    windows = f"medians of {len(rounds)} windows each: {before:.1f} ms without, {during:.1f} ms beside"
    found.rows += [
        Row(f"{where}: answer", told, "≤ 200 ms", answer <= 0.2),
        Row(f"{where}: first batch purged", f"{first:.2f} s after the answer", "≤ 5 s", first <= 5),
        Row(f"{where}: rows removed, as they give way", f"{per_second:,.0f} rows/s"),
        Row(f"{where}: growth of the inbound p95", f"{growth:+.0%} ({windows})", "< 20 %", growth < 0.2),
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
