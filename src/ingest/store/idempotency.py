"""Idempotency keys: the answer to a call is kept with the call's own work, and a repeated call gets it again."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

CLAIM = text("""
    insert into idempotency_key (workspace_id, key, fingerprint) values (:workspace_id, :key, :fingerprint)
    on conflict (workspace_id, key) do nothing
""")
FIND = text("select fingerprint, status, body from idempotency_key where workspace_id = :workspace_id and key = :key")
KEEP = text(
    "update idempotency_key set status = :status, body = :body where workspace_id = :workspace_id and key = :key"
)
TRIM = text("delete from idempotency_key where created_at < now() - make_interval(hours => :hours)")


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What the first call was answered. `fingerprint` tells whether the repeated call asks the same."""

    fingerprint: bytes
    status: int
    body: bytes


def claim_key(tx: Connection, workspace_id: int, key: str, fingerprint: bytes) -> KeptAnswer | None:
    """Take the key for this transaction and return None, or return the answer kept under it.

    A call under the same key that is still running is waited for: it either commits its answer or leaves the key to us.
    """
    given = {"workspace_id": workspace_id, "key": key}
    if tx.execute(CLAIM, {**given, "fingerprint": fingerprint}).rowcount:
        return None
    row = tx.execute(FIND, given).one()
    return KeptAnswer(bytes(row.fingerprint), row.status, bytes(row.body))


def keep_answer(tx: Connection, workspace_id: int, key: str, status: int, body: bytes) -> None:
    """Keep the answer under the claimed key."""
    tx.execute(KEEP, {"workspace_id": workspace_id, "key": key, "status": status, "body": body})


def trim_keys(tx: Connection, hours: int = 24) -> int:
    """Remove keys older than that and return how many went."""
    return tx.execute(TRIM, {"hours": hours}).rowcount
