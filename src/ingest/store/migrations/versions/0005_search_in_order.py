"""Search terms that say where in the order of ids a contact is, so that the first matches are found without all others.

Making the index anew keeps writers of contacts waiting: about a minute a million contacts. Messages go to the spool meanwhile.
"""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the terms, the index of them and what looks them up; see the SQL file of the same name."""
    # The driver would take a bare % for a placeholder.
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))
