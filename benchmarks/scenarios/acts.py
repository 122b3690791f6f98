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
# What a deletion beside a load takes, at most; and the beginning of a load, which is not looked at.
ROUND_SECONDS, WARM_UP_SECONDS = 50.0, 3.0
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

    @property
    def rows_per_second(self) -> float:
        """Rows removed a second, from the first batch's start to the end."""
        rows: int = sum(self.job["row_counts"].values())
        return rows / max(0.001, float(self.job["finished_at"] - self.job["started_at"]))


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
                if each.job.get("row_counts") and not each.first_batch_at:
                    each.first_batch_at = time.time()
                if str(each.job.get("state", "")).startswith("completed"):
                    each.ended_at = time.time()
                time.sleep(0.02)


def deletion(bench: Bench) -> Found:
    """Return how fast mass deletions go alone, and how fast beside inbound messages and what they do to those."""
    found, options = Found(), bench.options
    quiet, rounds, contacts = options.seconds, max(2, options.rounds), options.scaled(DELETED_CONTACTS)
    seconds = WARM_UP_SECONDS + rounds * (quiet + ROUND_SECONDS)
    load = Load(options.senders, int(RATE * seconds), seconds, RATE, "beside deletions")
    site = bench.site(ours(1, "delete"), options.senders)
    ids = seeding.store_contacts(site.conninfo, options.senders, 2 * rounds * contacts)
    seeding.store_messages(site.conninfo, ids, DELETED_MESSAGES_EACH)
    parts = [ids[start : start + contacts] for start in range(0, len(ids), contacts)]
    samples = bench.directory / "samples.json"
    with bench.running(site) as pids:
        with Deletions(site, parts[:rounds], 0.0) as alone:
            pass
        with Deletions(site, parts[rounds:], quiet) as act:
            run = bench.put(site, load, pids, samples)
    print(describe(run), flush=True)
    found.runs.append(run)
    ended = [[each for each in one.rounds if each.ended_at] for one in (alone, act)]
    if min(map(len, ended)) < rounds:
        told = " and ".join(str(len(each)) for each in ended)
        found.rows.append(Row("deletion", f"{told} of {rounds} finished in time, alone and beside the load", "", False))
        return found
    _report_alone(found, ended[0])
    _report(found, ended[1], json.loads(samples.read_text()), run.started_at)
    return found


def _report_alone(found: Found, rounds: Sequence[Round]) -> None:
    per_second = statistics.median(each.rows_per_second for each in rounds)
    answer = statistics.median(each.accepted_at - each.begun_at for each in rounds)
    found.series["alone"] = [asdict(each) for each in rounds]
    found.rows += [
        Row("deletion alone: answer", f"{1000 * answer:.0f} ms", "≤ 200 ms", answer <= 0.2),
        Row("deletion alone: rows removed", f"{per_second:,.0f} rows/s", "≥ 20,000 rows/s", per_second >= 20_000),
    ]


def _report(found: Found, rounds: Sequence[Round], sent: Sequence[tuple[float, float]], started_at: float) -> None:
    """Add the rows of deletions beside the load: medians over the rounds. The load began at `started_at`, unix time."""
    answers = [each.accepted_at - each.begun_at for each in rounds]
    first = statistics.median(each.first_batch_at - each.accepted_at for each in rounds)
    per_second = statistics.median(each.rows_per_second for each in rounds)
    found.series |= {
        "rounds": [asdict(each) for each in rounds],
        "windows": [(each.begun_at - started_at, each.ended_at - started_at) for each in rounds],
        "samples": sent[:: max(1, len(sent) // 20_000)],
    }
    answer = statistics.median(answers)
    told = f"{1000 * answer:.0f} ms (slowest of {len(rounds)}: {1000 * max(answers):.0f} ms)"
    where = f"deletion beside {RATE:,.0f} messages/s"
    found.rows += [
        Row(f"{where}: answer", told, "≤ 200 ms", answer <= 0.2),
        Row(f"{where}: first batch purged", f"{first:.2f} s after the answer", "≤ 5 s", first <= 5),
        Row(f"{where}: rows removed", f"{per_second:,.0f} rows/s", "≥ 20,000 rows/s", per_second >= 20_000),
    ]

    def p95(begins_at: float, ends_at: float) -> float:
        due = (begins_at - started_at, ends_at - started_at)
        within = sorted(latency for at, latency in sent if due[0] <= at < due[1])
        return 1000 * percentile(within, 95) if within else 0.0

    quiet = [p95(max(each.quiet_at, started_at + WARM_UP_SECONDS), each.begun_at) for each in rounds]
    beside = [p95(each.begun_at, each.ended_at) for each in rounds]
    found.series["p95_ms"] = {"quiet": quiet, "beside": beside}
    if all(quiet) and all(beside):
        before, during = statistics.median(quiet), statistics.median(beside)
        growth = during / before - 1
        told = f"{growth:+.0%} (medians of {len(rounds)} windows each: {before:.1f} ms without, {during:.1f} ms beside)"
        found.rows.append(Row(f"{where}: growth of the inbound p95", told, "< 20 %", growth < 0.2))


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
