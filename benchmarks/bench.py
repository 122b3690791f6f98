"""The bench: two servers, a site for each run, and the load; keeps every run, and what each cost in CPU time."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.processes import cpu_seconds, parent_of
from benchmarks.sites import Site, make_site
from benchmarks.systems import System, count_stored, newest_message, ours, running
from ingest.embedded.servers import EmbeddedServers

DRAIN_SECONDS = 180


@dataclass(frozen=True)
class Options:
    """How much is measured. Stored sizes are divided by 20 and long loads shortened where `is_quick`."""

    rounds: int
    seconds: float
    count: int
    senders: int
    connections: int
    seed: int
    is_quick: bool

    def scaled(self, count: int) -> int:
        """Return a stored size as it is in this mode."""
        return count // 20 if self.is_quick else count


@dataclass(frozen=True)
class Measured:
    """One load on one system: messages accepted and stored, from the first request to the last stored one.

    `started_at` is unix time. `cpu_us` is microseconds of CPU time a stored message, by process. `latency_ms` is of the answer
    to the webhook.
    """

    system: str
    label: str
    rate: float
    started_at: float
    accepted: int
    refused: int
    stored: int
    seconds: float
    accepted_per_second: float
    stored_per_second: float
    latency_ms: dict[str, float]
    cpu_us: dict[str, int]


@dataclass(frozen=True)
class Row:
    """A line of the report: what was measured, the figure, the target, and whether it was met (None: no target)."""

    what: str
    measured: str
    target: str = ""
    is_met: bool | None = None


@dataclass
class Found:
    """What one scenario found."""

    rows: list[Row] = field(default_factory=list)
    runs: list[Measured] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)
    """What is plotted, and figures beside the runs."""


@dataclass(frozen=True)
class Load:
    """What is sent: at a rate, or as fast as answered (0), from senders numbered from `first` on.

    `senders` 0: every message from somebody else.
    """

    senders: int
    count: int
    seconds: float
    rate: float = 0
    label: str = ""
    first: int = 0


class Bench:
    """Makes sites and puts load on them."""

    def __init__(self, servers: EmbeddedServers, directory: Path, options: Options) -> None:
        self.servers = servers
        self.directory = directory
        self.options = options
        self.broker_url = servers.broker_url
        self._numbers = iter(range(1, 10_000))
        self._peak: float | None = None

    def site(self, system: System, known: int = 0) -> Site:
        """Return a fresh site of the system that knows the first so many senders."""
        return make_site(
            system,
            next(self._numbers),
            url_of=self.servers.postgres.url_of,
            broker_url=self.broker_url,
            directory=self.directory,
            known=known,
        )

    def full_load(self, senders: int, label: str = "") -> Load:
        """Return the load that is answered as fast as can be."""
        return Load(senders, self.options.count, self.options.seconds, label=label)

    def half_load(self, seconds: float, label: str = "") -> Load:
        """Return a load of known senders at half the maximum rate."""
        return self.load_at(0.5, seconds, label)

    def load_at(self, share: float, seconds: float, label: str = "") -> Load:
        """Return a load of known senders at a share of the maximum rate."""
        rate = self.peak() * share
        return Load(self.options.senders, int(rate * seconds), seconds, rate, label)

    def peak(self) -> float:
        """Return the most messages/s of known senders that ours has accepted and stored, measured once a session."""
        if self._peak is None:
            self._peak = self.measure(
                self.site(ours(), self.options.senders), self.full_load(self.options.senders)
            ).stored_per_second
        return self._peak

    def set_peak(self, per_second: float) -> None:
        """Keep the median of a scenario that has measured the maximum."""
        self._peak = per_second

    @contextmanager
    def running(self, site: Site) -> Iterator[dict[str, list[int]]]:
        """Run the site's processes for as long as the block lasts, and give their ids by name."""
        with running(site.system, site.environment, self.directory / "logs") as pids:
            yield pids

    def measure(self, site: Site, load: Load) -> Measured:
        """Start the site, put the load on it, and wait until everything accepted is stored."""
        with self.running(site) as pids:
            return self.put(site, load, pids)

    def put(self, site: Site, load: Load, pids: dict[str, list[int]], samples: Path | None = None) -> Measured:
        """Put the load on the running site, and wait until everything accepted is stored."""
        before = newest_message(site.system, site.conninfo)
        every = {**pids, **self._server_pids()}
        with self._sending(site, load, samples) as sender:
            cpu = {name: cpu_seconds(ids) for name, ids in every.items()}
            started = time.monotonic()
            told = json.loads(sender.communicate()[0])
            stored = _wait_stored(site, before, int(told["accepted"]))
            seconds = time.monotonic() - started
        spent = {name: cpu_seconds(ids) - cpu[name] for name, ids in every.items()} | {"load": told["cpu_seconds"]}
        return Measured(
            site.system.name,
            load.label,
            round(load.rate, 1),
            told["started_at"],
            told["accepted"],
            sum(told["statuses"].values()) - told["accepted"],
            stored,
            round(seconds, 2),
            round(told["accepted"] / told["seconds"], 1),
            round(stored / seconds, 1),
            told["latency_ms"],
            {name: round(1e6 * each / max(1, stored)) for name, each in spent.items()},
        )

    @contextmanager
    def _sending(self, site: Site, load: Load, samples: Path | None) -> Iterator[subprocess.Popen[bytes]]:
        """Start the load, and give its process when it has prepared its requests."""
        # The naive one takes a fifteenth: what it cannot answer in time would only be prepared in vain.
        count = max(500, load.count // 15) if site.system.name == "naive" and not load.rate else load.count
        command = [
            *(sys.executable, "-m", "benchmarks.load", "--url", site.system.url(), "--count", str(count)),
            *("--seconds", str(load.seconds), "--rate", str(load.rate), "--senders", str(load.senders)),
            *("--first", str(load.first)),
            *("--connections", str(self.options.connections), "--seed", str(self.options.seed)),
            *("--run", f"{site.system.name}{time.monotonic_ns()}", *(("--samples", str(samples)) if samples else ())),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            said = process.stderr.readline()
            if said != b"ready\n":
                raise RuntimeError(f"the load did not start: {(said + process.stderr.read()).decode()}")
            yield process

    def _server_pids(self) -> dict[str, list[int]]:
        conninfo = self.servers.postgres.url_of("postgres").replace("+psycopg", "")
        with psycopg.connect(conninfo) as connection:
            return {"postgres": [parent_of(connection.info.backend_pid)]}


def _wait_stored(site: Site, before: int, accepted: int) -> int:
    ends_at = time.monotonic() + DRAIN_SECONDS
    stored = 0
    while time.monotonic() < ends_at:
        stored = count_stored(site.system, site.conninfo, before)
        if stored >= accepted:
            break
        time.sleep(0.03)
    return stored


def median_stored(runs: list[Measured], system: str, label: str = "") -> float:
    """Return the median of the accepted-and-stored messages/s of a system's runs."""
    return statistics.median(
        each.stored_per_second for each in runs if each.system == system and (not label or each.label == label)
    )


def describe(run: Measured) -> str:
    """Return one run as a line."""
    lost = f"   MISSING {run.accepted - run.stored}" if run.stored < run.accepted else ""
    cpu = " ".join(f"{name} {spent}" for name, spent in run.cpu_us.items() if spent >= 10)
    return (
        f"{run.system:6} {run.label:28} accepted {run.accepted_per_second:8.1f}/s  stored {run.stored_per_second:8.1f}/s  "
        f"p50 {run.latency_ms.get('50', 0):7.1f} ms  p99 {run.latency_ms.get('99', 0):7.1f} ms  CPU us/message: {cpu}{lost}"
    )


def as_plain(found: Found) -> dict[str, Any]:
    """Return what was found as JSON can hold it."""
    return asdict(found)
