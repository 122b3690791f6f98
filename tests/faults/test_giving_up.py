"""A worker that gives up says so with its exit status, so that whoever restarts on failure starts it again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from redis import Redis

from ingest.embedded.servers import EmbeddedServers

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
