"""The tables of contact management: users, fields, tags, comments, segments, transfers, audit. Rules as in `tables`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ingest.store.tables import (
    EMPTY_OBJECT,
    EMPTY_TEXT,
    FALSE,
    NOW,
    Moment,
    contact_reference,
    id_column,
    metadata,
    workspace_column,
)

EMPTY_ARRAY = text("'{}'")


def contact_child(table: str) -> ForeignKeyConstraint:
    """Return the foreign key of a row that goes with its contact."""
    return ForeignKeyConstraint(
        ["workspace_id", "contact_id"],
        ["contact.workspace_id", "contact.id"],
        name=f"fk_{table}_contact_id",
        ondelete="CASCADE",
    )


# --- people of the workspace -----------------------------------------------------------------------------------------

team = Table(
    "team",
    metadata,
    workspace_column(),
    id_column(),
    Column("name", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
)

workspace_user = Table(
    "workspace_user",
    metadata,
    workspace_column(),
    id_column(),
    Column("first_name", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("last_name", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("email", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("team_id", BigInteger),
    Column("restrictions", ARRAY(Text), nullable=False, server_default=EMPTY_ARRAY),
    # Invited but not yet here: in no list, assignable to nobody.
    Column("is_invited", Boolean, nullable=False, server_default=FALSE),
    Column("removed_at", Moment),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
    CheckConstraint("role in ('owner', 'manager', 'agent')", name="role"),
    ForeignKeyConstraint(["workspace_id", "team_id"], ["team.workspace_id", "team.id"], name="fk_workspace_user_team"),
)
Index(
    "uq_workspace_user_email",
    workspace_user.c.workspace_id,
    func.lower(workspace_user.c.email),
    unique=True,
    postgresql_where=text("removed_at is null"),
)

# --- what a contact can carry ----------------------------------------------------------------------------------------

custom_field = Table(
    "custom_field",
    metadata,
    workspace_column(),
    id_column(),
    Column("name", Text, nullable=False),
    Column("slug", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("data_type", Text, nullable=False),
    Column("allowed_values", ARRAY(Text)),
    Column("position", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
    CheckConstraint(
        "data_type in ('text', 'list', 'checkbox', 'email', 'number', 'url', 'date', 'time')", name="data_type"
    ),
)
Index("uq_custom_field_slug", custom_field.c.workspace_id, func.lower(custom_field.c.slug), unique=True)
Index("uq_custom_field_name", custom_field.c.workspace_id, func.lower(custom_field.c.name), unique=True)

# The values of contact.fields, one row each, kept by a trigger: what filters over custom fields go by.
contact_field_value = Table(
    "contact_field_value",
    metadata,
    workspace_column(),
    Column("contact_id", BigInteger, nullable=False),
    Column("field_id", BigInteger, nullable=False),
    # Lower-case, at most 200 characters; dates and times sort by it.
    Column("value_key", Text(collation="C"), nullable=False),
    Column("number_value", Double),
    PrimaryKeyConstraint("workspace_id", "contact_id", "field_id"),
    contact_child("contact_field_value"),
    Index("ix_contact_field_value_key", "workspace_id", "field_id", "value_key", "contact_id"),
    Index(
        "ix_contact_field_value_number",
        "workspace_id",
        "field_id",
        "number_value",
        postgresql_where=text("number_value is not null"),
    ),
)

tag = Table(
    "tag",
    metadata,
    workspace_column(),
    id_column(),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("color_code", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("emoji", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
)
Index("uq_tag_name", tag.c.workspace_id, func.lower(tag.c.name), unique=True)

contact_tag = Table(
    "contact_tag",
    metadata,
    workspace_column(),
    Column("contact_id", BigInteger, nullable=False),
    Column("tag_id", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "contact_id", "tag_id"),
    contact_child("contact_tag"),
    ForeignKeyConstraint(
        ["workspace_id", "tag_id"], ["tag.workspace_id", "tag.id"], name="fk_contact_tag_tag", ondelete="CASCADE"
    ),
    Index("ix_contact_tag_tag", "workspace_id", "tag_id", "contact_id"),
)

lifecycle_stage = Table(
    "lifecycle_stage",
    metadata,
    workspace_column(),
    id_column(),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
)
Index("uq_lifecycle_stage_name", lifecycle_stage.c.workspace_id, func.lower(lifecycle_stage.c.name), unique=True)

closing_note = Table(
    "closing_note",
    metadata,
    workspace_column(),
    id_column(),
    Column("category", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("content", Text),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
)
Index("uq_closing_note_category", closing_note.c.workspace_id, func.lower(closing_note.c.category), unique=True)

comment = Table(
    "comment",
    metadata,
    workspace_column(),
    id_column(),
    Column("contact_id", BigInteger, nullable=False),
    Column("origin_contact_id", BigInteger, nullable=False),
    Column("conversation_id", BigInteger),
    Column("source", Text, nullable=False),
    Column("author_id", BigInteger),
    Column("text", Text, nullable=False),
    Column("mentioned_user_ids", ARRAY(BigInteger), nullable=False, server_default=EMPTY_ARRAY),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
    contact_reference("comment"),
    Index("ix_comment_contact", "workspace_id", "contact_id", "created_at"),
)

segment = Table(
    "segment",
    metadata,
    workspace_column(),
    id_column(),
    Column("name", Text, nullable=False),
    Column("filter", JSONB, nullable=False),
    Column("search", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("time_zone", Text, nullable=False, server_default="UTC"),
    Column("created_by", BigInteger),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("updated_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
)
Index("uq_segment_name", segment.c.workspace_id, func.lower(segment.c.name), unique=True)

# --- programs that talk to us ----------------------------------------------------------------------------------------

webhook_subscription = Table(
    "webhook_subscription",
    metadata,
    workspace_column(),
    id_column(),
    # The subscriber's own id: registering under it again replaces.
    Column("hook_id", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("kind", Text, nullable=False, server_default="webhook"),
    Column("event_type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("filters", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
    UniqueConstraint("workspace_id", "hook_id"),
    Index("ix_webhook_subscription_event_type", "workspace_id", "event_type"),
)

# The first answer to a call with an Idempotency-Key; a repeated call gets it again. Written with the call's own work.
idempotency_key = Table(
    "idempotency_key",
    metadata,
    workspace_column(),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", SmallInteger),
    Column("body", LargeBinary),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "key"),
    Index("ix_idempotency_key_created_at", "created_at"),
)

# Who did what to whom. Nobody may change or remove a line, and each holds the hash of the one before it.
audit_entry = Table(
    "audit_entry",
    metadata,
    workspace_column(),
    Column("id", BigInteger, nullable=False),
    Column("at", Moment, nullable=False, server_default=NOW),
    Column("source", Text, nullable=False),
    Column("user_id", BigInteger),
    Column("token_id", BigInteger),
    Column("role", Text),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("target_ids", ARRAY(BigInteger), nullable=False, server_default=EMPTY_ARRAY),
    Column("data", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("previous_hash", LargeBinary),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("workspace_id", "id"),
    CheckConstraint("outcome in ('done', 'refused')", name="outcome"),
)

# --- work that takes a while -----------------------------------------------------------------------------------------

# An import, an export or a bulk change, with its progress.
transfer = Table(
    "transfer",
    metadata,
    workspace_column(),
    id_column(),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("options", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("file_name", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("total_count", Integer, nullable=False, server_default=text("0")),
    Column("done_count", Integer, nullable=False, server_default=text("0")),
    # How many rows ended how: {"created": 3, "updated": 2, "failed": 1, ...}.
    Column("counts", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("source", Text, nullable=False),
    Column("user_id", BigInteger),
    Column("token_id", BigInteger),
    Column("error", Text),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("expires_at", Moment),
    PrimaryKeyConstraint("workspace_id", "id"),
    CheckConstraint("kind in ('import', 'export', 'bulk')", name="kind"),
    CheckConstraint("state in ('queued', 'running', 'completed', 'completed_with_errors', 'failed')", name="state"),
    Index("ix_transfer_expires_at", "expires_at"),
)

# One batch of a transfer: the rows to read for an import, the rows written for an export, the ids of a bulk change.
transfer_part = Table(
    "transfer_part",
    metadata,
    workspace_column(),
    Column("transfer_id", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("content", LargeBinary),
    # What became of each row: [[row, outcome, contact id, field, reason], ...]. Null until the batch is done.
    Column("report", JSONB),
    Column("done_at", Moment),
    PrimaryKeyConstraint("workspace_id", "transfer_id", "position"),
    ForeignKeyConstraint(
        ["workspace_id", "transfer_id"],
        ["transfer.workspace_id", "transfer.id"],
        name="fk_transfer_part_transfer",
        ondelete="CASCADE",
    ),
)
