"""A worker does not start on a broker that would lose queues; one that is away is waited for."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from redis import Redis

from ingest.embedded.servers import EmbeddedServers
from ingest.errors import BadSetting
from ingest.jobs.celery import require_sound_broker


@pytest.fixture
def broker() -> Iterator[tuple[str, Redis]]:
    """A broker of this test's own: others rely on the session's."""
    home = Path(tempfile.mkdtemp(prefix="ingest-broker-"))
    servers = EmbeddedServers(home / "data")
    servers.valkey.start()
    with Redis(unix_socket_path=str(servers.places.valkey_socket)) as client:
        yield servers.broker_url, client
    servers.valkey.stop()
    shutil.rmtree(home, ignore_errors=True)


def test_a_broker_that_keeps_everything_is_sound(broker: tuple[str, Redis]) -> None:
    assert require_sound_broker(broker[0]) == "sound"


def test_a_broker_that_throws_keys_away_is_refused(broker: tuple[str, Redis]) -> None:
    url, client = broker
    client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(BadSetting, match=r"maxmemory-policy is allkeys-lru: it must be noeviction"):
        require_sound_broker(url)


def test_a_broker_that_is_away_or_of_another_kind_is_waited_for() -> None:
    assert require_sound_broker("redis://127.0.0.1:1/0") == "away"
    assert require_sound_broker("amqp://guest:guest@127.0.0.1:1//") == "unknown"


@pytest.mark.parametrize("process", [("worker", "detect"), ("beat",)])
def test_the_processes_look_before_they_start(
    broker: tuple[str, Redis], tmp_path: Path, database_url: str, process: tuple[str, ...]
) -> None:
    url, client = broker
    client.config_set("maxmemory-policy", "volatile-ttl")
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "BROKER_URL": url,
        "INGEST_DATA_DIR": str(tmp_path),
        "INGEST_SECRET_KEY": Fernet.generate_key().decode(),
    }
    command = [sys.executable, "-m", "ingest", *process]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "must be noeviction" in done.stderr
