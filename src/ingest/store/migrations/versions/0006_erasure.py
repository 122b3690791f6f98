"""What a deletion needs to leave nothing behind: a memory of erased addresses, how far its sweep has come, and the index
by which dead letters are let go.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    create table erased_address (
        workspace_id bigint not null,
        channel_id bigint not null,
        address_hash bytea not null,
        deletion_job_id bigint not null,
        erased_at timestamp with time zone not null,
        expires_at timestamp with time zone not null,
        constraint pk_erased_address primary key (channel_id, address_hash)
    )
    """,
    "create index ix_erased_address_workspace on erased_address (workspace_id, erased_at)",
    "create index ix_erased_address_expires_at on erased_address (expires_at)",
    "alter table erased_address enable row level security",
    """
    create policy erased_address_wall on erased_address to ingest_api
    using (workspace_id = current_setting('ingest.workspace_id')::bigint)
    """,
    "grant select, insert, update, delete on erased_address to ingest_api",
    "alter table deletion_job add column sweep jsonb not null default '{}'",
    "create index ix_dead_letter_created_at on dead_letter (created_at)",
)


def upgrade() -> None:
    """Add them."""
    for statement in STATEMENTS:
        op.execute(statement)
