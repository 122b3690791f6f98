"""What the fault rows about processes, disks, clocks and poison share: a system whose processes may be replaced by
faulty ones, messages sent one by one, and a judgement that is the same for all of them.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ingest.embedded.servers import EmbeddedServers
from ingest.simulators.drafts import make_draft
from ingest.simulators.registry import get_simulator
from ingest.simulators.traffic import Plan
from ingest.store.intake import decode_requests
from ingest.supervise import ProcessLine
from tests.system import Load, System, Target, children_of, until

# Senders of messages that a test sends one by one; those of a load have smaller numbers.
FIRST_OWN_SENDER = 5_000_000
BETWEEN_SIGNALS_SECONDS = 0.3


@dataclass
class FaultySystem(System):
    """A system with some of its processes replaced by other commands, and PostgreSQL with settings of the test's own.

    `more` are processes beside those of the Procfile. `public_port` is that of a balancer in front of the web processes.
    """

    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    postgres_settings: Mapping[str, str] = field(default_factory=dict)
    public_port: int = 0
    loads: list[Load] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.port = self.public_port or self.port
        if self.postgres_settings:
            self.servers = EmbeddedServers(
                self.home / "data", with_valkey=not self.broker_url, postgres_settings=self.postgres_settings
            )

    def _lines(self) -> list[ProcessLine]:
        lines = [ProcessLine(each.name, self.commands.get(each.name, each.command)) for each in super()._lines()]
        assert set(self.commands) <= {each.name for each in lines}, "a command for a process that there is none of"
        return lines + [ProcessLine(name, command) for name, command in self.more.items()]

    # Messages

    def load(self, plan: Plan, *targets: Target) -> Load:
        """Return traffic of this plan, to be started; it ends with the system at the latest."""
        self.loads.append(super().load(plan, *targets))
        return self.loads[-1]

    def stop(self) -> None:
        """Stop everything, the loads first."""
        for load in self.loads:
            with suppress(AssertionError):
                load.stop()
            load.ledger.close()
        super().stop()

    def tell(self) -> None:
        """Print what waits and what the processes have said last, for whoever looks for a failure's cause."""
        with suppress(SQLAlchemyError):
            for row in self.rows("select * from job where due_at < now() + interval '1 minute' order by id limit 10"):
                shown = {name: value for name, value in row._asdict().items() if name != "body" and value is not None}
                print(f"  waits: {shown}")
        print("\n".join(self.output.splitlines()[-40:]))

    def send(self, sender: int, words: str, message_id: str, target: Target | None = None) -> int:
        """Send one message by the person of that number and return the answer's status."""
        to = target or self.whatsapp
        draft = make_draft(FIRST_OWN_SENDER + sender, message_id, words, datetime.now(UTC))
        request = get_simulator(to.code)(draft, to.settings, to.url)
        return self.post(to, request.body, dict(request.headers))

    def is_stored(self, message_id: str) -> bool:
        """Return whether a message sent with `send` is stored."""
        return bool(self.scalar("select count(*) from message where external_id like :id", id=f"%{message_id}"))

    # Processes

    def resolver_names(self) -> list[str]:
        """Return the names of the resolvers' processes."""
        return [name for name in self.supervisor.pids() if name.startswith("worker_resolve")]

    def end(self, *names: str, signs: Sequence[signal.Signals] = (signal.SIGTERM,), group: bool = False) -> float:
        """Send signals to processes, or to their groups; return the seconds until the last of them has ended."""
        pids = [self.supervisor.pids()[name] for name in names]
        started = time.monotonic()
        for sign in signs:
            for pid in pids:
                with suppress(ProcessLookupError):
                    (os.killpg if group else os.kill)(pid, sign)
            if len(signs) > 1:
                time.sleep(BETWEEN_SIGNALS_SECONDS)
        until(lambda: all(map(is_gone, pids)), 60, interval=0.02)
        return time.monotonic() - started

    def wake_server(self) -> None:
        """Have PostgreSQL look whether it is to be promoted."""
        pid = self.servers.postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGUSR1)

    def kill(self, *pids: int) -> None:
        """End processes with SIGKILL."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pool_children(self) -> list[int]:
        """Return the ids of the resolvers' pool children."""
        return [child for name in self.resolver_names() for child in children_of(self.supervisor.pids()[name])]

    # What is there

    def orphan_count(self) -> int:
        """Return how many rows have lost their parent, over all tables."""
        return sum(self.ingest("check")["orphans"].values())

    def oldest_waiting_seconds_but(self, word: bytes) -> float:
        """Return for how long the oldest accepted request without this word in it has waited; 0 when none waits."""
        rows = self.rows("select body from job where queue = 'resolve' and body is not null")
        waiting = [each.accepted_at for row in rows for each in decode_requests(row.body) if word not in each.body]
        return (datetime.now(UTC) - min(waiting)).total_seconds() if waiting else 0.0

    def stop_resolvers(self) -> list[int]:
        """Stop the resolvers, so that events wait; return the processes, to be told to go on."""
        until(lambda: len(self.pool_children()) == self.resolvers, 20)
        parents = [self.supervisor.pids()[name] for name in self.resolver_names()]
        everybody = [each for pid in parents for each in (pid, *children_of(pid))]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        return everybody

    def dead_reasons(self) -> list[str]:
        """Return the reasons of the dead letters."""
        return [row.reason for row in self.rows("select reason from dead_letter order by id")]


def set_timer(system: System) -> int:
    """Add a job that is due in a second, of which nobody says so but the beat, by way of the upkeep; return its id."""
    return int(
        system.scalar(
            "insert into job (workspace_id, queue, name, args, due_at) values (:w, 'resolve', 'apply_effects', "
            "'{\"channel_ids\": []}', now() + interval '1 second') returning id",
            w=system.workspace_id,
        )
    )


def timer_delay(system: System, timer: int | None = None) -> float:
    """Return how many seconds too late a timer is worked off, one that was set just now. Fails after 20 s."""
    began = time.monotonic()
    wanted = set_timer(system) if timer is None else timer
    until(lambda: not system.rows("select 1 from job where id = :id", id=wanted), 20, 0.02)
    return max(0.0, time.monotonic() - began - 1)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def python(*arguments: str, **environment: str) -> tuple[str, ...]:
    """Return a command of a ProcessLine that runs this Python with more in its environment."""
    return ("env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, *arguments)


@contextmanager
def faulty_system(home: Path | None = None, **options: Any) -> Iterator[FaultySystem]:
    """Give a running system in a directory of its own, gone afterwards. Call it from the main thread."""
    place = home or Path(tempfile.mkdtemp(prefix="ingest-faults-"))
    system = FaultySystem(place, **options)
    try:
        system.start()
        yield system
    except BaseException:
        system.tell()
        raise
    finally:
        system.stop()
        shutil.rmtree(place, ignore_errors=True)


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value that so many percent of them do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def resident_mib(pids: Sequence[int]) -> float:
    """Return the resident memory of processes, in MiB."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE") / 1024**2
