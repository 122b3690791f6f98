"""The whole system in real processes, load on it, faults in it, and a checker that says what became of every message.

The generator writes every answer to a file of its own, as it comes. The checker reads that file and the database and
sorts: LOST (answered 2xx and not stored), DUPLICATE (stored twice), PHANTOM (stored though refused). What got no answer
may be stored or not.
"""

import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from cryptography.fernet import Fernet
from redis import Redis
from sqlalchemy import Connection, create_engine, text

from ingest.embedded.servers import EmbeddedServers
from ingest.pipeline import administer
from ingest.simulators.http import Connection as HttpConnection
from ingest.simulators.traffic import Delivery, Plan, Report, Target, deliveries, send_traffic
from ingest.store.migrate import migrate
from ingest.store.sealing import Sealer
from ingest.store.views.queues import conservation, orphans
from ingest.supervise import ProcessLine, Supervisor, find_procfile, read_procfile
from tests.faults.fault_proxy import FaultProxy

WHATSAPP = {"phone_number_id": "800100200300400", "app_secret": "app-secret"}
TELEGRAM = {"secret_token": "telegram-secret"}


@dataclass
class Verdict:
    """What became of the messages of one load."""

    accepted: int
    unknown: int
    refused: Counter[int]
    stored: int
    lost: list[str]
    duplicate: list[str]
    phantom: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing bad happened."""
        return not (self.lost or self.duplicate or self.phantom)

    def __str__(self) -> str:
        return (
            f"accepted {self.accepted}, no answer {self.unknown}, refused {dict(self.refused)}, stored {self.stored}; "
            f"LOST {len(self.lost)} {self.lost[:3]}, DUPLICATE {len(self.duplicate)} {self.duplicate[:3]}, "
            f"PHANTOM {len(self.phantom)} {self.phantom[:3]}"
        )


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: when it was due (monotonic seconds), how long its answer took from then, its status, 0 for none."""

    due_at: float
    seconds: float
    status: int

    @property
    def is_accepted(self) -> bool:
        """Whether it was answered 2xx."""
        return 200 <= self.status < 300


