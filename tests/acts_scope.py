"""What a deletion may touch and what not: neighbours of every kind, a digest of all that is theirs, and the exact counts."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from ingest.pipeline.delete import DeletionRequest, accept_deletion
from ingest.store import tables_acts, tables_contacts  # noqa: F401 - their tables join the metadata
from ingest.store.contact_registry import REFERENCES, purged_references
from ingest.store.tables import metadata
from ingest.store.unit_of_work import UnitOfWork
from tests.acts_load import load_contacts
from tests.acts_world import World

# What the deletion itself writes, and the jobs that do it.
BOOKKEEPING = {
    "job",
    "deletion_job",
    "deletion_batch",
    "deletion_failure",
    "erasure_certificate",
    "tombstone",
    "message_fingerprint",
    "erased_address",
}
OWNERS = [*((each.table, each.column) for each in REFERENCES if not each.column.endswith("_ids")), ("contact", "id")]
NEIGHBOURS = 10
MESSAGES_OF_NEIGHBOUR = 5

Digest = dict[str, tuple[int, str]]


def make_neighbours(tx: Connection, workspace_id: int, channel_id: int, first: int) -> None:
    """Make contacts with whatever a contact may have, numbered from `first` on."""
    world = World(tx, workspace_id, (channel_id, channel_id))
    ids = load_contacts(tx, workspace_id, channel_id, NEIGHBOURS, MESSAGES_OF_NEIGHBOUR, first=first)
    world.make_tag("Neighbour", *ids)
    world.make_run(ids[0])
    world.make_suggestion(ids[0], ids[1], ["tel:+1"])
    world.run(
        "insert into comment (workspace_id, contact_id, origin_contact_id, source, text) "
        "select :workspace_id, id, id, 'user', 'A word' from unnest(cast(:ids as bigint[])) as id",
        ids=ids,
    )


def digest_of_others(tx: Connection, ids: Sequence[int]) -> Digest:
    """Return of every table how many rows are not these contacts', and a hash over all that they hold."""
    found = {}
    for table in sorted(set(metadata.tables) - BOOKKEEPING):
        theirs = " or ".join(f"{column} = any(cast(:ids as bigint[]))" for name, column in OWNERS if name == table)
        others = f"({theirs}) is not true" if theirs else "true"
        statement = text(f"""
            select count(*), coalesce(md5(string_agg(hash, '' order by hash)), '')
            from (select md5(row_to_json(each)::text) as hash from {table} as each where {others}) as hashed
        """)
        found[table] = tuple(tx.execute(statement, {"ids": list(ids)} if theirs else {}).one())
    return found


def rows_of(tx: Connection, ids: Sequence[int]) -> dict[str, int]:
    """Return how many rows of each table are these contacts' own, as a certificate must tell them."""
    found: dict[str, int] = {}
    own = [(each.table, each.column) for each in purged_references()]
    for table, column in [*own, ("message", "contact_id"), ("identity", "contact_id"), ("contact", "id")]:
        statement = text(f"select count(*) from {table} where {column} = any(cast(:ids as bigint[]))")
        if count := tx.execute(statement, {"ids": list(ids)}).scalar_one():
            found[table] = found.get(table, 0) + count
    return found


class Doomed:
    """A deletion that was accepted, and what was there before: `rows` are to go, and of the `others` nothing."""

    def __init__(self, uow: UnitOfWork, workspace_id: int, ids: Sequence[int]) -> None:
        self.ids = ids
        self.others = digest_of_others(uow.tx, ids)
        self.job_id = accept_deletion(uow, DeletionRequest(workspace_id, ids)).deletion_job_id
        self.rows = rows_of(uow.tx, ids)

    def look(self, tx: Connection) -> Any:
        """Return the deletion's row: its state and its counts so far."""
        return tx.execute(text("select * from deletion_job where id = :id"), {"id": self.job_id}).one()

    def assert_exact(self, tx: Connection) -> None:
        """Assert that it is done, that progress and certificate tell what went, and that the others' rows are as before."""
        job = self.look(tx)
        certificate = tx.execute(
            text("select body from erasure_certificate where deletion_job_id = :id"), {"id": job.id}
        )
        (body,) = certificate.scalars()
        stones = "select contact_id from tombstone where deletion_job_id = :id order by contact_id"
        assert (job.state, job.purged_count, job.row_counts) == ("completed", len(self.ids), self.rows)
        assert (body["contacts"], body["failed_contacts"], body["rows"]) == (len(self.ids), 0, self.rows)
        assert list(tx.scalars(text(stones), {"id": job.id})) == sorted(self.ids)
        assert rows_of(tx, self.ids) == {}
        assert digest_of_others(tx, self.ids) == self.others
