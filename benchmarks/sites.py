"""A site: one system's fresh database, and what its processes are started with."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psycopg
from cryptography.fernet import Fernet

from benchmarks import seeding
from benchmarks.bodies import PHONE_NUMBER_ID, SECRET, TELEGRAM_SECRET
from benchmarks.systems import PORT, System
from ingest.domain.access import MAX_REQUESTS_PER_SECOND
from ingest.pipeline.administer import add_channel, create_token, create_workspace
from ingest.runtime import Runtime
from ingest.settings import read_settings
from ingest.store.call_rates import set_call_rate
from ingest.store.migrate import migrate

WHATSAPP, TELEGRAM, WORKSPACE = 1, 2, 1


@dataclass(frozen=True)
class Site:
    """A database with the system's tables, known senders in it, and the environment of its processes.

    `token` is an owner's API token; the comparators have none.
    """

    system: System
    environment: dict[str, str]
    token: str = ""

    @property
    def conninfo(self) -> str:
        """The database's URL as libpq reads it."""
        return self.environment["DATABASE_URL"].replace("+psycopg", "")

    @cached_property
    def runtime(self) -> Runtime:
        """A runtime of ours over the site, for steps that the benchmark calls itself."""
        return runtime_of(self.environment)


def make_site(
    system: System, number: int, *, url_of: Callable[[str], str], broker_url: str, directory: Path, known: int
) -> Site:
    """Return a site over a new database, in which the first `known` senders have written once before."""
    name = f"bench_{number}"
    with psycopg.connect(url_of("postgres").replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"create database {name}")
    environment = {
        "DATABASE_URL": url_of(name),
        "BROKER_URL": broker_url,
        "INGEST_SECRET_KEY": Fernet.generate_key().decode(),
        "INGEST_DATA_DIR": str(directory / name),
        "INGEST_PORT": str(PORT),
        "INGEST_LOG_LEVEL": "warning",
    }
    if system.name == "ours":
        return Site(system, environment, _prepare_ours(environment, known))
    script = f"import benchmarks.{system.name} as each; each.create_tables()"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, **environment}, check=True)
    site = Site(system, environment)
    if known:
        know = seeding.know_senders_of_naive if system.name == "naive" else seeding.know_senders_of_floor
        know(site.conninfo, known)
    return site


def runtime_of(environment: dict[str, str]) -> Runtime:
    """Return a runtime of ours with the environment's database, broker and key."""
    return Runtime.from_settings(
        read_settings(
            database_url=environment["DATABASE_URL"],
            broker_url=environment["BROKER_URL"],
            secret_key=environment["INGEST_SECRET_KEY"],
        )
    )


def _prepare_ours(environment: dict[str, str], known: int) -> str:
    runtime = runtime_of(environment)
    migrate(runtime.engine)
    with runtime.begin() as tx:
        workspace_id = create_workspace(tx, "Benchmark")
        own = {"phone_number_id": PHONE_NUMBER_ID}
        secrets = {"app_secret": (SECRET,), "verify_token": ("unused",)}
        add_channel(tx, workspace_id, "whatsapp_cloud", "WhatsApp", own, secrets, runtime.sealer)
        add_channel(tx, workspace_id, "telegram", "Telegram", {}, {"secret_token": (TELEGRAM_SECRET,)}, runtime.sealer)
        token = create_token(tx, workspace_id, "owner", "benchmark", environment["INGEST_SECRET_KEY"])
        # The probes ask every few milliseconds.
        set_call_rate(tx, workspace_id, MAX_REQUESTS_PER_SECOND)
    if known:
        seeding.know_senders(runtime, workspace_id, WHATSAPP, known)
    runtime.engine.dispose()
    return token
