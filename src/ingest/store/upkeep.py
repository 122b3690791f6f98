"""Statements of the upkeep: what has outlived its use goes, in small pieces."""

from sqlalchemy import Connection, text

TRY_LOCK = text("select pg_try_advisory_xact_lock(hashtext('ingest.chore'), hashtext(:name))")

EXPIRE_EFFECTS = text("""
    with gone as (
        delete from message_effect where (workspace_id, id) in (
            select workspace_id, id from message_effect
            where message_id is null and expires_at < now() limit :rows for update skip locked
        )
        returning kind
    )
    select count(*) from gone
""")

TRIM = {
    "dropped_message": text("""
        delete from dropped_message where (channel_id, external_hash) in (
            select channel_id, external_hash from dropped_message where at < now() - interval '30 days' limit :rows)
    """),
    "erased_address": text("""
        delete from erased_address where (channel_id, address_hash) in (
            select channel_id, address_hash from erased_address where expires_at < now() limit :rows)
    """),
    "message_fingerprint": text("""
        delete from message_fingerprint where (channel_id, external_hash) in (
            select channel_id, external_hash from message_fingerprint where expires_at < now() limit :rows)
    """),
}


def try_chore_lock(tx: Connection, name: str) -> bool:
    """Return whether this transaction is now the only one doing the chore."""
    return bool(tx.execute(TRY_LOCK, {"name": name}).scalar_one())


def expire_effects(tx: Connection, rows: int = 5000) -> int:
    """Drop effects whose message has not come within a day; return how many."""
    return int(tx.execute(EXPIRE_EFFECTS, {"rows": rows}).scalar_one())


def trim_history(tx: Connection, rows: int = 5000) -> dict[str, int]:
    """Drop what has passed its retention; return how many rows of each table."""
    return {table: tx.execute(statement, {"rows": rows}).rowcount for table, statement in TRIM.items()}
