"""Detection reads what it reviews and no more, whatever the planner knows of the tables."""

import pytest
from sqlalchemy import Connection, text

from ingest.store import contact_keys
from ingest.store.planning import prefer_lookups
from tests.pipeline_world import Pipeline

pytestmark = pytest.mark.database

CONTACTS, REVIEWED = 3_000, 100
MAKE = text("""
    with made as (
        insert into contact (workspace_id, first_name, source, activity_hour)
        select :workspace_id, 'Sender ' || n, 'whatsapp_cloud', 1 from generate_series(1, :count) as n returning id
    )
    insert into contact_key (workspace_id, contact_id, key, match_key, origin_contact_id)
    select :workspace_id, id, 'tel:+4477' || id, 'tel:+4477' || id, id from made returning contact_id
""")
# Rows of indexes that this transaction has been given, and rows of the table that it has read one after the other.
READ = text("""
    select sum(pg_stat_get_xact_tuples_returned(indexrelid)) + pg_stat_get_xact_tuples_returned('contact'::regclass)
    from pg_index where indrelid = 'contact'::regclass
""")


def test_counting_keys_reads_a_row_a_contact_where_the_tables_were_small_when_they_were_analyzed(
    tx: Connection,
) -> None:
    workspace_id = Pipeline(tx).workspace_id
    tx.execute(MAKE, {"workspace_id": workspace_id, "count": 1})
    tx.execute(text("analyze contact, contact_key, shared_key"))
    ids = list(tx.scalars(MAKE, {"workspace_id": workspace_id, "count": CONTACTS}))[:REVIEWED]
    prefer_lookups(tx)
    before = tx.scalar(READ)
    assert not contact_keys.count_keys(tx, [(workspace_id, each) for each in ids])
    assert REVIEWED <= tx.scalar(READ) - before <= 2 * REVIEWED
