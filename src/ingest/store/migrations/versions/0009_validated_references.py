"""The constraints of the migration before are validated, in a transaction that holds nobody up."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CONSTRAINTS = (
    ("identity", "fk_identity_contact_id"),
    ("contact_key", "fk_contact_key_contact_id"),
    ("conversation", "fk_conversation_contact_id"),
    ("message", "fk_message_contact_id"),
    ("contact_event", "fk_contact_event_contact_id"),
    ("dropped_message", "fk_dropped_message_contact_id"),
    ("merge_suggestion", "fk_merge_suggestion_low_contact_id"),
    ("merge_suggestion", "fk_merge_suggestion_high_contact_id"),
    ("merge_record", "fk_merge_record_kept_contact_id"),
    ("merge_record", "fk_merge_record_absorbed_contact_id"),
    ("workflow_run", "fk_workflow_run_contact_id"),
    ("enrolment", "fk_enrolment_contact_id"),
    ("comment", "fk_comment_contact_id"),
    ("message_effect", "fk_message_effect_message"),
)


def upgrade() -> None:
    """Validate them, table by table; the tables stay readable and writable."""
    for table, name in CONSTRAINTS:
        op.execute(f"alter table {table} validate constraint {name}")
