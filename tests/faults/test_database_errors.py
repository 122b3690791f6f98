"""A database that answers with errors, is slow, or whose rows somebody else holds."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import itertools
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from ingest.embedded.places import DATABASE_NAME, DATABASE_USER, POSTGRES_PORT, places
from ingest.simulators.traffic import Plan
from tests.faults.fault_proxy import FaultProxy
from tests.faults.judging import judged, recovered
from tests.faults.record import SEED, Row
from tests.faults.world import FaultySystem, faulty_system
from tests.system import until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]

RAISED = Row(
    "D3", "40001, 40P01 and 55P03 raised by a trigger on every statement that stores messages", "retried, bounded"
)
DEADLOCK = Row("D3", "deadlocks with a transaction that locks contacts crosswise", "retried, bounded", "real deadlocks")
TOO_MANY = Row("D4", "all connections taken for 10 s, ours cut off", "spooled, backoff, no crash loop", "53300")
STARTING = Row("D4", "the server answers that it is starting up for 10 s", "spooled, backoff, no crash loop", "57P03")
READ_ONLY = Row("D4", "the database is read-only for 10 s", "spooled, backoff, no crash loop", "25006")
SLOW = Row("D6", "50 ms more for every statement", "slower, nothing lost", "slow statements")
HELD = Row(
    "D6", "a contact's row is locked by a long transaction for 30 s", "its messages wait, others go on", "row held"
)
FROZEN = Row("D6", "the contact table is locked for 20 s", "everything waits, then everything is stored", "table held")

REFUSE = """
    create or replace function refuse() returns trigger language plpgsql as $$
    begin
        if random() < {rate} then
            raise exception using errcode = (array['40001', '40P01', '55P03'])[1 + floor(random() * 3)::int];
        end if;
        return null;
    end $$;
    drop trigger if exists refuse on message;
    create trigger refuse after insert on message for each statement execute function refuse();
"""


@pytest.fixture
def system() -> Iterator[FaultySystem]:
    with faulty_system(postgres_settings={"max_connections": "60"}) as system:
        yield system


def failures(system: FaultySystem) -> dict[str, int]:
    """Return how many claims failed, by error."""
    return dict(Counter(re.findall(r'"error": ?"(\w+)', system.output)))


def starts(system: FaultySystem) -> int:
    """Return how often processes were started; as many as there are when none has died."""
    return sum(child.starts for child in system.supervisor._children) - len(system.supervisor._children)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3])
def test_D3_serialisation_failures_deadlocks_and_lock_time_outs_by_trigger(system: FaultySystem, rate: float) -> None:
    with psycopg.connect(plain(system)) as connection:
        connection.execute("select setseed(%s)", [SEED / 100])
        connection.execute(REFUSE.format(rate=rate))
    load = system.load(Plan(rate=300, seconds=10, senders=1000, seed=SEED))
    load.start()
    load.join(60)
    seconds = system.drain(60)
    judged(
        system,
        load,
        replace(RAISED, case=f"{rate:.0%}"),
        bound=60,
        recovery=seconds,
        claims_given_back=sum(failures(system).values()),
    )


def test_D3_deadlocks_with_somebody_who_locks_contacts_crosswise(system: FaultySystem) -> None:
    for number in range(20):
        assert system.send(number, "hello", f"first{number}") == 200
    system.drain(20)
    ids = [row.id for row in system.rows("select id from contact order by id")]
    load = system.load(Plan(rate=50, seconds=20, senders=50, seed=SEED))
    load.start()
    victims = sent = 0
    ends_at = time.monotonic() + 20
    with psycopg.connect(plain(system)) as connection:
        for low, high in itertools.cycle(zip(ids[::2], ids[1::2], strict=True)):
            if time.monotonic() > ends_at:
                break
            connection.execute("select from contact where id = %s for update", [high])
            people = [number for number, each in enumerate(ids) if each in {low, high}]
            for number in people:
                # Both of the pair at once: the batch locks the low one first, and waits for the other.
                assert system.send(number, "crossing", f"cross{number}.{time.time_ns()}") == 200
                sent += 1
            time.sleep(0.3)
            try:
                connection.execute("select from contact where id = %s for update", [low])
                connection.commit()
            except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
                victims += 1
                connection.rollback()
    load.join(60)
    deadlocks = system.scalar("select deadlocks from pg_stat_database where datname = current_database()")
    judged(system, load, DEADLOCK, bound=30, deadlocks=deadlocks, crosser_was_victim=victims, crossing_sent=sent)
    assert deadlocks > 0
    stored = system.rows("select count(*), count(distinct external_id) from message where text = 'crossing'")
    assert stored == [(sent, sent)]


def plain(system: FaultySystem) -> str:
    """Return the database's URL as psycopg takes it."""
    return make_url(system.servers.database_url).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def crowd(system: FaultySystem) -> Iterator[None]:
    """Take every connection there is, and cut ours off."""
    taken: list[psycopg.Connection[tuple[object, ...]]] = []
    first = psycopg.connect(plain(system), autocommit=True, application_name="crowd")
    try:
        ends_at = time.monotonic() + 10
        while time.monotonic() < ends_at:
            first.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'ingest-%'"
            )
            with suppress(psycopg.OperationalError):
                while True:
                    taken.append(psycopg.connect(plain(system), application_name="crowd"))
            time.sleep(0.05)
        yield
    finally:
        for each in [first, *taken]:
            each.close()


