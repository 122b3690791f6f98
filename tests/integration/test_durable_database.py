"""Nothing starts on a PostgreSQL that would forget what it has committed, and what is committed here lasts in any case."""

# ruff: noqa: N802 - the names carry the promises

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, make_url

from ingest.embedded.servers import EmbeddedServers
from ingest.errors import BadSetting
from ingest.jobs.publisher import NoPublisher
from ingest.pipeline.receive import Intake
from ingest.runtime import Runtime
from ingest.settings import read_settings
from ingest.store.migrate import migrate
from ingest.store.spool import Spool
from tests import builders
from tests.pipeline_world import Pipeline
from tests.system import free_port

pytestmark = pytest.mark.database

WEAK = ["fsync", "full_page_writes"]


@pytest.fixture(scope="module")
def weak_url() -> Iterator[str]:
    """A migrated server of this test's own that loses commits in a crash. Ours would not start so: it is told once it runs."""
    home = Path(tempfile.mkdtemp(prefix="ingest-weak-"))
    servers = EmbeddedServers(home / "data", with_valkey=False)
    # What stands on the command line cannot be changed any more.
    servers.postgres._settings = {name: value for name, value in servers.postgres._settings.items() if name not in WEAK}
    servers.start()
    engine = create_engine(servers.database_url)
    migrate(engine)
    engine.dispose()
    with psycopg.connect(plain(servers.database_url), autocommit=True) as connection:
        for name in WEAK:
            connection.execute(f"alter system set {name} = off".encode())
        connection.execute("select pg_reload_conf()")
    yield servers.database_url
    servers.postgres.stop("immediate")
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def forgetful_url(make_database: Callable[[], str]) -> str:
    """A database whose sessions begin with commits that a crash takes away."""
    url = make_database()
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(f'alter database "{make_url(url).database}" set synchronous_commit = off'.encode())
    return url


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def runtime_of(url: str) -> Runtime:
    return Runtime.from_settings(read_settings(database_url=url, broker_url="redis://unused", secret_key=KEY))


KEY = Fernet.generate_key().decode()


def run(url: str, directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "BROKER_URL": "amqp://guest:guest@127.0.0.1:1//",
        "INGEST_DATA_DIR": str(directory),
        "INGEST_PORT": str(free_port()),
        "INGEST_LMTP_PORT": str(free_port()),
        "INGEST_SECRET_KEY": KEY,
    }
    return subprocess.run(
        [sys.executable, "-m", "ingest", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("process", ["web", "worker resolve", "lmtp"])
def test_P1_no_process_starts_on_a_server_that_loses_commits(weak_url: str, tmp_path: Path, process: str) -> None:
    done = run(weak_url, tmp_path, *process.split())
    assert done.returncode == 1, done.stdout
    assert "fsync, full_page_writes are off" in done.stderr


def test_P1_the_account_is_not_sound_on_a_server_that_loses_commits(weak_url: str, tmp_path: Path) -> None:
    done = run(weak_url, tmp_path, "check", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["sound"], told["settings_off"]) == (1, False, WEAK)


def test_P1_sessions_that_begin_with_forgetful_commits_are_refused(forgetful_url: str) -> None:
    with pytest.raises(BadSetting, match="synchronous_commit is off"):
        runtime_of(forgetful_url).require_durable()


def test_P1_what_the_edge_commits_lasts_whatever_a_session_begins_with(forgetful_url: str, tmp_path: Path) -> None:
    with psycopg.connect(plain(forgetful_url), autocommit=True) as administrator:
        administrator.execute("create table witness (commits text)")
        administrator.execute(
            "create function look() returns trigger language plpgsql as "
            "$$begin insert into witness values (current_setting('synchronous_commit')); return new; end$$"
        )
        administrator.execute("create trigger look after insert on job for each row execute function look()")
        with psycopg.connect(plain(forgetful_url)) as begun:
            assert begun.execute("show synchronous_commit").fetchone() == ("off",)
        asyncio.run(accept(forgetful_url, tmp_path))
        assert administrator.execute("select commits from witness").fetchall() == [("on",), ("on",)]


async def accept(url: str, directory: Path) -> None:
    """Accept one request straight into the database, and one by way of the spool."""
    runtime = runtime_of(url)
    with runtime.begin() as tx:
        pipeline = Pipeline(tx, runtime.sealer)
        pipeline.channel("telegram")
        requests = [pipeline.request("telegram", builders.telegram_text(1, number, "hello")) for number in (1, 2)]
    spool = Spool(directory / "spool", 10**6)
    intake = Intake(runtime.conninfo, spool, NoPublisher())
    await intake.start()
    await intake.accept(requests[0])
    intake._is_database_away = True
    await intake.accept(requests[1])
    while spool.size_bytes() or intake.figures.replayed == 0:  # noqa: ASYNC110 - files have no event
        await asyncio.sleep(0.05)
    await intake.stop()
    runtime.engine.dispose()


def test_a_durable_server_is_taken_and_one_that_is_away_is_no_hindrance(database_url: str) -> None:
    assert runtime_of(database_url).require_durable() is True
    assert runtime_of("postgresql://ingest@127.0.0.1:1/none").require_durable() is False
