"""Every table, as SQLAlchemy Core. The migrations create them; a contract test holds the two alike.

Rules that hold for all: a row names its workspace; unique keys start with workspace or channel, so that the schema can
be spread by workspace later; times are timestamptz; a child points at its contact through (workspace_id, contact_id).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NOW = text("now()")
FALSE = text("false")
EMPTY_TEXT = text("''")
EMPTY_OBJECT = text("'{}'::jsonb")
Moment = DateTime(timezone=True)


def workspace_column() -> Column[int]:
    """Return the column that every row has: whose it is.

    No foreign key: hot rows reach their workspace through their contact or channel, and a key here would have all
    workers lock the same workspace row.
    """
    return Column("workspace_id", BigInteger, nullable=False)


def id_column() -> Column[int]:
    """Return a surrogate id: a growing integer below 2^53, as the API's clients want it."""
    return Column("id", BigInteger, Identity(), nullable=False)


def contact_reference(table: str, column: str = "contact_id") -> ForeignKeyConstraint:
    """Return the foreign key to a contact of the same workspace: a link across workspaces cannot be written.

    It restricts instead of taking no action: for the latter PostgreSQL also looks, for every contact that is removed,
    whether another one has the same key, which costs as much as the look for what refers to it.
    """
    return ForeignKeyConstraint(
        ["workspace_id", column],
        ["contact.workspace_id", "contact.id"],
        name=f"fk_{table}_{column}",
        ondelete="RESTRICT",
    )


# --- who owns what ---------------------------------------------------------------------------------------------------

