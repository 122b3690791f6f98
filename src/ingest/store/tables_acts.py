"""The tables of the acts on contacts: merges, deletions, bulk acts, and the workflows whose runs those acts stop.

They hold to the rules of `store.tables`. What refers to a contact here is listed in `store.contact_registry` like
everything else, so that a merge, an unmerge and a deletion know what to do with it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
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

ZERO = text("0")
NO_IDS = text("'{}'")

# --- merges ----------------------------------------------------------------------------------------------------------

# Who merged what when, and all that is needed to take it apart again.
merge_record = Table(
    "merge_record",
    metadata,
    workspace_column(),
    id_column(),
    Column("kept_contact_id", BigInteger, nullable=False),
    Column("absorbed_contact_id", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("suggestion_id", BigInteger),
    Column("rule_id", BigInteger),
    Column("actor_id", BigInteger),
    Column("idempotency_key", Text),
    # The values the caller picked, by field.
    Column("chosen", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    # Both contacts as they were, see domain/merges.
    Column("kept_snapshot", JSONB, nullable=False),
    Column("absorbed_snapshot", JSONB, nullable=False),
    # Per field of the kept contact: what it was, what the merge made of it.
    Column("changes", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("added_tag_ids", ARRAY(BigInteger), nullable=False, server_default=NO_IDS),
    Column("added_keys", ARRAY(Text), nullable=False, server_default=NO_IDS),
    # The conversation of the absorbed contact that the merge closed.
    Column("closed_conversation_id", BigInteger),
    # The newest message and event at the time: what has a greater id came after the merge.
    Column("last_message_id", BigInteger, nullable=False, server_default=ZERO),
    Column("last_event_id", BigInteger, nullable=False, server_default=ZERO),
    Column("state", Text, nullable=False, server_default="active"),
    Column("merged_at", Moment, nullable=False, server_default=NOW),
    Column("ended_at", Moment),
    Column("ended_by", BigInteger),
    PrimaryKeyConstraint("workspace_id", "id"),
    contact_reference("merge_record", "kept_contact_id"),
    contact_reference("merge_record", "absorbed_contact_id"),
    CheckConstraint("state in ('active', 'undone', 'unmerged')", name="state"),
    CheckConstraint("kept_contact_id <> absorbed_contact_id", name="two"),
    Index("ix_merge_record_kept", "workspace_id", "kept_contact_id"),
    Index("ix_merge_record_absorbed", "workspace_id", "absorbed_contact_id"),
    Index(
        "uq_merge_record_active",
        "workspace_id",
        "absorbed_contact_id",
        unique=True,
        postgresql_where=text("state = 'active'"),
    ),
    Index(
        "uq_merge_record_idempotency_key",
        "workspace_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key is not null"),
    ),
)

# The ids of the rows that a merge moved, one row a table.
merge_moved = Table(
    "merge_moved",
    metadata,
    workspace_column(),
    Column("merge_id", BigInteger, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("row_ids", ARRAY(BigInteger), nullable=False),
    PrimaryKeyConstraint("workspace_id", "merge_id", "table_name"),
    ForeignKeyConstraint(
        ["workspace_id", "merge_id"],
        ["merge_record.workspace_id", "merge_record.id"],
        name="fk_merge_moved_record",
        ondelete="CASCADE",
    ),
)

# Pairs that may be merged without a person: an exact key plus fields that must agree. Off until somebody turns it on.
auto_merge_rule = Table(
    "auto_merge_rule",
    metadata,
    workspace_column(),
    id_column(),
    Column("name", Text, nullable=False),
    # Which kind of key must be shared: phone or email.
    Column("key_kind", Text, nullable=False),
    # The fields that must be equal and not empty on both sides, beside the key.
    Column("agreeing_fields", ARRAY(Text), nullable=False),
    Column("is_enabled", Boolean, nullable=False, server_default=FALSE),
    Column("hourly_cap", Integer, nullable=False, server_default=text("100")),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
    UniqueConstraint("workspace_id", "name"),
    CheckConstraint("key_kind in ('phone', 'email')", name="key_kind"),
    CheckConstraint("hourly_cap between 1 and 10000", name="hourly_cap"),
)

# --- bulk acts -------------------------------------------------------------------------------------------------------

# Block or unblock of many contacts in the background; `next_position` is how far it has come in `contact_ids`.
bulk_act = Table(
    "bulk_act",
    metadata,
    workspace_column(),
    id_column(),
    Column("kind", Text, nullable=False),
    Column("params", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("contact_ids", ARRAY(BigInteger), nullable=False),
    Column("next_position", Integer, nullable=False, server_default=ZERO),
    Column("changed_count", Integer, nullable=False, server_default=ZERO),
    # Contacts that were not found or already so.
    Column("skipped_ids", ARRAY(BigInteger), nullable=False, server_default=NO_IDS),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("actor_id", BigInteger),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("finished_at", Moment),
    PrimaryKeyConstraint("workspace_id", "id"),
    CheckConstraint("kind in ('block', 'unblock')", name="kind"),
    CheckConstraint("state in ('queued', 'running', 'completed')", name="state"),
)

# --- deletions -------------------------------------------------------------------------------------------------------

deletion_job = Table(
    "deletion_job",
    metadata,
    workspace_column(),
    id_column(),
    # ids, filter or all: how it was selected. Never the filter, which may hold a phone or an email.
    Column("selection", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("contact_count", Integer, nullable=False),
    # Contacts that merges had put into the selected ones; they go with them.
    Column("absorbed_count", Integer, nullable=False, server_default=ZERO),
    Column("purged_count", Integer, nullable=False, server_default=ZERO),
    # Rows removed so far, by table.
    Column("row_counts", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("keep_block", Boolean, nullable=False, server_default=FALSE),
    Column("actor_id", BigInteger),
    Column("idempotency_key", Text),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    # When purging begins: later than the acceptance by the grace period.
    Column("purge_after", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    # Up to which batch the contacts' traces are swept, and where the sweep of the next ones is.
    Column("sweep", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    PrimaryKeyConstraint("workspace_id", "id"),
    CheckConstraint(
        "state in ('waiting', 'queued', 'running', 'completed', 'completed_with_errors', 'cancelled')", name="state"
    ),
    Index(
        "uq_deletion_job_idempotency_key",
        "workspace_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key is not null"),
    ),
)

# The frozen set, in batches. A batch that is done is done for good: a repeated one finds nothing to count twice.
deletion_batch = Table(
    "deletion_batch",
    metadata,
    workspace_column(),
    Column("deletion_job_id", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("contact_ids", ARRAY(BigInteger), nullable=False),
    Column("done_at", Moment),
    PrimaryKeyConstraint("workspace_id", "deletion_job_id", "position"),
    ForeignKeyConstraint(
        ["workspace_id", "deletion_job_id"],
        ["deletion_job.workspace_id", "deletion_job.id"],
        name="fk_deletion_batch_job",
        ondelete="CASCADE",
    ),
)

# Contacts that could not be purged, with the kind of error; tried again until `attempts` reaches the limit.
deletion_failure = Table(
    "deletion_failure",
    metadata,
    workspace_column(),
    Column("deletion_job_id", BigInteger, nullable=False),
    Column("contact_id", BigInteger, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("1")),
    Column("error", Text, nullable=False),
    Column("at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "deletion_job_id", "contact_id"),
)

# What remains of a deleted contact: that it was, and who deleted it when.
tombstone = Table(
    "tombstone",
    metadata,
    workspace_column(),
    Column("contact_id", BigInteger, nullable=False),
    Column("deletion_job_id", BigInteger, nullable=False),
    Column("actor_id", BigInteger),
    Column("deleted_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "contact_id"),
    Index("ix_tombstone_deletion_job", "workspace_id", "deletion_job_id"),
)

# Addresses of deleted contacts, as salted hashes: what was accepted from them before the deletion is not brought back by a
# request that was still waiting. Kept for as long as message fingerprints.
erased_address = Table(
    "erased_address",
    metadata,
    workspace_column(),
    Column("channel_id", BigInteger, nullable=False),
    Column("address_hash", LargeBinary, nullable=False),
    Column("deletion_job_id", BigInteger, nullable=False),
    Column("erased_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    PrimaryKeyConstraint("channel_id", "address_hash"),
    Index("ix_erased_address_workspace", "workspace_id", "erased_at"),
    Index("ix_erased_address_expires_at", "expires_at"),
)

# What was erased, counted per table, with a digest that later copies can be checked against.
erasure_certificate = Table(
    "erasure_certificate",
    metadata,
    workspace_column(),
    Column("deletion_job_id", BigInteger, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("issued_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "deletion_job_id"),
)

# --- workflows -------------------------------------------------------------------------------------------------------

workflow = Table(
    "workflow",
    metadata,
    workspace_column(),
    id_column(),
    Column("name", Text, nullable=False),
    # draft until first published; unpublished workflows start nothing and their runs have ended.
    Column("state", Text, nullable=False, server_default="draft"),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("published_version", Integer),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("updated_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
    UniqueConstraint("workspace_id", "name"),
    CheckConstraint("state in ('draft', 'published', 'unpublished')", name="state"),
    Index("ix_workflow_published", "workspace_id", postgresql_where=text("state = 'published'")),
)

# A version never changes: a run keeps to the one it started with.
workflow_version = Table(
    "workflow_version",
    metadata,
    workspace_column(),
    Column("workflow_id", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    # What starts it, taken out of the definition so that it can be looked up.
    Column("trigger_kind", Text, nullable=False),
    Column("definition", JSONB, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("actor_id", BigInteger),
    PrimaryKeyConstraint("workspace_id", "workflow_id", "version"),
    ForeignKeyConstraint(
        ["workspace_id", "workflow_id"], ["workflow.workspace_id", "workflow.id"], name="fk_workflow_version_workflow"
    ),
)

# One contact's pass through a workflow.
workflow_run = Table(
    "workflow_run",
    metadata,
    workspace_column(),
    id_column(),
    Column("workflow_id", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("contact_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False, server_default="active"),
    # The step it stands at, and what it waits for there: nothing, a time or an answer.
    Column("step_id", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("waits_for", Text),
    Column("wake_at", Moment),
    # Grows with every change of what it waits for: a timer that was set for an earlier wait does nothing.
    Column("wait_number", Integer, nullable=False, server_default=ZERO),
    # Messages with a greater id may answer the question.
    Column("asked_after_message_id", BigInteger),
    Column("asked_on_channel_id", BigInteger),
    Column("tries", SmallInteger, nullable=False, server_default=ZERO),
    # How often each jump step was taken.
    Column("jumps", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    # How many workflows in a row have led to it: a chain of them ends at some point.
    Column("depth", SmallInteger, nullable=False, server_default=ZERO),
    Column("started_at", Moment, nullable=False, server_default=NOW),
    Column("ended_at", Moment),
    Column("reason", Text),
    Column("actor_id", BigInteger),
    PrimaryKeyConstraint("workspace_id", "id"),
    contact_reference("workflow_run"),
    ForeignKeyConstraint(
        ["workspace_id", "workflow_id", "version"],
        ["workflow_version.workspace_id", "workflow_version.workflow_id", "workflow_version.version"],
        name="fk_workflow_run_version",
    ),
    CheckConstraint("state in ('active', 'ended')", name="state"),
    CheckConstraint("waits_for in ('time', 'answer')", name="waits_for"),
    Index(
        "uq_workflow_run_active",
        "workspace_id",
        "contact_id",
        "workflow_id",
        unique=True,
        postgresql_where=text("state = 'active'"),
    ),
    Index("ix_workflow_run_contact", "workspace_id", "contact_id"),
    Index("ix_workflow_run_workflow", "workspace_id", "workflow_id", "id"),
    Index("ix_workflow_run_wake_at", "wake_at", postgresql_where=text("state = 'active'")),
)

# Who ever started a workflow, for those that run once a contact.
enrolment = Table(
    "enrolment",
    metadata,
    workspace_column(),
    Column("workflow_id", BigInteger, nullable=False),
    Column("contact_id", BigInteger, nullable=False),
    Column("at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "workflow_id", "contact_id"),
    contact_reference("enrolment"),
    Index("ix_enrolment_contact", "workspace_id", "contact_id"),
)
