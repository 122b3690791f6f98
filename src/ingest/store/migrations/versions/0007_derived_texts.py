"""What search looks through and lists are sorted by is derived by a trigger, where a name, the email or the phone changes.

It was a pair of generated columns. PostgreSQL reads the expressions of those anew for every updated row that changes
nothing they depend on, which is what every stored message does to its contact: 20 of 30 µs.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    "alter table contact alter search_text drop expression, alter name_key drop expression",
    """
    create function derive_contact_texts() returns trigger language plpgsql as $$
    begin
        new.search_text := lower(
            new.first_name || ' ' || coalesce(new.last_name, '') || e'\\n' || coalesce(new.display_name, '') || e'\\n'
            || coalesce(new.email, '') || e'\\n' || coalesce(new.phone, ''));
        new.name_key := left(lower(coalesce(
            nullif(trim(new.first_name || ' ' || coalesce(new.last_name, '')), ''),
            new.display_name, new.phone, new.email, '')), 100);
        return new;
    end
    $$
    """,
    "create trigger derive_texts_added before insert on contact for each row execute function derive_contact_texts()",
    """
    create trigger derive_texts_changed
    before update of first_name, last_name, display_name, email, phone on contact for each row
    when ((old.first_name, old.last_name, old.display_name, old.email, old.phone)
          is distinct from (new.first_name, new.last_name, new.display_name, new.email, new.phone))
    execute function derive_contact_texts()
    """,
)


def upgrade() -> None:
    """Drop the expressions, which keeps what they computed, and add the trigger."""
    for statement in STATEMENTS:
        op.execute(statement)
