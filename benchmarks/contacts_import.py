"""Import of 200,000 contacts from a file of nearly 20 MB: how long it takes, and whether memory grows.

    DATABASE_URL=postgresql://postgres@localhost/bench python benchmarks/contacts_import.py --rows 200000

The batches run here one after the other, as a worker of the queue `transfer` runs them; the database keeps the contacts.
With `--again` the same file is imported a second time: every row then changes nothing.
"""

import argparse
import os
import resource
import time
from collections.abc import Sequence
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


def make_file(
    rows: int, first: int = 0, known: Sequence[tuple[str, str]] = (), phone_every: int = 0, email_every: int = 0
) -> bytes:
    """Return a CSV file of that many contacts, numbered from `first` on.

    With `known`, phones and emails of contacts that are there: one row in so many has the phone of one of them, one in so
    many the email of another. No contact is met twice.
    """
    phones, emails = (shared_rows(rows, every) if known else range(0) for every in (phone_every, email_every))
    met = (first // rows) * (len(phones) + len(emails)) if rows else 0
    people = {
        number: (f"+6012{first + number:08d}", f"person{first + number}@customers.example.com")
        for number in range(rows)
    }
    for number in phones:
        people[number] = (known[met % len(known)][0], people[number][1])
        met += 1
    for number in emails:
        # Another row than that of the phone: the two would be one suggestion.
        people[number + 1] = (people[number + 1][0], known[met % len(known)][1])
        met += 1
    lines = (
        f"First{first + number},Last{first + number} {'x' * 8},{phone},{email},imported\r\n"
        for number, (phone, email) in people.items()
    )
    return (",".join(COLUMNS) + "\r\n" + "".join(lines)).encode()


def shared_rows(rows: int, every: int) -> range:
    """Return the rows that share something: one in so many, never the last one."""
    return range(0, rows - 1, every) if every else range(0)


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
