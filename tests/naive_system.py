"""The comparator of the benchmarks under the fault matrix's harness: one Celery task a webhook.

Its broker options are the kindest there are: what a lost worker held is restored after five seconds instead of an hour.
"""

import json
import os
import subprocess
import sys
import time
from base64 import b64decode
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from benchmarks.bodies import PHONE_NUMBER_ID, SECRET
from ingest.simulators.traffic import Target
from ingest.supervise import ProcessLine
from tests.system import System, ids_in

VISIBILITY_SECONDS = 5
# Of two pool processes on a busy machine.
TASKS_PER_SECOND = 100


@dataclass
class NaiveSystem(System):
    """Naive's web process and its worker with two pool processes, over the same servers."""

    name: ClassVar[str] = "naive"

    def _administer(self) -> None:
        script = "import benchmarks.naive as naive; naive.create_tables()"
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **self._environment()}, check=True, timeout=60
        )
        given = {"phone_number_id": PHONE_NUMBER_ID, "app_secret": SECRET}
        self.others: list[Target] = []
        self.whatsapp = self.telegram = Target("whatsapp_cloud", 1, f"{self.url}/webhooks/1", given)

    def _lines(self) -> list[ProcessLine]:
        web = (
            sys.executable,
            "-m",
            "uvicorn",
            "--log-level",
            "error",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--no-access-log",
        )
        worker = (sys.executable, "-m", "celery", "-A", "benchmarks.naive:celery", "worker", "-c", "2", "-l", "error")
        return [ProcessLine("web", (*web, "benchmarks.naive:app")), ProcessLine("worker", worker)]

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "NAIVE_VISIBILITY_SECONDS": str(VISIBILITY_SECONDS)}

    def is_ready(self) -> bool:
        """Return whether the web process answers anything at all."""
        try:
            urlopen(f"{self.url}/webhooks/1", timeout=5).close()
        except HTTPError:
            return True
        except (URLError, OSError):
            return False
        return True

    def waiting(self) -> int:
        """Return how many tasks the broker holds, waiting or taken."""
        with suppress(RedisError, OSError), self._broker() as broker:
            return int(broker.llen("naive")) + int(broker.hlen("unacked"))
        return 1

    def held(self) -> set[str]:
        """Return the ids of the messages that the broker holds, looked at twice: a task is nowhere while it is handed out."""
        found: set[str] = set()
        for _ in range(2):
            with self._broker() as broker:
                tasks = [*broker.lrange("naive", 0, -1), *(json.loads(each)[0] for each in broker.hvals("unacked"))]
            bodies = (each["body"] for each in map(_task, tasks))
            found |= ids_in(json.loads(b64decode(each))[0][0].encode() for each in bodies)
            time.sleep(1)
        return found

    def clear(self) -> None:
        """Throw away what the worker never came to in an earlier load."""
        with self._broker() as broker:
            broker.flushall()

    def oldest_waiting_seconds(self) -> float:
        """Return how long the tasks that wait will take: a task does not say how old it is."""
        return self.waiting() / TASKS_PER_SECOND

    def _broker(self) -> Redis:
        return Redis(
            unix_socket_path=str(self.servers.places.valkey_socket), socket_timeout=1, retry=Retry(NoBackoff(), 0)
        )

    def orphans(self) -> dict[str, int]:
        """Return nothing: foreign keys keep naive's few tables together."""
        return {}

    def stored(self) -> Counter[str]:
        """Return how often each message is stored."""
        return Counter(
            row.external_id.removeprefix("wamid.") for row in self.rows("select external_id from naive_message")
        )


def _task(message: Any) -> Any:
    """Return a task's message: text in the queue, an object among those taken."""
    return json.loads(message) if isinstance(message, bytes) else message
