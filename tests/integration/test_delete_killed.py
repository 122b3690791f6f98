"""A deletion whose worker is killed again and again finishes all the same, counts exactly, and touches nothing else."""

# ruff: noqa: N802 - the names carry the lines of the specification

import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text

from ingest.pipeline.delete import DeletionRequest, accept_deletion
from ingest.store.unit_of_work import UnitOfWork
from tests.acts_load import load_contacts
from tests.acts_world import World

# Works off the queue and says after each batch how many are done, so that it can be killed after any of them.
WORKER = """
import sys
import ingest.pipeline.delete
import workers.delete
from ingest.runtime import Runtime
from ingest.settings import read_settings
from workers.handling import drain
ingest.pipeline.delete.BATCH_ROWS = 400
settings = read_settings(database_url=sys.argv[1], broker_url="redis://127.0.0.1:1/0", lease_seconds=2)
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