class Ledger:
    """The generator's own record of every answer, in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self.path = path
        self.accepted = 0
        self.requests: list[Answered] = []
        self.unaccepted: dict[str, Delivery] = {}

    def record(self, delivery: Delivery, status: int | None, seconds: float) -> None:
        """Note an answer; None stands for none."""
        answered = Answered(time.monotonic() - seconds, seconds, status or 0)
        self.requests.append(answered)
        self.accepted += answered.is_accepted
        external_id = delivery.draft.external_id
        if answered.is_accepted:
            self.unaccepted.pop(external_id, None)
        else:
            self.unaccepted[external_id] = delivery
        self._file.write(f"{external_id} {status or 0}\n")

    def answers(self) -> dict[str, set[int]]:
        """Return the answers that each message got."""
        found: dict[str, set[int]] = {}
        for line in self.path.read_text().splitlines():
            external_id, status = line.split()
            found.setdefault(external_id, set()).add(int(status))
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Load:
    """Traffic that runs in a thread of its own until its plan ends or it is stopped."""

    ledger: Ledger
    requests: Iterator[Delivery]
    plan: Plan
    report: Report | None = None
    _thread: threading.Thread | None = None
    _stop: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._play()), daemon=True)
        self._thread.start()

    async def _play(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self.report = await send_traffic(self.requests, self.plan, self.ledger.record, self._stop)

    @property
    def is_over(self) -> bool:
        """Whether the plan has been played to its end."""
        return self.report is not None

    def join(self, seconds: float) -> Report:
        """Wait for the end and return the report."""
        assert self._thread is not None
        self._thread.join(seconds)
        assert self.report is not None, "the load did not end in time"
        return self.report

    def stop(self) -> Report:
        """End it now."""
        if self._loop is not None and self._stop is not None and not self.is_over:
            self._loop.call_soon_threadsafe(self._stop.set)
        return self.join(30)


@dataclass
class System:
    """PostgreSQL, Valkey and the Procfile's processes over one directory, with a workspace and two channels."""

    name = "ours"

    home: Path
    processes: Sequence[str] = ("web", "worker_resolve", "worker_upkeep", "beat")
    resolvers: int = 2
    reactors: int = 1
    broker_url: str = ""
    is_proxied: bool = False
    more_channels: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.servers = EmbeddedServers(self.home / "data", with_valkey=not self.broker_url)
        self.port = free_port()
        self.secret_key = Fernet.generate_key().decode()
        self.log = (self.home / "processes.log").open("w+")
        self.faults = self.home / "faults"
        self.faults.mkdir()
        self.network: dict[str, FaultProxy] = {}
        self._over = threading.Event()

    # Starting and stopping

    def start(self) -> None:
        """Start servers, make workspace and channels, start the processes, and return when the web process is ready."""
        self.servers.start()
        self.engine = create_engine(self.servers.database_url)
        migrate(self.engine)
        self._administer()
        if self.is_proxied:
            self._lay_network()
        self.supervisor = Supervisor(self._environment(), output=self.log)
        self.supervisor.start([self._routed(line) for line in self._lines()])
        self._tending = threading.Thread(target=self._tend, daemon=True)
        self._tending.start()
        until(self.is_ready, 120)

    def _administer(self) -> None:
        sealer = Sealer([self.secret_key])
        with self.engine.begin() as tx:
            self.workspace_id = administer.create_workspace(tx, "Faults")
            self.token = administer.create_token(tx, self.workspace_id, "owner", "", self.secret_key)
            self.whatsapp = self._add_channel(tx, sealer, "whatsapp_cloud", WHATSAPP, "app_secret", verify_token="v")
            self.telegram = self._add_channel(tx, sealer, "telegram", TELEGRAM, "secret_token")
            self.others = [
                self._add_channel(
                    tx,
                    sealer,
                    "whatsapp_cloud",
                    {**WHATSAPP, "phone_number_id": str(n)},
                    "app_secret",
                    verify_token="v",
                )
                for n in range(900100200300400, 900100200300400 + self.more_channels)
            ]

    def _add_channel(
        self, tx: Connection, sealer: Sealer, code: str, given: dict[str, str], secret: str, **more: str
    ) -> Target:
        secrets = {name: (value,) for name, value in {secret: given[secret], **more}.items()}
        plain = {name: value for name, value in given.items() if name != secret}
        added = administer.add_channel(tx, self.workspace_id, code, code, plain, secrets, sealer)
        return Target(code, added.id, f"{self.url}{added.url_path}", given)

    def _lines(self) -> list[ProcessLine]:
        lines = read_procfile(find_procfile(), list(self.processes))
        wanted = {"worker_resolve": self.resolvers, "worker_react": self.reactors}
        more = [
            ProcessLine(f"{each.name}_{number}", each.command)
            for each in lines
            for number in range(1, wanted.get(each.name, 1))
        ]
        return [*lines, *more]

    def _lay_network(self) -> None:
        """Put a proxy between each side of ours, web and workers, and each server."""
        database, broker = self.servers.places.sockets / ".s.PGSQL.5432", self.servers.places.valkey_socket
        for side in ("web", "worker", "second"):
            for server, upstream in (("database", str(database)), ("broker", self.broker_port or str(broker))):
                proxy = self.network[f"{side}-{server}"] = FaultProxy(upstream, f"{side}-{server}")
                proxy.start()

    def proxies(self, side: str, server: str) -> list[FaultProxy]:
        """Return what stands between "web" or "worker" and "database" or "broker". The second resolver has its own."""
        return [self.network[f"{each}-{server}"] for each in {"worker": ("worker", "second")}.get(side, (side,))]

    @property
    def broker_port(self) -> int:
        """The port of a broker of the test's own, 0 for the embedded one."""
        return urlsplit(self.broker_url).port or 0

    def _routed(self, line: ProcessLine) -> ProcessLine:
        """Return the process such that it talks to the servers through its side's proxies, where there are any."""
        if not self.network:
            return line
        side = "web" if line.name.startswith("web") else "second" if line.name == "worker_resolve_1" else "worker"
        database = f"postgresql+psycopg://ingest@127.0.0.1:{self.network[f'{side}-database'].port}/ingest"
        port = self.network[f"{side}-broker"].port
        broker = f"redis://127.0.0.1:{port}/0"
        if self.broker_port:
            given = urlsplit(self.broker_url)
            account = given.netloc.rpartition("@")[0]
            broker = given._replace(netloc=f"{account}@127.0.0.1:{port}").geturl()
        command = (sys.executable, "-m", "ingest", *line.command[1:]) if line.command[0] == "ingest" else line.command
        return ProcessLine(line.name, ("env", f"DATABASE_URL={database}", f"BROKER_URL={broker}", *command))

    def _environment(self) -> dict[str, str]:
        return {
            "INGEST_FAULT_DIR": str(self.faults),
            "DATABASE_URL": self.servers.database_url,
            "BROKER_URL": self.broker_url or self.servers.broker_url,
            "INGEST_SECRET_KEY": self.secret_key,
            "INGEST_DATA_DIR": str(self.home / "data"),
            "INGEST_SPOOL_DIR": str(self.spool),
            "INGEST_METRICS_DIR": str(self.home / "metrics"),
            "INGEST_PUBLIC_URL": self.url,
            "INGEST_HOST": "127.0.0.1",
            "INGEST_PORT": str(self.port),
            "INGEST_LOG_FORMAT": "json",
            # A worker that was killed holds its claim this long: the least that a drain can take.
            "INGEST_LEASE_SECONDS": "5",
            **self.environment,
        }

    def _tend(self) -> None:
        while not self._over.wait(0.05):
            # The tests kill every few seconds; a supervisor that ever waits longer would measure its own patience.
            for child in self.supervisor._children:
                child.backoff_seconds = 0.0
            self.supervisor.tend()

    def stop(self) -> None:
        """Stop everything."""
        self._over.set()
        if hasattr(self, "_tending"):
            self._tending.join(5)
            self.supervisor.stop(timeout_seconds=5)
        if hasattr(self, "engine"):
            self.engine.dispose()
        for proxy in self.network.values():
            proxy.stop()
        self.servers.postgres.stop("immediate")
        self.servers.stop()
        self.log.close()

    # Looking in

    @property
    def url(self) -> str:
        """Where the web process listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def spool(self) -> Path:
        """The web process's spool."""
        return self.home / "spool"

    @property
    def output(self) -> str:
        """Everything the processes have logged."""
        return (self.home / "processes.log").read_text(errors="replace")

    def is_ready(self) -> bool:
        """Return whether the web process takes webhooks."""
        with suppress(URLError, OSError):
            return bool(self.get("/readyz")["ready"])
        return False

    def get(self, path: str) -> Any:
        """Return an API answer."""
        request = Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, timeout=5) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers["content-type"] else body.decode()

    def post(self, target: Target, body: bytes, headers: dict[str, str]) -> int:
        """Post to a channel and return the status."""
        try:
            with urlopen(Request(target.url, body, headers), timeout=20) as answer:
                return int(answer.status)
        except HTTPError as refused:
            return refused.code

    def rows(self, statement: str, **given: Any) -> list[Any]:
        """Return the statement's rows."""
        with self.engine.begin() as tx:
            return list(tx.execute(text(statement), given))

    def scalar(self, statement: str, **given: Any) -> Any:
        """Return the statement's one value."""
        return self.rows(statement, **given)[0][0]

    def ingest(self, *arguments: str) -> Any:
        """Return what the command line prints as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "ingest", *arguments, "--json"],
            env={**os.environ, **self._environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return json.loads(done.stdout)

    # Load

    def clear(self) -> None:
        """Leave nothing of an earlier load to be worked off: each waited for its own."""

    def load(self, plan: Plan, *targets: Target) -> Load:
        """Return traffic of this plan, to be started."""
        wanted = list(targets) or [self.whatsapp]
        return Load(Ledger(self.home / f"ledger-{time.time_ns()}"), deliveries(wanted, plan), plan)

    def repeat(self, load: Load, delivery: Delivery) -> bool:
        """Send a delivery once more, as a provider does that got no 2xx; return whether it was accepted now."""

        async def send() -> int | None:
            connection = HttpConnection(delivery.target.origin)
            try:
                return await connection.send(delivery.raw)
            except (OSError, TimeoutError):
                return None
            finally:
                connection.close()

        started = time.monotonic()
        status = asyncio.run(send())
        load.ledger.record(delivery, status, time.monotonic() - started)
        return status is not None and 200 <= status < 300

    def waiting(self) -> int:
        """Return how many requests wait, in the database and in the spool (there: any is one)."""
        in_spool = int(any(self.spool.glob("*.spool")))
        return in_spool + int(
            self.scalar("select coalesce(sum(weight), 0) from job where queue = 'resolve' and body is not null")
        )

    def held(self) -> set[str]:
        """Return the ids of the messages that wait in the database."""
        return ids_in(
            row.body for row in self.rows("select body from job where queue = 'resolve' and body is not null")
        )

    def oldest_waiting_seconds(self) -> float:
        """Return how long the oldest request has waited that is not worked off, in the database or in the spool."""
        spooled = [int(path.name.partition("-")[0]) for path in self.spool.glob("*.spool")]
        in_spool = max([time.time() - min(spooled) / 1e9, 0.0]) if spooled else 0.0
        query = "select coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0) from job where body is not null"
        return max(in_spool, float(self.scalar(query)))

    def orphans(self) -> dict[str, int]:
        """Return how many rows break each rule of belonging, where any does."""
        with self.engine.begin() as tx:
            return {name: count for name, count in orphans(tx).items() if count}

    def is_accounted_for(self) -> bool:
        """Return whether every accepted request is resolved or waiting, and every resolved one has an outcome."""
        with self.engine.begin() as tx:
            return conservation(tx).is_exact

    def stored(self) -> Counter[str]:
        """Return how often each message is stored, by the id that its delivery had."""
        ids = [each.channel_id for each in (self.whatsapp, *self.others)]
        rows = self.rows("select external_id from message where channel_id = any(:ids)", ids=ids)
        return Counter(row.external_id.removeprefix("wamid.") for row in rows)

    def drain(self, seconds: float) -> float:
        """Return after how many seconds nothing waits any more."""
        started = time.monotonic()
        until(lambda: self.waiting() == 0, seconds)
        return time.monotonic() - started

    def is_drained(self, seconds: float) -> bool:
        """Return whether nothing waits any more, or not after so many seconds."""
        try:
            self.drain(seconds)
        except AssertionError:
            return False
        return True

    def judge(self, load: Load) -> Verdict:
        """Return what became of the load's messages."""
        answers = load.ledger.answers()
        load.ledger.close()
        stored = self.stored()
        accepted = {each for each, statuses in answers.items() if any(200 <= status < 300 for status in statuses)}
        unknown = {each for each, statuses in answers.items() if 0 in statuses} - accepted
        refused = Counter(status for statuses in answers.values() for status in statuses if status >= 300)
        return Verdict(
            len(accepted),
            len(unknown),
            refused,
            sum(stored[each] for each in answers),
            sorted(accepted - set(stored)),
            sorted(each for each, count in stored.items() if count > 1),
            sorted((set(stored) & set(answers)) - accepted - unknown),
        )

    def assert_sound(self) -> None:
        """Assert that the command line finds everything accounted for, and no orphans."""
        found = self.ingest("check")
        assert found["sound"], found

    # Faults

    def arm(self, point: str, order: str = "kill") -> None:
        """Have the process that next passes a fault point do what the order says: kill, stop, raise, sleep 3."""
        draft = self.faults / f".{point}"
        draft.write_text(order)
        draft.rename(self.faults / point)

    def is_armed(self, point: str) -> bool:
        """Return whether nobody has passed the point yet."""
        return (self.faults / point).exists()

    def kill_one(self, chance: random.Random) -> str:
        """End a random process with SIGKILL: a web or worker process, or one of their children; return whose it was."""
        pids = {name: pid for name, pid in self.supervisor.pids().items() if name.startswith(("web", "worker"))}
        if not pids:
            return ""
        name = chance.choice(sorted(pids))
        victim = chance.choice([pids[name], *children_of(pids[name])])
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self.killed[name] += 1
        return name

    def kill_every(self, seconds: float, load: Load, seed: int, *, accepted: int | None = None) -> None:
        """Kill a random process every so often until the load is over, or so many requests of it were accepted."""
        chance = random.Random(seed)
        while not load.is_over and (accepted is None or load.ledger.accepted < accepted):
            time.sleep(seconds)
            self.kill_one(chance)

    def flush_broker(self) -> None:
        """Forget everything the broker holds, and restart it."""
        with Redis(unix_socket_path=str(self.servers.places.valkey_socket)) as broker:
            broker.flushall()
        self.servers.valkey.kill()
        self.servers.valkey.start()

    @contextmanager
    def database_stopped(self) -> Iterator[None]:
        """Stop PostgreSQL meanwhile."""
        self.engine.dispose()
        self.servers.postgres.stop("immediate")
        try:
            yield
        finally:
            self.servers.postgres.start()


S = TypeVar("S", bound=System)


def until(condition: Callable[[], object], seconds: float, interval: float = 0.1) -> None:
    """Return when the condition holds. Fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(interval)


def ids_in(requests: Iterable[bytes]) -> set[str]:
    """Return the ids of the messages in requests to a WhatsApp channel, as the load names them."""
    return {found.decode() for each in requests for found in re.findall(rb'wamid\.([^"]+)"', each)}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@contextmanager
def running_system(kind: type[S] = System, **options: Any) -> Iterator[S]:  # type: ignore[assignment]
    """Give a running system in a directory of its own, gone afterwards. Call it from the main thread."""
    home = Path(tempfile.mkdtemp(prefix="ingest-system-"))
    system = kind(home, **options)
    try:
        system.start()
        yield system
    finally:
        system.stop()
        shutil.rmtree(home, ignore_errors=True)
