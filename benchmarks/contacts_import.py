"""Import of 200,000 contacts from a file of nearly 20 MB: how long it takes, and whether memory grows.

    DATABASE_URL=postgresql://postgres@localhost/bench python benchmarks/contacts_import.py --rows 200000

The batches run here one after the other, as a worker of the queue `transfer` runs them; the database keeps the contacts.
With `--again` the same file is imported a second time: every row then changes nothing.
"""

import argparse
import os
import resource
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, text

from ingest.domain.access import Principal
from ingest.domain.imports import ImportOptions
from ingest.jobs.publisher import NoPublisher
from ingest.jobs.transfer_types import ImportBatch
from ingest.pipeline.transfer_import import BATCH_ROWS, accept_import, import_batch
from ingest.runtime import make_engine
from ingest.settings import read_settings
from ingest.store.migrate import migrate
from ingest.store.transfers import find_transfer
from ingest.store.unit_of_work import unit_of_work

COLUMNS = ("firstName", "lastName", "phone", "email", "tags")
OPTIONS = ImportOptions("add_and_update", "phone", COLUMNS)


def make_file(rows: int) -> bytes:
    """Return a CSV file of that many contacts."""
    lines = (
        f"First{number},Last{number} {'x' * 8},+6012{number:08d},person{number}@customers.example.com,imported\r\n"
        for number in range(rows)
    )
    return (",".join(COLUMNS) + "\r\n" + "".join(lines)).encode()


def resident_mib() -> float:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def run(engine: Engine, workspace_id: int, content: bytes) -> None:
    """Import the file and print what it took."""
    principal = Principal(workspace_id, "owner")
    began = time.perf_counter()
    with unit_of_work(engine, NoPublisher(), lambda: datetime.now(UTC)) as uow:
        uow.tx.execute(text("set local statement_timeout = 0"))
        transfer_id = accept_import(uow, principal, content, OPTIONS, "contacts.csv")
    accepted = time.perf_counter()
    print(f"accepted {len(content) / 1e6:.1f} MB in {accepted - began:.1f} s, resident {resident_mib():.0f} MiB")
    taken, memory, position = [], [], 0
    while True:
        started = time.perf_counter()
        with unit_of_work(engine, NoPublisher(), lambda: datetime.now(UTC)) as uow:
            if not import_batch(uow, ImportBatch(workspace_id, transfer_id, position)).total():
                break
        taken.append(time.perf_counter() - started)
        memory.append(resident_mib())
        position += 1
    with engine.begin() as tx:
        done = find_transfer(tx, workspace_id, transfer_id)
    taken.sort()
    seconds = time.perf_counter() - accepted
    rows = position * BATCH_ROWS
    print(f"{done.counts if done else None}, {done.state if done else None}")
    print(f"{position} batches in {seconds:.1f} s: {rows / seconds:,.0f} rows/s", end=", ")
    print(f"a batch p50 {taken[len(taken) // 2] * 1000:.0f} ms, p95 {taken[int(len(taken) * 0.95)] * 1000:.0f} ms")
    told = (memory[0], memory[len(memory) // 2], memory[-1])
    print("resident after the first batch, half way, at the end: {:.0f}, {:.0f}, {:.0f} MiB".format(*told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--again", action="store_true", help="import the same file a second time")
    given = parser.parse_args()
    engine = make_engine(read_settings(database_url=os.environ["DATABASE_URL"]).database_url, "benchmark", 2)
    migrate(engine)
    with engine.begin() as tx:
        workspace_id = tx.execute(text("insert into workspace (name) values ('import') returning id")).scalar_one()
    content = make_file(given.rows)
    for _ in range(2 if given.again else 1):
        run(engine, int(workspace_id), content)


if __name__ == "__main__":
    main()
