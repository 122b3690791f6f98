"""Importing 200,000 contacts beside inbound messages, in several files, each beside a window of the same load without it."""

import http.client
import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks.aside import Aside
from benchmarks.bench import Bench, Found, Measured, Row, describe
from benchmarks.bench import Load as Inbound
from benchmarks.contacts_import import COLUMNS, make_file, shared_rows
from benchmarks.load import percentile
from benchmarks.processes import resident_bytes
from benchmarks.sites import WORKSPACE, Site
from benchmarks.systems import PORT, ours

ROWS, FILES = 200_000, 5
# One row in so many shares its phone with a contact that was there before, one in so many its email.
PHONE_EVERY, EMAIL_EVERY = 100, 100
RATE = 200.0
WARM_SECONDS, WINDOW_SECONDS = 8.0, 15.0
# An import begins so long into its window.
LEAD_SECONDS = 1.0
FINISH_SECONDS = 900

PROGRESS = "select state, counts from transfer where workspace_id = %s and id = %s"
PAIRS = "select count(*) from merge_suggestion where state = 'open'"
BUSY = "select 1 from job where queue in ('transfer', 'detect') limit 1"
# What the processes of the inbound path are doing in the database. A statement that runs waits for nothing.
WAITS = """
    select application_name || ': ' || coalesce(wait_event_type || '/' || wait_event, 'running')
    from pg_stat_activity where application_name in ('ingest-web', 'ingest-worker') and state = 'active'
"""
MAIL = """
    with had as (
        update contact set email = 'early' || id || '@customers.example.com' where workspace_id = %(w)s returning id
    )
    insert into contact_key (workspace_id, contact_id, key, match_key, origin_contact_id)
    select %(w)s, id, key, key, id from had, lateral (select 'mailto:early' || id || '@customers.example.com' as key) as own
    returning contact_id
"""


@dataclass
class Window:
    """A stretch of the load: its p95 in milliseconds and what the inbound path's sessions were seen doing."""

    p95_ms: float
    requests: int
    waits: Counter[str] = field(default_factory=Counter)


class Watch(Aside):
    """Looks every few milliseconds at what the inbound path waits for, and at the transfer worker's memory."""

    def __init__(self, site: Site, pids: list[int]) -> None:
        self._site, self._pids = site, pids
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.peak_bytes = 0

    def work(self) -> None:
        with psycopg.connect(self._site.conninfo, autocommit=True) as connection:
            while not self.is_over.wait(0.05):
                self.waits.update(row[0] for row in connection.execute(WAITS))
                self.peak_bytes = max(self.peak_bytes, resident_bytes(self._pids))


