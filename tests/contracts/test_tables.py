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