workspace = Table(
    "workspace",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("time_zone", Text, nullable=False, server_default="UTC"),
    # The day of the month on which a billing cycle starts, 1 to 28.
    Column("cycle_day", SmallInteger, nullable=False, server_default=text("1")),
    Column("settings", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    CheckConstraint("cycle_day between 1 and 28", name="cycle_day"),
)

# A provider application that serves many channels through one webhook URL.
app = Table(
    "app",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    workspace_column(),
    ForeignKeyConstraint(["workspace_id"], ["workspace.id"]),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("settings", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("secrets", LargeBinary),
    Column("created_at", Moment, nullable=False, server_default=NOW),
)

channel = Table(
    "channel",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    workspace_column(),
    ForeignKeyConstraint(["workspace_id"], ["workspace.id"]),
    Column("app_id", BigInteger, ForeignKey("app.id")),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    # The account at the provider that this channel stands for, where payloads name it; routing goes by it.
    Column("account", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("settings", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("secrets", LargeBinary),
    Column("state", Text, nullable=False, server_default="connected"),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("updated_at", Moment, nullable=False, server_default=NOW),
    UniqueConstraint("workspace_id", "id"),
    Index("ix_channel_account", "workspace_id", "code", "account"),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    workspace_column(),
    ForeignKeyConstraint(["workspace_id"], ["workspace.id"]),
    Column("name", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("role", Text, nullable=False),
    Column("user_id", BigInteger),
    # SHA-256 of the token; the token itself is shown once and kept nowhere.
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("last_used_on", Date),
    Column("revoked_at", Moment),
    CheckConstraint("role in ('owner', 'manager', 'agent')", name="role"),
    UniqueConstraint("workspace_id", "digest"),
)

# --- contacts --------------------------------------------------------------------------------------------------------

contact = Table(
    "contact",
    metadata,
    workspace_column(),
    id_column(),
    Column("first_name", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("last_name", Text),
    # The name the channel gave. What is shown falls back from it to phone, email and "Contact <id>".
    Column("display_name", Text),
    Column("phone", Text),
    Column("phone_valid", Boolean),
    Column("email", Text),
    Column("country_code", Text),
    Column("language", Text),
    Column("avatar_url", Text),
    Column("fields", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    # Per field: {"source": channel|import|api|workflow|user|derived, "at": unix seconds of the fact}.
    Column("provenance", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("assignee_id", BigInteger),
    Column("lifecycle_id", BigInteger),
    Column("status", Text, nullable=False, server_default="closed"),
    # The open or snoozed conversation, else the latest closed one.
    Column("conversation_id", BigInteger),
    Column("snoozed_until", Moment),
    Column("blocked_at", Moment),
    Column("blocked_until", Moment),
    Column("block_reason", Text),
    Column("dropped_count", Integer, nullable=False, server_default=text("0")),
    Column("last_message_at", Moment),
    Column("last_incoming_at", Moment),
    Column("last_channel_id", BigInteger),
    # Hours since 1970 of last_message_at. Sorting by activity goes by this column, which changes at most once an hour,
    # so that storing a message leaves every index alone (a heap-only update).
    Column("activity_hour", Integer),
    # The provider time of the newest event that carried facts about the person, and 64 bits of those facts' hash.
    Column("profile_at", Moment),
    Column("profile_hash", BigInteger),
    # The start of the billing cycle in which the contact was last counted.
    Column("active_cycle", Date),
    Column("source", Text, nullable=False),
    Column("merged_into", BigInteger),
    Column("deletion_job_id", BigInteger),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("updated_at", Moment, nullable=False, server_default=NOW),
    # What search looks through, and what lists are sorted by: lower-case, one line a name, email and phone. A trigger
    # derives both where one of those changes. As generated columns they cost every update 20 µs, because PostgreSQL
    # reads their expressions anew for each row in which none of those changes.
    Column("search_text", Text),
    Column("name_key", Text(collation="C")),
    # Its index has a fill factor of 70 and folds no entries, for the second entry of each contact that is detached.
    PrimaryKeyConstraint("workspace_id", "id"),
    CheckConstraint("status in ('open', 'closed', 'snoozed')", name="status"),
    # Contacts that are being deleted are in no list, so the indexes of the lists leave them out: detaching stays cheap.
    Index(
        "ix_contact_search",
        text("search_terms(workspace_id, id, search_text)"),
        postgresql_using="gin",
        postgresql_where=text("coalesce(deletion_job_id, 0) = 0"),
    ),
    Index("ix_contact_name_key", "workspace_id", "name_key", "id", postgresql_where=text("deletion_job_id is null")),
    Index(
        "ix_contact_created_at", "workspace_id", "created_at", "id", postgresql_where=text("deletion_job_id is null")
    ),
    Index(
        "ix_contact_country_code",
        "workspace_id",
        "country_code",
        "id",
        postgresql_where=text("country_code is not null and deletion_job_id is null"),
    ),
    Index(
        "ix_contact_language",
        "workspace_id",
        "language",
        "id",
        postgresql_where=text("language is not null and deletion_job_id is null"),
    ),
    Index(
        "ix_contact_assignee_id",
        "workspace_id",
        "assignee_id",
        "id",
        postgresql_where=text("assignee_id is not null and deletion_job_id is null"),
    ),
    Index(
        "ix_contact_lifecycle_id",
        "workspace_id",
        "lifecycle_id",
        "id",
        postgresql_where=text("lifecycle_id is not null and deletion_job_id is null"),
    ),
    Index(
        "ix_contact_listed",
        "workspace_id",
        "id",
        postgresql_where=text("merged_into is null and deletion_job_id is null and blocked_at is null"),
    ),
    Index("ix_contact_activity", "workspace_id", "activity_hour", postgresql_where=text("deletion_job_id is null")),
    Index("ix_contact_blocked", "workspace_id", "id", postgresql_where=text("blocked_at is not null")),
    Index("ix_contact_merged_into", "workspace_id", "merged_into", postgresql_where=text("merged_into is not null")),
    Index("ix_contact_snoozed_until", "snoozed_until", postgresql_where=text("snoozed_until is not null")),
    Index("ix_contact_blocked_until", "blocked_until", postgresql_where=text("blocked_until is not null")),
    postgresql_with={"fillfactor": "80"},
)

# A contact's address on one channel. An alias is a row of its own that points at the identity it belongs to, so that one
# unique key decides for all addresses.
identity = Table(
    "identity",
    metadata,
    workspace_column(),
    id_column(),
    Column("channel_id", BigInteger, nullable=False),
    Column("address", Text, nullable=False),
    Column("alias_of", BigInteger),
    Column("contact_id", BigInteger, nullable=False),
    Column("origin_contact_id", BigInteger, nullable=False),
    # The channel's facts about the person, as last applied to the contact.
    Column("profile", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("opted_out_at", Moment),
    Column("consent_at", Moment),
    Column("connected_at", Moment, nullable=False),
    Column("removed_at", Moment),
    PrimaryKeyConstraint("workspace_id", "id"),
    ForeignKeyConstraint(
        ["workspace_id", "channel_id"], ["channel.workspace_id", "channel.id"], name="fk_identity_channel"
    ),
    contact_reference("identity"),
    UniqueConstraint("channel_id", "address"),
    Index("ix_identity_contact", "workspace_id", "contact_id"),
)

contact_key = Table(
    "contact_key",
    metadata,
    workspace_column(),
    Column("contact_id", BigInteger, nullable=False),
    # tel:+E.164 or mailto:lower-case, see domain/contact_keys.
    Column("key", Text, nullable=False),
    # The key with national variants folded; equal keys have equal match keys.
    Column("match_key", Text, nullable=False),
    Column("is_primary", Boolean, nullable=False, server_default=text("true")),
    Column("is_verified", Boolean, nullable=False, server_default=text("true")),
    Column("origin_contact_id", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "contact_id", "key"),
    contact_reference("contact_key"),
    Index("ix_contact_key_match_key", "workspace_id", "match_key"),
)

# --- conversations and messages --------------------------------------------------------------------------------------

conversation = Table(
    "conversation",
    metadata,
    workspace_column(),
    id_column(),
    Column("contact_id", BigInteger, nullable=False),
    Column("origin_contact_id", BigInteger, nullable=False),
    Column("status", Text, nullable=False, server_default="open"),
    Column("opened_at", Moment, nullable=False),
    Column("opened_source", Text, nullable=False),
    Column("opened_channel_id", BigInteger),
    Column("closed_at", Moment),
    Column("closed_source", Text),
    Column("closed_by", BigInteger),
    Column("category", Text),
    Column("summary", Text),
    PrimaryKeyConstraint("workspace_id", "id"),
    contact_reference("conversation"),
    CheckConstraint("status in ('open', 'closed', 'snoozed')", name="status"),
    Index(
        "uq_conversation_current",
        "workspace_id",
        "contact_id",
        unique=True,
        postgresql_where=text("status <> 'closed'"),
    ),
    Index("ix_conversation_contact", "workspace_id", "contact_id"),
)

message = Table(
    "message",
    metadata,
    workspace_column(),
    id_column(),
    Column("contact_id", BigInteger, nullable=False),
    Column("origin_contact_id", BigInteger, nullable=False),
    Column("conversation_id", BigInteger),
    Column("channel_id", BigInteger, nullable=False),
    Column("identity_id", BigInteger),
    # The provider's id, and 128 bits of its hash: the unique index stays small whatever providers send.
    Column("external_id", Text),
    Column("external_hash", UUID(as_uuid=True), nullable=False),
    Column("traffic", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False, server_default=EMPTY_TEXT),
    # What is more than text: attachments, location, contacts, reply_to, payload, referral, ... see domain/messages.
    Column("content", JSONB),
    Column("sent_at", Moment, nullable=False),
    Column("accepted_at", Moment, nullable=False),
    # Position within its request: the last word on order.
    Column("sequence", Integer, nullable=False, server_default=text("0")),
    Column("is_late", Boolean, nullable=False, server_default=FALSE),
    Column("is_automatic", Boolean, nullable=False, server_default=FALSE),
    Column("status", Text),
    Column("edited_at", Moment),
    Column("deleted_at", Moment),
    Column("trace_id", UUID(as_uuid=True)),
    PrimaryKeyConstraint("workspace_id", "id"),
    contact_reference("message"),
    UniqueConstraint("channel_id", "external_hash"),
    CheckConstraint("traffic in ('incoming', 'outgoing')", name="traffic"),
    Index("ix_message_contact", "workspace_id", "contact_id", "sent_at"),
)

# What happens to a message after it was sent. A row waits (message_id is null) while its message is unknown.
message_effect = Table(
    "message_effect",
    metadata,
    workspace_column(),
    id_column(),
    Column("channel_id", BigInteger, nullable=False),
    Column("target_hash", UUID(as_uuid=True), nullable=False),
    # What tells repeats apart: the same effect delivered twice has the same hash.
    Column("effect_hash", UUID(as_uuid=True), nullable=False),
    Column("message_id", BigInteger),
    Column("kind", Text, nullable=False),
    # status: sent|delivered|read|failed. reaction: the emoji, "" for taken off. edit: the new text.
    Column("value", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("content", JSONB),
    # Who did it: the address of a reaction's author.
    Column("actor", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("at", Moment, nullable=False),
    Column("expires_at", Moment),
    PrimaryKeyConstraint("workspace_id", "id"),
    UniqueConstraint("channel_id", "target_hash", "effect_hash"),
    CheckConstraint("kind in ('status', 'edit', 'delete', 'reaction')", name="kind"),
    ForeignKeyConstraint(
        ["workspace_id", "message_id"],
        ["message.workspace_id", "message.id"],
        name="fk_message_effect_message",
        ondelete="RESTRICT",
    ),
    Index("ix_message_effect_message", "workspace_id", "message_id"),
    Index("ix_message_effect_waiting", "channel_id", "target_hash", postgresql_where=text("message_id is null")),
    Index("ix_message_effect_expires_at", "expires_at", postgresql_where=text("message_id is null")),
)

# "Everything up to then is read": Messenger's watermarks, by the identity they came from.
watermark = Table(
    "watermark",
    metadata,
    workspace_column(),
    Column("channel_id", BigInteger, nullable=False),
    Column("address", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("up_to", Moment, nullable=False),
    PrimaryKeyConstraint("channel_id", "address", "status"),
)

# The bytes of attachments that came inside a request, as mail does it.
attachment_content = Table(
    "attachment_content",
    metadata,
    workspace_column(),
    Column("message_id", BigInteger, nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("workspace_id", "message_id", "position"),
    ForeignKeyConstraint(
        ["workspace_id", "message_id"],
        ["message.workspace_id", "message.id"],
        name="fk_attachment_content_message",
        ondelete="CASCADE",
    ),
)

# The timeline beside the messages: conversation.opened, contact.blocked, comment, ... never a message's text.
contact_event = Table(
    "contact_event",
    metadata,
    workspace_column(),
    id_column(),
    Column("contact_id", BigInteger, nullable=False),
    Column("origin_contact_id", BigInteger, nullable=False),
    Column("conversation_id", BigInteger),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("actor_id", BigInteger),
    Column("data", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "id"),
    contact_reference("contact_event"),
    Index("ix_contact_event_contact", "workspace_id", "contact_id", "at"),
)

# A message of a blocked contact: that it came, nothing of what it said. Trimmed after 30 days.
dropped_message = Table(
    "dropped_message",
    metadata,
    workspace_column(),
    Column("contact_id", BigInteger, nullable=False),
    Column("channel_id", BigInteger, nullable=False),
    Column("external_hash", UUID(as_uuid=True), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("channel_id", "external_hash"),
    contact_reference("dropped_message"),
    Index("ix_dropped_message_contact", "workspace_id", "contact_id"),
    Index("ix_dropped_message_at", "at"),
)

# Message ids that outlive their deleted contact, so that a late redelivery brings nothing back.
message_fingerprint = Table(
    "message_fingerprint",
    metadata,
    workspace_column(),
    Column("channel_id", BigInteger, nullable=False),
    Column("external_hash", UUID(as_uuid=True), nullable=False),
    Column("expires_at", Moment, nullable=False),
    PrimaryKeyConstraint("channel_id", "external_hash"),
    Index("ix_message_fingerprint_expires_at", "expires_at"),
)

# Salted hashes of identities that stay blocked although their contact was deleted.
block_list = Table(
    "block_list",
    metadata,
    workspace_column(),
    Column("channel_id", BigInteger, nullable=False),
    Column("address_hash", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("channel_id", "address_hash"),
)

# One row a contact and billing cycle in which it sent or received. Append-only within a cycle; outlives the contact.
active_contact = Table(
    "active_contact",
    metadata,
    workspace_column(),
    Column("cycle_start", Date, nullable=False),
    Column("contact_id", BigInteger, nullable=False),
    Column("channel_id", BigInteger),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "cycle_start", "contact_id"),
)

# --- suggestions -----------------------------------------------------------------------------------------------------

merge_suggestion = Table(
    "merge_suggestion",
    metadata,
    workspace_column(),
    id_column(),
    Column("low_contact_id", BigInteger, nullable=False),
    Column("high_contact_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("keys", ARRAY(Text), nullable=False),
    # The keys that were on the pair when a person said no: only a key beyond these reopens it.
    Column("dismissed_keys", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False, server_default="open"),
    Column("reason", Text),
    Column("opened_at", Moment, nullable=False, server_default=NOW),
    Column("changed_at", Moment, nullable=False, server_default=NOW),
    Column("actor_id", BigInteger),
    PrimaryKeyConstraint("workspace_id", "id"),
    UniqueConstraint("workspace_id", "low_contact_id", "high_contact_id"),
    contact_reference("merge_suggestion", "low_contact_id"),
    contact_reference("merge_suggestion", "high_contact_id"),
    CheckConstraint("low_contact_id < high_contact_id", name="order"),
    CheckConstraint("kind in ('exact', 'probable', 'identity')", name="kind"),
    CheckConstraint("state in ('open', 'merged', 'dismissed', 'closed')", name="state"),
    Index("ix_merge_suggestion_high", "workspace_id", "high_contact_id"),
    Index("ix_merge_suggestion_open", "workspace_id", "id", postgresql_where=text("state = 'open'")),
)

# A key that more than ten contacts share: one line instead of a pair for each two.
shared_key = Table(
    "shared_key",
    metadata,
    workspace_column(),
    Column("match_key", Text, nullable=False),
    Column("contact_count", Integer, nullable=False),
    Column("state", Text, nullable=False, server_default="open"),
    Column("changed_at", Moment, nullable=False, server_default=NOW),
    # A contact has lost the key: to be counted again.
    Column("is_stale", Boolean, nullable=False, server_default=FALSE),
    PrimaryKeyConstraint("workspace_id", "match_key"),
    Index("ix_shared_key_stale", "workspace_id", postgresql_where=text("is_stale")),
)

# Two identities of one account whose aliases met in one event: evidence for a suggestion of kind identity.
identity_link = Table(
    "identity_link",
    metadata,
    workspace_column(),
    Column("channel_id", BigInteger, nullable=False),
    Column("low_identity_id", BigInteger, nullable=False),
    Column("high_identity_id", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("workspace_id", "low_identity_id", "high_identity_id"),
    ForeignKeyConstraint(
        ["workspace_id", "low_identity_id"],
        ["identity.workspace_id", "identity.id"],
        name="fk_identity_link_low",
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(
        ["workspace_id", "high_identity_id"],
        ["identity.workspace_id", "identity.id"],
        name="fk_identity_link_high",
        ondelete="CASCADE",
    ),
    Index("ix_identity_link_high", "workspace_id", "high_identity_id"),
)

# --- work ------------------------------------------------------------------------------------------------------------

job = Table(
    "job",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    workspace_column(),
    Column("queue", Text, nullable=False),
    Column("name", Text, nullable=False),
    # Ids only. Raw requests travel in `body`, compressed by nobody: they live for milliseconds.
    Column("args", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("body", LargeBinary),
    # How many items it holds: what a claim adds up.
    Column("weight", Integer, nullable=False, server_default=text("1")),
    Column("due_at", Moment, nullable=False, server_default=NOW),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # Handled alone, because a neighbour in its batch failed or its worker died.
    Column("is_solo", Boolean, nullable=False, server_default=FALSE),
    Column("lease_id", UUID(as_uuid=True)),
    Column("leased_until", Moment),
    Column("last_error", Text),
    # At most one job of a key waits; null for most.
    Column("key", Text),
    Column("trace_id", UUID(as_uuid=True)),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Index("uq_job_key", "workspace_id", "queue", "key", unique=True, postgresql_where=text("key is not null")),
    Index("ix_job_due", "queue", "workspace_id", "due_at"),
    postgresql_with={"fillfactor": "70"},
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    workspace_column(),
    Column("queue", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("channel_id", BigInteger),
    Column("args", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("body", LargeBinary),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("trace_id", UUID(as_uuid=True)),
    Column("state", Text, nullable=False, server_default="open"),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("settled_at", Moment),
    CheckConstraint("state in ('open', 'replayed', 'discarded')", name="state"),
    Index("ix_dead_letter_open", "workspace_id", "id", postgresql_where=text("state = 'open'")),
    Index("ix_dead_letter_created_at", "created_at"),
)

# What became of what was accepted. Rows are only added, so that no two workers wait for one counter; upkeep adds them up.
tally = Table(
    "tally",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    workspace_column(),
    Column("channel_id", BigInteger, nullable=False),
    # accepted, resolved: counted in requests. stored, duplicate, dropped, ignored, dead: counted in items.
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=EMPTY_TEXT),
    Column("count", BigInteger, nullable=False),
    Column("at", Moment, nullable=False, server_default=NOW),
    Index("ix_tally_workspace", "workspace_id"),
)

__all__ = [name for name, value in list(globals().items()) if isinstance(value, Table)]
