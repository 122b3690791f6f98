"""The embedded servers keep what was committed, whatever ended them, and refuse what they must not touch."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from kombu import Connection as Broker
from redis import Redis
from sqlalchemy import create_engine, make_url, text

from ingest.embedded.places import MAX_SOCKET_DIRECTORY_BYTES, places
from ingest.embedded.processes import Account, EmbeddedServerFailed, reachable, server_account
from ingest.embedded.servers import EmbeddedServers

pytestmark = pytest.mark.processes

SUPERVISOR = """
import sys, time
from pathlib import Path
from ingest.embedded.servers import EmbeddedServers
servers = EmbeddedServers(Path(sys.argv[1]))
servers.start()
print(servers.postgres.pid, servers.valkey.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    with EmbeddedServers(tmp_path_factory.mktemp("embedded")) as servers:
        yield servers


def run_sql(servers: EmbeddedServers, statement: str, url: str | None = None) -> list[tuple[object, ...]]:
    engine = create_engine(url or servers.database_url)
    try:
        with engine.begin() as tx:
            result = tx.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def valkey(servers: EmbeddedServers) -> Redis:
    return Redis(unix_socket_path=str(servers.places.valkey_socket), decode_responses=True)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def owner(pid: int | None) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def test_servers_run_durably(servers: EmbeddedServers) -> None:
    settings = ["fsync", "synchronous_commit", "full_page_writes", "listen_addresses"]
    assert [run_sql(servers, f"show {each}")[0][0] for each in settings] == ["on", "on", "on", ""]
    with valkey(servers) as client:
        found = client.config_get("append*", "maxmemory*", "save", "port")
    assert (found["appendonly"], found["appendfsync"], found["save"]) == ("yes", "everysec", "")
    assert (found["maxmemory-policy"], found["port"]) == ("noeviction", "0")
    assert int(found["maxmemory"]) > 0


def test_personal_data_stays_out_of_the_database_log(servers: EmbeddedServers) -> None:
    with pytest.raises(Exception, match="division"):
        run_sql(servers, "select 1/0 as canary_in_statement")
    run_sql(servers, "create temporary table t (v text unique)")
    with pytest.raises(Exception, match="canary_in_detail"):
        run_sql(
            servers,
            "create temporary table t (v text unique); insert into t values ('canary_in_detail'), ('canary_in_detail')",
        )
    log = (servers.places.logs / "postgres.log").read_text()
    assert "division by zero" in log
    assert "canary" not in log


def test_kombu_understands_the_broker_url(servers: EmbeddedServers) -> None:
    with Broker(servers.broker_url) as broker, broker.SimpleQueue("probe") as queue:
        queue.put({"n": 1})
        message = queue.get(timeout=5)
        assert message.payload == {"n": 1}
        message.ack()


@pytest.mark.parametrize("name", ["sockets", "postgres", "valkey"])
def test_directories_are_closed_to_others(servers: EmbeddedServers, name: str) -> None:
    assert stat.S_IMODE(getattr(servers.places, name).stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_root_runs_no_server(servers: EmbeddedServers) -> None:
    nobody = server_account("nobody")
    assert nobody
    assert {owner(servers.postgres.pid), owner(servers.valkey.pid)} == {nobody.uid}


def run_as(account: Account, script: str, *arguments: str) -> str:
    """Run Python as the account and return its output; with the system's Python where it cannot read ours."""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with suppress(PermissionError, FileNotFoundError):
            done = subprocess.run(
                [python, "-c", script, *arguments],
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
                cwd="/",
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout
    pytest.skip("no Python here that a normal user can run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_normal_user_runs_the_servers_as_itself() -> None:
    script = (
        "import os, sys; from pathlib import Path; from ingest.embedded.servers import EmbeddedServers\n"
        "with EmbeddedServers(Path(sys.argv[1])) as s:\n"
        "    print(os.stat(f'/proc/{s.postgres.pid}').st_uid, os.stat(f'/proc/{s.valkey.pid}').st_uid)"
    )
    account = server_account("nobody")
    assert account
    if not reachable(Path(__file__), account):
        pytest.skip("the project lies in a directory that normal users may not enter")
    with TemporaryDirectory() as home:
        os.chown(home, account.uid, account.gid)
        assert run_as(account, script, f"{home}/data").split() == [str(account.uid)] * 2


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
@pytest.mark.parametrize(
    ("mode", "missing", "told"),
    [
        (0o700, "-dac_read_search", "started"),
        (0o700, "-dac_override,-dac_read_search", "run as a normal user, or with CAP_DAC_OVERRIDE"),
        (0o755, "-dac_override,-dac_read_search", "run as a normal user, or with CAP_DAC_OVERRIDE"),
    ],
)
def test_root_with_few_capabilities_starts_or_says_what_to_do(mode: int, missing: str, told: str) -> None:
    script = (
        "import sys; from pathlib import Path; from ingest.embedded.servers import EmbeddedServers\n"
        "with EmbeddedServers(Path(sys.argv[1])): print('started')"
    )
    with TemporaryDirectory() as home:
        os.chmod(home, mode)
        command = ["setpriv", "--bounding-set", missing, sys.executable, "-c", script, f"{home}/data"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert told in done.stdout + done.stderr


@pytest.mark.parametrize("end", ["kill", "immediate", "fast"])
def test_committed_rows_survive_every_end(servers: EmbeddedServers, end: str) -> None:
    run_sql(servers, f"create table kept_{end} as select generate_series(1, 1000) as n")
    if end == "kill":
        servers.postgres.kill()
    else:
        servers.postgres.stop(end)  # type: ignore[arg-type]
    assert servers.postgres.pid is None
    servers.postgres.start()
    assert run_sql(servers, f"select count(*) from kept_{end}") == [(1000,)]


def test_postmaster_killed_alone_is_started_again(servers: EmbeddedServers) -> None:
    with psycopg.connect(make_url(servers.database_url).set(drivername="postgresql").render_as_string()) as connection:
        assert servers.postgres.pid
        os.kill(servers.postgres.pid, signal.SIGKILL)
        assert wait_for(lambda: servers.postgres.pid is None)
        servers.postgres.start()
        connection.close()
    assert run_sql(servers, "select 1") == [(1,)]


def test_broker_keeps_its_keys_through_a_clean_stop(servers: EmbeddedServers) -> None:
    with valkey(servers) as client:
        client.set("kept", "yes")
    servers.valkey.stop()
    servers.valkey.start()
    with valkey(servers) as client:
        assert client.get("kept") == "yes"


def test_broker_starts_after_a_kill(servers: EmbeddedServers) -> None:
    servers.valkey.kill()
    assert servers.valkey.pid is None
    servers.valkey.start()
    with valkey(servers) as client:
        assert client.ping()


def test_stop_and_start_may_be_repeated(servers: EmbeddedServers) -> None:
    before = servers.postgres.pid, servers.valkey.pid
    servers.postgres.start()
    servers.valkey.start()
    assert (servers.postgres.pid, servers.valkey.pid) == before
    servers.valkey.stop()
    servers.valkey.stop()
    servers.valkey.start()


def test_directory_in_use_is_refused(servers: EmbeddedServers) -> None:
    with pytest.raises(EmbeddedServerFailed, match=rf"in use by process {os.getpid()}.*--data"):
        EmbeddedServers(servers.places.data).start()
    assert run_sql(servers, "select 1") == [(1,)]


def test_directory_that_cannot_be_made_is_told_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(EmbeddedServerFailed, match=r"cannot write to .*file/data .*--data"):
        EmbeddedServers(tmp_path / "file" / "data").start()


def test_killed_supervisor_takes_its_servers_along_and_leaves_a_usable_directory(tmp_path: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout
    with supervisor.stdout:
        pids = [int(each) for each in supervisor.stdout.readline().split()]
        supervisor.kill()
        supervisor.wait()
    with EmbeddedServers(tmp_path) as servers:
        assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)
        assert run_sql(servers, "select 1") == [(1,)]


def test_lock_files_with_a_recycled_process_id_are_no_obstacle(tmp_path: Path) -> None:
    servers = EmbeddedServers(tmp_path)
    servers.start()
    lock = servers.places.postgres / "postmaster.pid"
    content = lock.read_text()
    servers.stop()
    stranger = subprocess.Popen(["sleep", "600"], user="nobody" if os.geteuid() == 0 else None)
    try:
        lock.write_text(content.replace(content.splitlines()[0], str(stranger.pid), 1))
        servers.places.valkey_pid.write_text(str(stranger.pid))
        with servers:
            assert run_sql(servers, "select 1") == [(1,)]
    finally:
        stranger.kill()
        stranger.wait()


def test_other_major_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    found = tmp_path / "postgres"
    found.mkdir()
    (found / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedServerFailed, match=r"made by PostgreSQL 15.*--data"):
        EmbeddedServers(tmp_path, with_valkey=False).start()
    assert [each.name for each in found.iterdir()] == ["PG_VERSION"]


def test_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(EmbeddedServerFailed, match="not a PostgreSQL data directory"):
        EmbeddedServers(tmp_path, with_valkey=False).start()


def test_unfinished_first_start_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    with EmbeddedServers(tmp_path, with_valkey=False) as servers:
        assert run_sql(servers, "select 1") == [(1,)]


def test_long_data_path_gets_short_sockets(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    with EmbeddedServers(deep) as servers:
        assert len(os.fsencode(servers.places.sockets)) <= MAX_SOCKET_DIRECTORY_BYTES
        assert run_sql(servers, "select 1") == [(1,)]
    assert places(deep).sockets == servers.places.sockets
    servers.places.sockets.rmdir()


def test_tcp_port_needs_the_password(tmp_path: Path, unused_port: Callable[[], int]) -> None:
    with EmbeddedServers(tmp_path, postgres_port=unused_port(), valkey_port=unused_port()) as servers:
        assert run_sql(servers, "select 1", servers.postgres.tcp_url()) == [(1,)]
        with Broker(servers.valkey.tcp_url()) as broker:
            broker.ensure_connection(max_retries=1, timeout=5)
        wrong = make_url(servers.postgres.tcp_url()).set(password="wrong").render_as_string(hide_password=False)
        with pytest.raises(Exception, match="password authentication failed"):
            run_sql(servers, "select 1", wrong)


@pytest.fixture
def unused_port() -> Callable[[], int]:
    import socket

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
