"""Runs that wait: they cost nothing until their time, and then ten thousand go on at once."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from ingest.jobs.act_types import ReactToFields, ReactToTags, StartRuns, WakeRun
from ingest.jobs.queues import REACT
from ingest.jobs.types import ReactToConversations
from ingest.pipeline import react
from ingest.pipeline.resume import resume_acts
from ingest.pipeline.workflows import create_workflow, publish_workflow
from ingest.store.due_jobs import list_coming_queues, oldest_due_seconds
from ingest.store.jobs import claim_jobs
from ingest.store.unit_of_work import UnitOfWork
from tests.acts_load import load_contacts
from tests.acts_world import World
from tests.system import System, running_system

WAIT = {"id": "w", "kind": "wait", "seconds": 3600}
STEPS = [
    WAIT,
    {"id": "t", "kind": "add_tag", "tag": "reminded"},
    {"id": "f", "kind": "update_field", "field": "language", "value": "de"},
    {"id": "c", "kind": "close_conversation"},
]
READ = text("""
    select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) + coalesce(
        (select sum(idx_tup_read) from pg_stat_user_indexes as i where i.relid = t.relid), 0)
    from pg_stat_user_tables as t where relname in ('job', 'workflow_run')
""")


def make_waiting_runs(tx: Connection, workspace_id: int, channel_id: int, count: int, steps: Any = (WAIT,)) -> int:
    """Start a run for each of so many new contacts, as the worker does; return the workflow's id."""
    ids = load_contacts(tx, workspace_id, channel_id, count, 1)
    uow = UnitOfWork(tx, datetime.now(UTC))
    definition = {"trigger": {"kind": "manual"}, "steps": list(steps)}
    workflow_id = create_workflow(uow, workspace_id, f"Remind {count}", definition)
    publish_workflow(uow, workspace_id, workflow_id)
    for at in range(0, count, 500):
        react.start_workflow(uow, StartRuns(workspace_id, workflow_id, tuple(ids[at : at + 500])))
    return workflow_id


