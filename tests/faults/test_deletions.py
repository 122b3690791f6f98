"""X1 and X2: a large deletion whose worker is killed again and again, and a contact with half a million messages."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from benchmarks.processes import resident_bytes
from ingest.domain.deletions import BATCH_ROWS
from ingest.jobs.publisher import NoPublisher
from ingest.pipeline.resume import PATIENCE
from ingest.runtime import now
from ingest.store.unit_of_work import unit_of_work
from tests.acts_load import load_contacts
from tests.acts_scope import Doomed, make_neighbours
from tests.acts_world import World
from tests.faults.judging import rounded
from tests.faults.record import Figures, Row, record
from tests.faults.world import FaultySystem, faulty_system, percentile
from tests.system import until
from workers.chores import CHORES

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(600)]

KILLED = Row(
    "X1", "kill -9 of a deletion's worker again and again", "resumes, ends, counts exact, nobody else's row touched"
)
LARGE = Row("X2", "a contact with 500,000 messages is deleted", "short transactions of bounded size, memory flat")

PROCESSES = ("web", "worker_delete", "worker_upkeep", "beat")
# Whoever had to wait for the dead worker's lease would stand still for longer than the bound allows.
LEASE_SECONDS, STANDSTILL_SECONDS = 60, 20.0
SINGLE_KILLS, EVERY = 25, 5
CHORE_SECONDS = float(str(CHORES["resume_acts"].schedule))
LONGEST_SECONDS, MOST_BYTES = 2.0, 250 * 1000**2

# Each of the purge's transactions: when it began, when it had counted what it removed, how many messages went in it.
NOTE_COMMITS = """
    create table purge_log (transaction_id bigint primary key, began_at timestamptz, counted_at timestamptz, messages bigint);
    create function note_purge() returns trigger language plpgsql as $$ begin
        insert into purge_log values (txid_current(), now(), clock_timestamp(),
            coalesce((new.row_counts ->> 'message')::bigint, 0) - coalesce((old.row_counts ->> 'message')::bigint, 0))
        on conflict (transaction_id) do update
        set messages = purge_log.messages + excluded.messages, counted_at = excluded.counted_at;
        return null;
    end $$;
    create trigger note_purge after update on deletion_job for each row execute function note_purge()
"""


def accept_beside_neighbours(system: FaultySystem, contacts: int, messages_each: int) -> Doomed:
    """Accept a deletion of contacts that have neighbours, in their own workspace and in another one."""
    with system.engine.begin() as tx:
        tx.exec_driver_sql(NOTE_COMMITS)
        channel_id, other = system.whatsapp.channel_id, World(tx)
        ids = load_contacts(tx, system.workspace_id, channel_id, contacts, messages_each)
        make_neighbours(tx, system.workspace_id, channel_id, 10_000_000)
        make_neighbours(tx, other.workspace_id, other.channel_ids[0], 1)
    with system.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze")
    with unit_of_work(system.engine, NoPublisher(), now) as uow:
        return Doomed(uow, system.workspace_id, ids)


def is_done(system: FaultySystem, doomed: Doomed) -> bool:
    with system.engine.connect() as tx:
        return bool(doomed.look(tx).state == "completed")


def kill_after_commits(system: FaultySystem, doomed: Doomed, every: int, kills: int) -> int:
    """Kill the worker after every so many commits, so many times or until the deletion is done; return how often."""
    for done in range(kills):
        system.arm("committed", "pass " * (every - 1) + "kill")
        until(lambda: not system.is_armed("committed") or is_done(system, doomed), 60, interval=0.01)
        if system.is_armed("committed"):
            return done
    return kills


def figures(system: FaultySystem, doomed: Doomed, recovery: float, bound: float, **more: Any) -> Figures:
    """Check that exactly the contacts' rows went; return what there is to tell."""
    with system.engine.connect() as tx:
        doomed.assert_exact(tx)
    return Figures(
        doomed.rows["message"],
        0,
        0,
        0,
        system.orphan_count(),
        recovery_seconds=round(recovery, 1),
        recovery_bound_seconds=bound,
        more=rounded({"out-of-scope rows touched": 0, **more}),
    )


