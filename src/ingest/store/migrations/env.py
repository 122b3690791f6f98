"""Runs the migrations on the connection that `store.migrate` hands over."""

from alembic import context

from ingest.store import tables_acts, tables_contacts  # noqa: F401 - their tables belong to the metadata
from ingest.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