def test_D4_no_connection_is_left(system: FaultySystem) -> None:
    load = system.load(Plan(rate=200, seconds=25, senders=1000, seed=SEED))
    load.start()
    time.sleep(4)
    with crowd(system):
        pass
    recovery = recovered(system, 40)
    load.join(60)
    judged(system, load, TOO_MANY, bound=40, recovery=recovery, errors=failures(system), restarts=starts(system))
    assert starts(system) == 0


def test_D4_the_server_says_that_it_is_starting_up(system: FaultySystem) -> None:
    load = system.load(Plan(rate=200, seconds=30, senders=1000, seed=SEED))
    load.start()
    time.sleep(4)
    data = system.servers.places.postgres
    with system.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("alter system set hot_standby = off")
    system.engine.dispose()
    system.servers.postgres.stop("fast")
    # A standby that takes no readers answers 57P03 until it is promoted.
    (data / "standby.signal").touch()

    def promote() -> None:
        (data / "promote").touch()
        system.wake_server()

    promoting = threading.Timer(10, promote)
    promoting.start()
    # In the main thread: the server ends with the thread that started it.
    system.servers.postgres.start()
    promoting.join()
    recovery = recovered(system, 40)
    load.join(60)
    judged(system, load, STARTING, bound=40, recovery=recovery, errors=failures(system), restarts=starts(system))
    assert starts(system) == 0


def test_D4_the_database_is_read_only_for_a_while_and_sessions_begun_then_stay_so(system: FaultySystem) -> None:
    load = system.load(Plan(rate=200, seconds=25, senders=1000, seed=SEED))
    load.start()
    time.sleep(4)
    name = make_url(system.servers.database_url).database
    with psycopg.connect(plain(system), autocommit=True, application_name="operator") as operator:
        operator.execute(f"alter database {name} set default_transaction_read_only = on")
        operator.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'ingest-%'"
        )
        time.sleep(10)
        operator.execute(f"alter database {name} set default_transaction_read_only = off")
    recovery = recovered(system, 40)
    load.join(60)
    judged(system, load, READ_ONLY, bound=40, recovery=recovery, errors=failures(system), restarts=starts(system))
    assert starts(system) == 0


def locked_out(system: FaultySystem, statement: str, seconds: float, **given: object) -> Sequence[float]:
    """Hold the lock that a statement takes for so long; return how long others' requests waited, looked at 5 times a second."""
    ages: list[float] = []
    with system.engine.connect() as holder, holder.begin() as held:
        holder.execute(text(statement), given)
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            ages.append(system.oldest_waiting_seconds_but(b"for the held one"))
            time.sleep(0.2)
        held.rollback()
    return ages


def test_D6_a_contact_whose_row_is_held_waits_and_the_others_go_on(system: FaultySystem) -> None:
    assert system.send(1, "hello", "first") == 200
    until(lambda: system.is_stored("first"), 10)
    held = system.scalar("select contact_id from message where text = 'hello'")
    load = system.load(Plan(rate=100, seconds=40, senders=500, seed=SEED))
    load.start()
    stop = threading.Event()

    def write() -> None:
        for number in itertools.count():
            assert system.send(1, "for the held one", f"held{number}") == 200
            if stop.wait(1):
                return

    writer = threading.Thread(target=write)
    time.sleep(2)
    writer.start()
    ages = locked_out(system, "select from contact where id = :id for update", 30, id=held)
    stop.set()
    writer.join()
    recovery = recovered(system, 40)
    load.join(60)
    ordered = sorted(ages)
    judged(
        system,
        load,
        HELD,
        bound=40,
        recovery=recovery,
        others_wait_p50_s=ordered[len(ordered) // 2],
        others_wait_worst_s=ordered[-1],
    )
    # A lock time-out (2 s) or two, while the batch is taken apart.
    assert ordered[-1] < 10


def test_D6_a_table_that_is_held_delays_everything_and_nothing_is_taken_apart(system: FaultySystem) -> None:
    load = system.load(Plan(rate=200, seconds=35, senders=1000, seed=SEED))
    load.start()
    time.sleep(3)
    locked_out(system, "lock table contact in access exclusive mode", 20)
    recovery = recovered(system, 40)
    load.join(60)
    judged(system, load, FROZEN, bound=40, recovery=recovery, splits=system.output.count('"job.split"'))


def test_D6_every_statement_takes_fifty_milliseconds_more() -> None:
    home = Path(tempfile.mkdtemp(prefix="ingest-faults-"))
    with FaultProxy(str(places(home / "data").sockets / f".s.PGSQL.{POSTGRES_PORT}")) as proxy:
        url = f"postgresql+psycopg://{DATABASE_USER}@127.0.0.1:{proxy.port}/{DATABASE_NAME}"
        with faulty_system(home, environment={"DATABASE_URL": url}) as system:
            load = system.load(Plan(rate=200, seconds=20, senders=1000, seed=SEED))
            load.start()
            time.sleep(3)
            proxy.latency_seconds = 0.025
            waited: list[float] = []
            while not load.is_over:
                waited.append(system.oldest_waiting_seconds_but(b"nothing is left out"))
                time.sleep(0.2)
            proxy.heal()
            judged(system, load, SLOW, bound=20, oldest_waiting_worst_s=max(waited))
            assert load.join(1).rejected == 0
            assert max(waited) < 10