def rows_read(engine: Engine, act: Callable[[Connection], object]) -> dict[str, int]:
    """Return how many rows and index entries of each table the act reads."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

        def figures() -> dict[str, int]:
            connection.execute(text("select pg_stat_force_next_flush()"))
            connection.execute(text("select pg_stat_clear_snapshot()"))
            return {row[0]: int(row[1]) for row in connection.execute(READ)}

        before = figures()
        with engine.begin() as tx:
            act(tx)
            tx.execute(text("select pg_stat_force_next_flush()"))
        return {table: count - before[table] for table, count in figures().items()}


LOOKS: dict[str, Callable[[Connection], object]] = {
    "bell": lambda tx: list_coming_queues(tx, 1.0),
    "claim": lambda tx: claim_jobs(tx, REACT, 500, 20, rows=500),
    "watchdog": lambda tx: oldest_due_seconds(tx, [REACT]),
    "upkeep": lambda tx: resume_acts(UnitOfWork(tx, datetime.now(UTC))),
}


@pytest.mark.parametrize("look", LOOKS)
def test_waiting_runs_cost_nothing_until_their_time(database_url: str, look: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as tx:
        world = World(tx)
        make_waiting_runs(tx, world.workspace_id, world.channel_ids[0], 2000)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze"))
    read = rows_read(engine, LOOKS[look])
    engine.dispose()
    print(f"\n{look}: with 2,000 waiting runs it reads {read}")
    assert max(read.values()) <= 5


def statements(tx: Connection, act: Callable[[], object]) -> int:
    taken = 0

    def tell(*_: object) -> None:
        nonlocal taken
        taken += 1

    event.listen(tx, "before_cursor_execute", tell)
    act()
    event.remove(tx, "before_cursor_execute", tell)
    return taken


def test_five_hundred_runs_go_on_in_the_statements_of_one(tx: Connection) -> None:
    world = World(tx)
    taken = []
    for count in (1, 500):
        make_waiting_runs(tx, world.workspace_id, world.channel_ids[0], count, STEPS)
        due = [WakeRun(world.workspace_id, **args) for args in world.jobs("wake_run")]
        world.run("delete from job")
        taken.append(statements(tx, lambda due=due: react.wake_runs(world.uow(7200), due)))
        world.run("delete from message")
        world.run("update contact set phone = null")
    print(f"\na claim of 500 runs with four steps each: {taken[1]} statements")
    assert taken[0] == taken[1]
    assert world.scalar("select count(*) from workflow_run where state = 'ended' and reason = 'finished'") == 501
    for name in ("react_to_tags", "react_to_fields", "react_to_conversations"):
        assert len(world.jobs(name)) == 1, name


def test_jobs_of_one_kind_are_taken_together(tx: Connection) -> None:
    world = World(tx)
    ids = [world.make_contact(conversation="open") for _ in range(40)]
    tag_id = world.make_tag("vip", *ids)
    kinds: dict[str, Any] = {
        "tag_updated": (react.react_to_tags, lambda each: ReactToTags(world.workspace_id, tag_id, "add", (each,))),
        "field_updated": (react.react_to_fields, lambda each: ReactToFields(world.workspace_id, ("phone",), (each,))),
        "conversation_closed": (
            react.react_to_conversations,
            lambda each: ReactToConversations(
                world.workspace_id, "conversation_closed", "user", (world.contact(each).conversation_id,)
            ),
        ),
    }
    for kind, (step, job) in kinds.items():
        uow = world.uow()
        workflow_id = create_workflow(uow, world.workspace_id, kind, {"trigger": {"kind": kind}, "steps": [WAIT]})
        publish_workflow(uow, world.workspace_id, workflow_id)
        one, many = [job(ids[0])], [job(each) for each in ids[1:]]
        taken = [statements(tx, lambda step=step, jobs=jobs: step(world.uow(), jobs)) for jobs in (one, many)]
        assert taken[0] == taken[1], kind
    assert world.scalar("select count(*) from workflow_run") == 3 * len(ids)


def test_what_happened_twice_within_a_claim_starts_a_workflow_twice(tx: Connection) -> None:
    world = World(tx)
    contact_id = world.make_contact()
    tag_id = world.make_tag("vip", contact_id)
    steps = [{"id": "x", "kind": "stop"}]
    workflow_id = create_workflow(
        world.uow(), world.workspace_id, "Twice", {"trigger": {"kind": "tag_updated"}, "steps": steps}
    )
    publish_workflow(world.uow(), world.workspace_id, workflow_id)
    jobs = [ReactToTags(world.workspace_id, tag_id, "add", (contact_id,))] * 2
    assert react.react_to_tags(world.uow(), jobs) == 2


RUNS = 10_000


@pytest.mark.faults
@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
def test_ten_thousand_waiting_runs_fire_within_two_seconds_of_their_time(workers: int) -> None:
    with running_system(processes=("web", "worker_react", "worker_upkeep", "beat"), reactors=workers) as system:
        with system.engine.begin() as tx:
            make_waiting_runs(tx, system.workspace_id, system.whatsapp.channel_id, RUNS)
        with system.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("vacuum analyze"))
        before = rows_read(system.engine, lambda tx: None)
        # Once a minute a chore looks whether each has its timer, which is an index entry a run: not in both of two windows.
        quiet = min((watch_quietly(system, 5) for _ in range(2)), key=lambda read: max(read.values()))
        due = datetime.now(UTC) + timedelta(seconds=4)
        system.rows("update job set due_at = :due where name = 'wake_run' returning 1", due=due)
        system.rows("update workflow_run set wake_at = :due returning 1", due=due)
        first, last = follow(system, due)
        ended = system.rows("select reason, count(*) from workflow_run where state = 'ended' group by 1")
    print(
        f"\n{RUNS} waiting runs, {workers} react workers: in 5 s of waiting {quiet} rows and index entries read "
        f"({before}); the first went on {first:.2f} s after their time, the last {last:.2f} s"
    )
    assert [tuple(row) for row in ended] == [("finished", RUNS)]
    assert max(quiet.values()) < 1000
    assert last <= 2


def watch_quietly(system: System, seconds: float) -> dict[str, int]:
    return rows_read(system.engine, lambda tx: time.sleep(seconds))


def follow(system: System, due: datetime) -> tuple[float, float]:
    """Return how many seconds after their time the first and the last of the runs had gone on, as others see it."""
    first: float | None = None
    with system.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while True:
            # A timer goes with its run's step, in one transaction.
            left = connection.execute(text("select count(*) from job where name = 'wake_run'")).scalar_one()
            late = (datetime.now(UTC) - due).total_seconds()
            assert late < 60
            if first is None and left < RUNS:
                first = late
            if not left:
                return first or late, late
            time.sleep(0.05)