class Import(Aside):
    """Sends a file to the API a moment after the load has begun, in a thread, and follows it to its end."""

    def __init__(self, site: Site, content: bytes) -> None:
        self._site, self._content = site, content
        super().__init__()
        self.begun_at = self.ended_at = self.answer_seconds = 0.0
        self.state, self.created = "refused", 0

    def work(self) -> None:
        time.sleep(LEAD_SECONDS)
        self.begun_at = time.time()
        transfer_id = self._send()
        self.answer_seconds = time.time() - self.begun_at
        self._follow(transfer_id)

    def _send(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
        headers = {"authorization": f"Bearer {self._site.token}", "content-type": "text/csv"}
        connection.request("POST", "/api/v2/import?mode=add_all", self._content, headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status not in {200, 202}:
            raise RuntimeError(f"the import was answered {answer.status}: {body[:300].decode()}")
        return int(json.loads(body)["id"])

    def _follow(self, transfer_id: int) -> None:
        """Wait until every row is worked off and duplicates have been looked for."""
        with psycopg.connect(self._site.conninfo, autocommit=True) as connection:
            while time.time() - self.begun_at < FINISH_SECONDS:
                row = connection.execute(PROGRESS, (WORKSPACE, transfer_id)).fetchone()
                self.state, counts = (row[0], row[1]) if row else ("gone", {})
                self.created = counts.get("created", 0)
                if self.state not in {"queued", "running"} and not connection.execute(BUSY).fetchone():
                    break
                time.sleep(0.2)
        self.ended_at = time.time()


def imports(bench: Bench) -> Found:
    """Return what an import does to the inbound messages beside it, and that its duplicates are found."""
    rows = bench.options.scaled(ROWS) // FILES
    site = bench.site(ours(1, "transfer"), bench.options.senders)
    known = _give_emails(site)
    found = Found()
    quiet: list[Window] = []
    beside: list[Window] = []
    acts: list[Import] = []
    with bench.running(site) as pids:
        worker = pids["worker transfer"]
        bench.put(site, _load(bench, WARM_SECONDS, "warming up"), pids)
        sizes: list[int] = []
        for number in range(FILES):
            content = make_file(rows, number * rows, known, PHONE_EVERY, EMAIL_EVERY)
            with Watch(site, worker) as watch:
                run, window = _window(bench, site, pids, f"without an import, {number + 1}")
            quiet.append(Window(*window, watch.waits))
            found.runs.append(run)
            with Watch(site, worker) as watch, Import(site, content) as act:
                run, window = _window(bench, site, pids, f"beside an import, {number + 1}", act)
            beside.append(Window(*window, watch.waits))
            found.runs.append(run)
            acts.append(act)
            sizes.append(watch.peak_bytes)
    expected = sum(len(shared_rows(rows, each)) for each in (PHONE_EVERY, EMAIL_EVERY)) * FILES
    found.rows += [*_rows_of(acts, rows), _suggestions(site, expected), _memory(sizes)]
    found.rows.append(_growth(quiet, beside))
    found.series = {
        "p95_ms": {"without": [each.p95_ms for each in quiet], "beside": [each.p95_ms for each in beside]},
        "waits": {"without": _add(quiet), "beside": _add(beside)},
        "columns": list(COLUMNS),
    }
    return found


def _load(bench: Bench, seconds: float, label: str) -> Inbound:
    return Inbound(bench.options.senders, int(RATE * seconds), seconds, RATE, label)


def _window(
    bench: Bench, site: Site, pids: dict[str, list[int]], label: str, act: Import | None = None
) -> tuple[Measured, tuple[float, int]]:
    """Put the load on; return the run, and the p95 and number of the requests that were sent while the import ran."""
    samples = bench.directory / "samples.json"
    run = bench.put(site, _load(bench, WINDOW_SECONDS, label), pids, samples)
    print(describe(run), flush=True)
    begins, ends = LEAD_SECONDS, WINDOW_SECONDS
    if act is not None:
        begins, ends = act.begun_at - run.started_at, (act.ended_at or time.time()) - run.started_at
    return run, p95_between(samples, begins, ends)


def p95_between(samples: Path, begins: float, ends: float) -> tuple[float, int]:
    """Return the p95 in milliseconds, and the number, of the requests that were due in these seconds of the load."""
    latencies = sorted(latency for at, latency in json.loads(samples.read_text()) if begins <= at < ends)
    return (1000 * percentile(latencies, 95), len(latencies)) if latencies else (0.0, 0)


def _give_emails(site: Site) -> list[tuple[str, str]]:
    """Give the known senders an email each; return their phones and emails."""
    with psycopg.connect(site.conninfo) as connection:
        connection.execute(MAIL, {"w": WORKSPACE})
        known = connection.execute("select phone, email from contact where email is not null order by id").fetchall()
    return [(row[0], row[1]) for row in known]


def _rows_of(acts: list[Import], rows: int) -> list[Row]:
    seconds = [each.ended_at - each.begun_at for each in acts]
    created = sum(each.created for each in acts)
    states = ", ".join(sorted({each.state for each in acts}))
    told = f"{created:,} of {rows * len(acts):,} in {len(acts)} files, {states}"
    speed = f"{rows / statistics.median(seconds):,.0f} rows/s (median file {statistics.median(seconds):.0f} s)"
    answer = f"{max(each.answer_seconds for each in acts):.2f} s"
    return [
        Row("import: rows imported", told, "all", created == rows * len(acts)),
        Row("import: speed, duplicates looked for", speed),
        Row("import: answer to the upload, slowest", answer),
    ]


def _suggestions(site: Site, expected: int) -> Row:
    with psycopg.connect(site.conninfo) as connection:
        row = connection.execute(PAIRS).fetchone()
    opened = int(row[0]) if row else 0
    what = f"import: suggestions opened (one row in {PHONE_EVERY} shares a phone, one in {EMAIL_EVERY} an email)"
    return Row(what, f"{opened:,}", f"{expected:,}", opened == expected)


def _memory(sizes: list[int]) -> Row:
    """The first file loads what every import needs: from then on, nothing should be added."""
    first, last = sizes[0] / 2**20, sizes[-1] / 2**20
    told = f"{last - first:+.0f} MiB ({first:.0f} at most in the first file, {last:.0f} in the last)"
    return Row("import: memory growth of the transfer worker", told)


def _growth(quiet: list[Window], beside: list[Window]) -> Row:
    p95, p95_beside = (statistics.median(each.p95_ms for each in windows) for windows in (quiet, beside))
    growth = p95_beside / p95 - 1
    told = f"{growth:+.0%} ({p95:.1f} ms without, {p95_beside:.1f} ms beside, medians of {len(quiet)} windows each)"
    return Row("import: growth of the inbound p95", told, "< 20 %", growth < 0.2)


def _add(windows: list[Window]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in windows:
        total.update(each.waits)
    return dict(total.most_common(12))
