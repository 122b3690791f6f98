"""Acts on contacts: merges, bulk acts, deletions, and the workflows whose runs they stop."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything; see the SQL file of the same name."""
    # The driver would take a bare % for a placeholder.
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))
