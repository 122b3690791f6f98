"""Workers' ends: one that gives up says so with its exit status, and none waits long for what nobody does any more."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from billiard import pool
from cryptography.fernet import Fernet
from redis import Redis

from ingest.embedded.servers import EmbeddedServers
from workers.serve import LAST_RESULT_SECONDS, end_promptly

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]


def test_a_worker_whose_broker_refuses_writes_ends_with_a_status_of_failure(tmp_path: Path) -> None:
    with EmbeddedServers(tmp_path, with_postgres=False) as servers:
        with Redis(unix_socket_path=str(servers.places.valkey_socket)) as broker:
            broker.config_set("maxmemory", "1mb")
        environment = {
            **os.environ,
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "BROKER_URL": servers.broker_url,
            "INGEST_SECRET_KEY": Fernet.generate_key().decode(),
            "INGEST_DATA_DIR": str(tmp_path / "own"),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "ingest", "worker", "resolve"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert "OutOfMemoryError" in ended.stdout + ended.stderr
    assert ended.returncode == 1


def test_a_pool_child_whose_last_result_nobody_reads_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back after the test.
    monkeypatch.setattr(pool, "GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT", 300)
    end_promptly()
    child = SimpleNamespace(on_ready_counter=SimpleNamespace(value=0))
    started = time.monotonic()
    assert pool.Worker._ensure_messages_consumed(child, completed=1) is False
    assert time.monotonic() - started < LAST_RESULT_SECONDS + 2
