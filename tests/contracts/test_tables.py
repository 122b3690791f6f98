"""The tables that the code is written against are those that the migrations make."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from ingest.store import tables_acts, tables_contacts
from ingest.store.tables import metadata

assert tables_acts
assert tables_contacts


def test_the_migrations_make_the_declared_tables_columns_keys_and_indexes(tx: Connection) -> None:
    context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": True})
    assert compare_metadata(context, metadata) == []


def test_no_column_is_generated(tx: Connection) -> None:
    """PostgreSQL reads the expressions anew for every updated row that changes nothing they depend on: 20 µs a message."""
    assert list(tx.scalars(text("select attname from pg_attribute where attgenerated <> ''"))) == []


def test_what_refers_to_a_contact_or_a_message_restricts_its_removal_or_goes_with_it(tx: Connection) -> None:
    """Without an action PostgreSQL also looks for another row with the same key, for every row that is removed: 5 µs each."""
    without = text("""
        select conrelid::regclass || '.' || conname from pg_constraint
        where contype = 'f' and confrelid in ('contact'::regclass, 'message'::regclass) and confdeltype = 'a'
    """)
    assert list(tx.scalars(without)) == []


def test_every_constraint_is_validated(tx: Connection) -> None:
    assert list(tx.scalars(text("select conname from pg_constraint where not convalidated"))) == []


def test_the_primary_key_of_contacts_has_room_for_second_entries(tx: Connection) -> None:
    """Metadata has no word for the parameters of a key's index. Without them accepting a deletion takes a fifth longer."""
    options = tx.scalar(text("select reloptions from pg_class where oid = 'pk_contact'::regclass"))
    assert sorted(options or ()) == ["deduplicate_items=off", "fillfactor=70"]
