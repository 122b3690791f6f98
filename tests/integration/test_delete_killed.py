"""A deletion whose worker is killed again and again finishes all the same, counts exactly, and touches nothing else."""

# ruff: noqa: N802 - the names carry the lines of the specification

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from ingest.pipeline.delete import DeletionRequest, accept_deletion
from ingest.store.unit_of_work import UnitOfWork
from tests.acts_load import load_contacts
from tests.acts_scope import Doomed, make_neighbours
from tests.acts_world import World

# Works off the queue and says after each batch how many are done, so that it can be killed after any of them.
WORKER = """
import sys
import workers.delete
from cryptography.fernet import Fernet
from ingest.runtime import Runtime
from ingest.settings import read_settings
from workers.handling import drain
workers.delete.BATCH_ROWS = 400
key = Fernet.generate_key().decode()
settings = read_settings(database_url=sys.argv[1], broker_url="redis://127.0.0.1:1/0", lease_seconds=2, secret_key=key)
runtime = Runtime.from_settings(settings)
runtime.__dict__["publisher"] = type("Nobody", (), {"ring": lambda self, queues: None})()
while drain(runtime, "delete", lambda: print("batch", flush=True)):
    pass
"""


@pytest.mark.processes
@pytest.mark.parametrize("batches", [2, 3])
def test_T92_and_X1_killed_after_every_kth_batch_a_deletion_resumes_and_counts_exactly(
    database_url: str, batches: int
) -> None:
    engine = create_engine(database_url)
    with engine.begin() as tx:
        world = World(tx)
        doomed = load_contacts(tx, world.workspace_id, world.channel_ids[0], 30, 40)
        load_contacts(tx, world.workspace_id, world.channel_ids[0], 10, 5, first=1000)
    with engine.begin() as tx:
        accepted = accept_deletion(UnitOfWork(tx, datetime.now(UTC)), DeletionRequest(world.workspace_id, doomed))
    progress, deadline = [0], time.monotonic() + 90
    while time.monotonic() < deadline:
        kill_after(database_url, batches)
        with engine.begin() as tx:
            job = tx.execute(text("select state, purged_count, row_counts from deletion_job")).one()
            tx.execute(text("update job set leased_until = now() - interval '1 second' where leased_until > now()"))
        progress.append(job.row_counts.get("message", 0))
        if job.state == "completed":
            break
    assert job.state == "completed"
    assert len(progress) > 2
    assert progress == sorted(progress)
    assert (job.purged_count, job.row_counts["message"], job.row_counts["contact"]) == (30, 1200, 30)
    with engine.connect() as connection:
        left = connection.execute(text("select count(*), (select count(*) from message) from contact")).one()
        of_job = "select count(*) from tombstone where deletion_job_id = :id"
        stones = connection.scalar(text(of_job), {"id": accepted.deletion_job_id})
    assert (*left, stones) == (10, 50, 30)
    engine.dispose()


def kill_after(database_url: str, batches: int) -> None:
    """Start a worker and kill it hard when it has done so many batches, or when it has found nothing to do."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, database_url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with worker:
        try:
            for _ in range(batches):
                if not worker.stdout or not worker.stdout.readline():
                    break
        finally:
            worker.kill()


@pytest.mark.processes
@pytest.mark.timeout(60)
def test_T92_and_X1_killed_after_every_single_commit_a_deletion_goes_on_at_once_and_touches_nothing_else(
    database_url: str, tmp_path: Path
) -> None:
    engine = create_engine(database_url)
    doomed = accept_beside_neighbours(engine, contacts=60, messages_each=10)
    said, kills = [0], 0
    with started_workers(database_url, tmp_path, batch_rows=50) as end_of_next:
        while True:
            (tmp_path / "committed").write_text("kill")
            ended = end_of_next()
            with engine.connect() as tx:
                job = doomed.look(tx)
                waiting = tx.execute(text("select attempts, leased_until from job")).all()
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            kills += 1
            said.append(job.row_counts["message"])
            # Nobody holds what comes next, and nobody has tried it: the next worker takes it at once.
            assert waiting == ([] if job.state == "completed" else [(0, None)])
    # 600 messages in parts of 50, and what else there is.
    assert kills > 12
    assert [after - before for before, after in pairwise(said)][:12] == [50] * 12
    with engine.connect() as tx:
        doomed.assert_exact(tx)
        assert tx.scalar(text("select count(*) from dead_letter")) == 0
    engine.dispose()


@pytest.mark.processes
def test_T92_each_deletion_that_waits_has_transactions_of_its_own(database_url: str, tmp_path: Path) -> None:
    engine = create_engine(database_url)
    with engine.begin() as tx:
        world = World(tx)
        for first in range(0, 300, 100):
            ids = load_contacts(tx, world.workspace_id, world.channel_ids[0], 2, 3, first=first)
            accept_deletion(UnitOfWork(tx, datetime.now(UTC)), DeletionRequest(world.workspace_id, ids))
    with started_workers(database_url, tmp_path, batch_rows=5000) as end_of_next:
        assert end_of_next() == 0
    with engine.connect() as connection:
        finished = connection.execute(text("select state, xmin::text as written_by from deletion_job")).all()
    assert [row.state for row in finished] == ["completed"] * 3
    assert len({row.written_by for row in finished}) == 3
    engine.dispose()


def accept_beside_neighbours(engine: Engine, contacts: int, messages_each: int) -> Doomed:
    """Accept a deletion of contacts that have neighbours, in their own workspace and in another one."""
    with engine.begin() as tx:
        world, other = World(tx), World(tx)
        ids = load_contacts(tx, world.workspace_id, world.channel_ids[0], contacts, messages_each)
        make_neighbours(tx, world.workspace_id, world.channel_ids[0], 1000)
        make_neighbours(tx, other.workspace_id, other.channel_ids[0], 1)
        world.make_tag("Doomed", *ids)
    with engine.begin() as tx:
        return Doomed(UnitOfWork(tx, datetime.now(UTC)), world.workspace_id, ids)


@contextmanager
def started_workers(database_url: str, faults: Path, batch_rows: int) -> Iterator[Callable[[], int]]:
    """Give a function that starts a worker, waits for its end and returns its exit code."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.delete_workers", database_url, str(batch_rows)],
        env={**os.environ, "INGEST_FAULT_DIR": str(faults)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        to_server, from_server = server.stdin, server.stdout

        def end_of_next() -> int:
            to_server.write("\n")
            # Without the log's lines, which go the same way.
            return int(next(line for line in from_server if line.strip().lstrip("-").isdigit()))

        yield end_of_next
        to_server.close()
