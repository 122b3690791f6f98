"""Importing 200,000 contacts beside inbound messages."""

import json
import threading
import time
from pathlib import Path

import psycopg

from benchmarks.bench import Bench, Found, Load, Row, describe
from benchmarks.contacts_import import OPTIONS, make_file
from benchmarks.load import percentile
from benchmarks.sites import WORKSPACE, Site
from benchmarks.systems import ours
from ingest.domain.access import Principal
from ingest.pipeline.transfer_import import accept_import

ROWS = 200_000
RATE = 200.0
QUIET_SECONDS, BESIDE_SECONDS = 20.0, 40.0
FINISH_SECONDS = 900

PROGRESS = "select state, counts from transfer where workspace_id = %s and id = %s"


class Import:
    """Accepts an import after a while, in a thread beside the load."""

    def __init__(self, site: Site, content: bytes, after_seconds: float) -> None:
        self._site, self._content, self._after_seconds = site, content, after_seconds
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted_at = self.answer_seconds = 0.0
        self.transfer_id = 0

    def __enter__(self) -> "Import":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _run(self) -> None:
        time.sleep(self._after_seconds)
        began = time.perf_counter()
        with self._site.runtime.unit_of_work() as uow:
            principal = Principal(WORKSPACE, "owner")
            self.transfer_id = accept_import(uow, principal, self._content, OPTIONS, "contacts.csv")
        self.answer_seconds = time.perf_counter() - began
        self.accepted_at = time.time()


def imports(bench: Bench) -> Found:
    """Return how long an import takes, and what it does to the inbound messages beside it."""
    content = make_file(bench.options.scaled(ROWS))
    site = bench.site(ours(1, "transfer"), bench.options.senders)
    seconds = QUIET_SECONDS + BESIDE_SECONDS
    load = Load(bench.options.senders, int(RATE * seconds), seconds, RATE, "beside an import")
    samples = bench.directory / "samples.json"
    with bench.running(site) as pids:
        with Import(site, content, QUIET_SECONDS) as act:
            run = bench.put(site, load, pids, samples)
        print(describe(run), flush=True)
        seconds, state, detected = _wait(site, act)
    found = Found(runs=[run])
    found.rows.append(Row("import: rows", f"{len(content) / 1e6:.1f} MB in {seconds:.0f} s, {state}"))
    found.rows.append(
        Row("import: contacts that detection has reviewed afterwards", f"{detected:,} suggestions opened")
    )
    _compare(found, act, samples, run.started_at)
    return found


def _wait(site: Site, act: Import) -> tuple[float, str, int]:
    state = ""
    with psycopg.connect(site.conninfo, autocommit=True) as connection:
        while time.time() - act.accepted_at < FINISH_SECONDS:
            row = connection.execute(PROGRESS, (WORKSPACE, act.transfer_id)).fetchone()
            state = str(row[0]) if row else "gone"
            if state not in {"queued", "running"}:
                break
            time.sleep(0.5)
        seconds = time.time() - act.accepted_at
        while connection.execute("select 1 from job where queue = 'detect' limit 1").fetchone():
            time.sleep(0.5)
        opened = connection.execute("select count(*) from merge_suggestion").fetchone()
    return seconds, state, int(opened[0]) if opened else 0


def _compare(found: Found, act: Import, samples: Path, started_at: float) -> None:
    sent = json.loads(samples.read_text())
    begins = act.accepted_at - act.answer_seconds - started_at
    # The first seconds are the processes' own warming up.
    before = sorted(latency for at, latency in sent if begins / 4 <= at < begins)
    beside = sorted(latency for at, latency in sent if at >= begins)
    p95, p95_beside = (1000 * percentile(each, 95) for each in (before, beside))
    growth = p95_beside / p95 - 1
    told = f"{growth:+.0%} ({p95:.1f} ms before, {p95_beside:.1f} ms beside)"
    found.rows.append(Row("import: growth of the inbound p95", told, "< 20 %", growth < 0.2))
