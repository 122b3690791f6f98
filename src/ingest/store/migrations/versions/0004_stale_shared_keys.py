"""Shared keys that lost a contact are marked, so that detection counts them again."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the mark and the index that finds marked rows."""
    op.execute("alter table shared_key add column is_stale boolean not null default false")
    op.execute("create index ix_shared_key_stale on shared_key (workspace_id) where is_stale")
