"""Lanes: within a workspace's queue, what one sender has too much of waits apart and takes turns with the rest."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the lane, and have the claim's index follow it. The former release goes on without naming either."""
    op.execute("alter table job add column lane integer not null default 0")
    op.execute("create index ix_job_turn on job (queue, workspace_id, lane, due_at, id)")
    op.execute("drop index ix_job_due")