def test_X1_ten_thousand_contacts_are_deleted_though_the_worker_dies_after_batch_upon_batch() -> None:
    with faulty_system(processes=PROCESSES, environment={"INGEST_LEASE_SECONDS": str(LEASE_SECONDS)}) as system:
        started = time.monotonic()
        doomed = accept_beside_neighbours(system, contacts=10_000, messages_each=20)
        kills = [kill_after_commits(system, doomed, 1, SINGLE_KILLS), kill_after_commits(system, doomed, EVERY, 1000)]
        until(lambda: is_done(system, doomed), 60)
        commits = system.rows("select extract(epoch from counted_at)::float as at, messages from purge_log order by 1")
        standstill = max(after.at - before.at for before, after in pairwise(commits))
        counted = figures(
            system,
            doomed,
            standstill,
            STANDSTILL_SECONDS,
            **{"kills after 1": kills[0], f"kills after {EVERY}": kills[1], "transactions": len(commits)},
            most_messages=max(each.messages for each in commits),
            seconds=time.monotonic() - started,
        )
        record(
            replace(KILLED, case="after every commit, then every fifth"),
            counted,
            load="10,000 contacts, 200,000 messages",
        )
        assert kills[0] == SINGLE_KILLS
        assert kills[1] >= 3
        assert (counted.orphans, system.dead_reasons()) == (0, [])
        assert standstill < STANDSTILL_SECONDS


def test_X1_a_deletion_whose_worker_dies_before_each_commit_is_set_aside_and_resumes_by_itself() -> None:
    with faulty_system(processes=PROCESSES, environment={"INGEST_LEASE_SECONDS": "2"}) as system:
        doomed = accept_beside_neighbours(system, contacts=100, messages_each=10)
        kills, started = 0, time.monotonic()
        while not system.dead_reasons():
            assert time.monotonic() - started < 60
            if not system.is_armed("completed"):
                system.arm("completed")
                kills += 1
            time.sleep(0.02)
        (system.faults / "completed").unlink()
        set_aside = time.monotonic()
        bound = PATIENCE.total_seconds() + 1.5 * CHORE_SECONDS
        until(lambda: is_done(system, doomed), bound)
        seconds = time.monotonic() - set_aside
        # The letter is the fault's, not the deletion's.
        assert [row.reason for row in system.rows("delete from dead_letter returning reason")] == ["worker_died"]
        counted = figures(system, doomed, seconds, bound, kills=kills - 1)
        record(
            replace(KILLED, case="before each commit, until it is set aside"),
            counted,
            load="100 contacts, 1,000 messages",
        )
        assert counted.orphans == 0


@dataclass
class Watch:
    """What was seen of the worker while somebody looked: its longest transaction, in seconds, and its memory, in bytes."""

    longest_seconds: float = 0.0
    bytes_seen: list[int] = field(default_factory=list)
    looks: int = 0


OPEN_TRANSACTIONS = text("""
    select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float from pg_stat_activity
    where application_name = 'ingest-worker-delete' and xact_start is not null
""")


@contextmanager
def watched(system: FaultySystem) -> Iterator[Watch]:
    """Look at the worker's open transactions every 20 ms, and at its processes' memory every 200 ms."""
    watch, over = Watch(), threading.Event()
    pid = system.supervisor.pids()["worker_delete"]

    def look() -> None:
        with system.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not over.wait(0.02):
                watch.longest_seconds = max(watch.longest_seconds, connection.execute(OPEN_TRANSACTIONS).scalar_one())
                if watch.looks % 10 == 0:
                    watch.bytes_seen.append(resident_bytes([pid]))
                watch.looks += 1

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield watch
    finally:
        over.set()
        watcher.join()


def test_X2_a_contact_with_half_a_million_messages_goes_in_short_transactions_and_little_memory() -> None:
    with faulty_system(processes=PROCESSES) as system:
        with watched(system) as watch:
            until(lambda: len(watch.bytes_seen) > 3, 10)
            doomed = accept_beside_neighbours(system, contacts=1, messages_each=500_000)
            started = time.monotonic()
            until(lambda: is_done(system, doomed), 300)
            seconds = time.monotonic() - started
        commits = system.rows(
            "select extract(epoch from counted_at - began_at)::float as seconds, messages from purge_log order by counted_at"
        )
        durations = [each.seconds for each in commits]
        counted = figures(
            system,
            doomed,
            seconds,
            300,
            transactions=len(commits),
            most_messages=max(each.messages for each in commits),
            longest_transaction_s=watch.longest_seconds,
            median_transaction_s=percentile(durations, 50),
            last_tenth_s=percentile(durations[-len(durations) // 10 :], 50),
            looks=watch.looks,
            idle_pss_mb=watch.bytes_seen[0] / 1e6,
            peak_pss_mb=max(watch.bytes_seen) / 1e6,
        )
        record(LARGE, counted, load="one contact, 500,000 messages")
        assert counted.orphans == 0
        assert 0 < max(each.messages for each in commits) <= BATCH_ROWS
        assert max([watch.longest_seconds, *durations]) < LONGEST_SECONDS
        assert max(watch.bytes_seen) < MOST_BYTES
