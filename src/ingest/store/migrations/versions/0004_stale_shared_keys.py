"""Shared keys that lost a contact are marked, so that detection counts them again.

Keys are taken from contacts by edits, merges, unmerges and deletions. A trigger marks for all of them, so that none can
forget it.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# A row that is marked already is marked again: detection may be taking the mark off at this moment.
MARK = """
    create function mark_stale_shared_keys() returns trigger language plpgsql as $$
    begin
        update shared_key set is_stale = true
        where (workspace_id, match_key) in (
            select shared_key.workspace_id, shared_key.match_key
            from shared_key join gone using (workspace_id, match_key)
            order by 1, 2
            for no key update of shared_key
        );
        return null;
    end
    $$
"""
TRIGGER = """
    create trigger mark_stale_shared_keys after delete on contact_key
    referencing old table as gone for each statement execute function mark_stale_shared_keys()
"""


def upgrade() -> None:
    """Add the mark, the index that finds marked rows, and the trigger."""
    op.execute("alter table shared_key add column is_stale boolean not null default false")
    op.execute("create index ix_shared_key_stale on shared_key (workspace_id) where is_stale")
    op.execute(MARK)
    op.execute(TRIGGER)
