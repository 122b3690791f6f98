"""Two releases side by side: events and jobs of another release, and a migration while messages flow."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import threading
import time
from datetime import UTC, datetime

import msgspec
import pytest
from sqlalchemy import text

from ingest.simulators.drafts import make_draft
from ingest.simulators.registry import get_simulator
from ingest.simulators.traffic import Plan
from tests.faults.judging import judged
from tests.faults.record import SEED, Row
from tests.faults.world import FaultySystem, faulty_system
from tests.system import until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]

MIXED = Row(
    "V1", "jobs and events of an older and a newer release", "known ones done, unknown ones set aside", "releases"
)
MIGRATED = Row("V1", "columns are added to busy tables while messages flow", "locks waited for < 1 s", "migration")

ADD_JOB = """
    insert into job (workspace_id, queue, name, args, body, weight)
    values (:w, 'resolve', :name, cast(:args as jsonb), :body, :weight)
"""
COUNT_ACCEPTED = "insert into tally (workspace_id, channel_id, outcome, count) values (:w, :c, 'accepted', 1)"


def add_request(system: FaultySystem, message_id: str, *, more: tuple[object, ...] = (), without: int = 0) -> None:
    """Accept a request as another release writes it: with more fields at the end, or without the last ones."""
    draft = make_draft(6_000_000, message_id, "from another release", datetime.now(UTC))
    body = get_simulator("whatsapp_cloud")(draft, system.whatsapp.settings, system.whatsapp.url).body
    fields = [
        system.workspace_id, system.whatsapp.channel_id, 0, draft.sent_at, message_id.encode().ljust(16)[:16], "POST",
        system.whatsapp.url, {"content-type": "application/json"}, body,
    ]  # fmt: skip
    written = [*fields[: len(fields) - without], *more]
    with system.engine.begin() as tx:
        given = {"name": "resolve_requests", "args": "{}", "body": msgspec.msgpack.encode([written]), "weight": 1}
        tx.execute(text(ADD_JOB), {"w": system.workspace_id, **given})
        tx.execute(text(COUNT_ACCEPTED), {"w": system.workspace_id, "c": system.whatsapp.channel_id})


def test_V1_what_other_releases_have_written_is_done_or_set_aside_and_never_lost() -> None:
    with faulty_system() as system:
        load = system.load(Plan(rate=100, seconds=15, senders=500, seed=SEED))
        load.start()
        time.sleep(3)
        add_request(system, "newer", more=("a field of tomorrow", {"and": "another"}))
        add_request(system, "older", without=1)
        with system.engine.begin() as tx:
            for name, args in (
                ("apply_effects", '{"channel_ids": [], "a_field_of_tomorrow": true}'),
                ("a_job_of_tomorrow", '{"contact_ids": [1, 2]}'),
            ):
                tx.execute(
                    text(ADD_JOB), {"w": system.workspace_id, "name": name, "args": args, "body": None, "weight": 1}
                )
        until(lambda: len(system.dead_reasons()) == 2, 30)
        load.join(60)
        letters = system.rows("select name, reason, args, length(body) as length from dead_letter order by name")
        judged(
            system,
            load,
            MIXED,
            bound=30,
            dead=[each.reason for each in letters],
            set_aside=", ".join(each.reason for each in letters),
        )
        # A field that is not known is passed over; what is missing or unknown waits, whole, for who can read it.
        assert system.is_stored("newer")
        assert [(each.name, each.reason) for each in letters] == [
            ("a_job_of_tomorrow", "Permanent: unknown_job: a_job_of_tomorrow"),
            ("resolve_requests", "ValidationError"),
        ]
        assert letters[0].args == {"contact_ids": [1, 2]}
        assert letters[1].length > 50


# What a release's migration does: each statement locks a busy table, in the order in which storing does, and waits for it
# no longer than migrations do.
MIGRATION = (
    "set local lock_timeout = '2s'",
    "alter table contact add column is_of_tomorrow boolean not null default false",
    "alter table contact_key drop column if exists gone_tomorrow",
    "alter table message add column note_of_tomorrow text",
    "alter table job add column hint_of_tomorrow text",
)
LONGEST_WAIT = """
    select coalesce(max(extract(epoch from clock_timestamp() - query_start)), 0) from pg_stat_activity
    where wait_event_type = 'Lock' and state = 'active' and datname = current_database() and wait_event <> 'advisory'
"""


def test_V1_a_migration_under_load_keeps_nobody_waiting() -> None:
    with faulty_system() as system:
        load = system.load(Plan(rate=300, seconds=20, senders=20_000, seed=SEED))
        load.start()
        time.sleep(5)
        over, waits = threading.Event(), [0.0]

        def watch() -> None:
            with system.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                while not over.wait(0.005):
                    waits.append(float(connection.exec_driver_sql(LONGEST_WAIT).scalar_one()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.monotonic()
        with system.engine.begin() as tx:
            for statement in MIGRATION:
                tx.exec_driver_sql(statement)
        seconds = time.monotonic() - started
        time.sleep(1)
        over.set()
        watcher.join()
        load.join(60)
        judged(system, load, MIGRATED, bound=20, refused=(), migrate_s=seconds, longest_lock_wait_s=max(waits))
        assert max(waits) < 1
