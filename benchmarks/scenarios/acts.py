"""Deleting contacts by the thousand beside inbound messages, and merging contacts with long histories."""

import importlib.util
import json
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks import seeding
from benchmarks.bench import Bench, Found, Row, describe
from benchmarks.load import percentile
from benchmarks.sites import WORKSPACE, Site
from benchmarks.systems import ours
from ingest.pipeline.delete import DeletionRequest, accept_deletion
from ingest.pipeline.merge import MergeRequest, merge_contacts

DELETED_CONTACTS, DELETED_MESSAGES_EACH = 10_000, 20
MERGED_MESSAGES, PAIRS = 10_000, 3
FINISH_SECONDS = 120

PROGRESS = """
    select state, row_counts, extract(epoch from created_at) as created_at, extract(epoch from started_at) as started_at,
           extract(epoch from finished_at) as finished_at
    from deletion_job where workspace_id = %s and id = %s
"""


class Deletion:
    """Accepts a deletion after a while, and watches it in a thread beside the load."""

    def __init__(self, site: Site, contact_ids: range, after_seconds: float) -> None:
        self._site, self._contact_ids, self._after_seconds = site, contact_ids, after_seconds
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted_at = self.first_batch_at = self.ended_at = self.answer_seconds = 0.0
        self.job: dict[str, Any] = {}

    def __enter__(self) -> "Deletion":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(self._after_seconds + FINISH_SECONDS)

    def _run(self) -> None:
        time.sleep(self._after_seconds)
        began = time.perf_counter()
        with self._site.runtime.unit_of_work() as uow:
            job_id = accept_deletion(uow, DeletionRequest(WORKSPACE, list(self._contact_ids))).deletion_job_id
        self.answer_seconds = time.perf_counter() - began
        self.accepted_at = time.time()
        with psycopg.connect(self._site.conninfo, autocommit=True, row_factory=dict_row) as connection:
            while time.time() - self.accepted_at < FINISH_SECONDS and not self.ended_at:
                self.job = connection.execute(PROGRESS, (WORKSPACE, job_id)).fetchone() or {}
                if self.job.get("row_counts") and not self.first_batch_at:
                    self.first_batch_at = time.time()
                if str(self.job.get("state", "")).startswith("completed"):
                    self.ended_at = time.time()
                time.sleep(0.02)


def deletion(bench: Bench) -> Found:
    """Return how fast a mass deletion goes, and what it does to the inbound messages beside it."""
    found = Found()
    if importlib.util.find_spec("workers.delete") is None:
        found.rows.append(Row("deletion", "not measured: there is no worker for the queue delete yet"))
        return found
    options = bench.options
    load = bench.half_load(4 * options.seconds, "beside a deletion")
    site = bench.site(ours(1, "delete"), options.senders)
    ids = seeding.store_contacts(site.conninfo, options.senders, options.scaled(DELETED_CONTACTS))
    seeding.store_messages(site.conninfo, ids, DELETED_MESSAGES_EACH)
    samples = bench.directory / "samples.json"
    with bench.running(site) as pids, Deletion(site, ids, load.seconds / 2) as act:
        run = bench.put(site, load, pids, samples)
    print(describe(run), flush=True)
    found.runs.append(run)
    if not act.ended_at:
        found.rows.append(Row("deletion", f"not finished within {FINISH_SECONDS} s: {act.job.get('state')}", "", False))
        return found
    _report(found, act, samples, run.started_at)
    return found


def _report(found: Found, act: Deletion, samples: Path, started_at: float) -> None:
    """Add the rows of a finished deletion. The load began at `started_at`, unix time."""
    sent = json.loads(samples.read_text())
    begins, ends = act.accepted_at - act.answer_seconds - started_at, act.ended_at - started_at
    # The first seconds are the processes' own warming up.
    before = sorted(latency for at, latency in sent if begins / 4 <= at < begins)
    beside = sorted(latency for at, latency in sent if begins <= at < ends)
    rows = sum(act.job["row_counts"].values())
    per_second = rows / max(0.001, float(act.job["finished_at"] - act.job["started_at"]))
    first = act.first_batch_at - act.accepted_at
    found.series |= {
        "begins": begins,
        "ends": ends,
        "samples": sent[:: max(1, len(sent) // 20_000)],
        "rows": act.job["row_counts"],
    }
    found.rows += [
        Row("deletion: answer", f"{act.answer_seconds:.2f} s"),
        Row("deletion: first batch purged", f"{first:.2f} s after the answer", "≤ 5 s", first <= 5),
        Row(
            "deletion: rows removed",
            f"{per_second:,.0f} rows/s ({rows:,} rows)",
            "≥ 20,000 rows/s",
            per_second >= 20_000,
        ),
    ]
    if before and beside:
        p95, p95_beside = (1000 * percentile(each, 95) for each in (before, beside))
        growth = p95_beside / p95 - 1
        told = f"{growth:+.0%} ({p95:.1f} ms before, {p95_beside:.1f} ms beside, {ends - begins:.1f} s)"
        found.rows.append(Row("deletion: growth of the inbound p95", told, "< 20 %", growth < 0.2))


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
