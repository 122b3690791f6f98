"""The audit log: who did what to whom. Lines can only be added, and each holds the hash of the one before it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, text

from ingest.domain.access import Principal

ADD = text("""
    insert into audit_entry (workspace_id, source, user_id, token_id, role, action, outcome, target_ids, data)
    values (:workspace_id, :source, :user_id, :token_id, :role, :action, :outcome, :target_ids, cast(:data as jsonb))
""")

# The first line whose hash is not what its content and the line before it give.
FIRST_BROKEN = text("""
    select id from (
        select id, hash, previous_hash, lag(hash) over (order by id) as hash_before, lag(id) over (order by id) as id_before,
               sha256(coalesce(previous_hash, '') || convert_to(jsonb_build_array(
                   workspace_id, id, extract(epoch from at), source, user_id, token_id, role, action,
                   outcome, target_ids, data)::text, 'UTF8')) as expected
        from audit_entry where workspace_id = :workspace_id
    ) as line
    where hash <> expected or previous_hash is distinct from hash_before or id <> coalesce(id_before, 0) + 1
    order by id limit 1
""")


def add_audit_entry(
    tx: Connection,
    principal: Principal,
    action: str,
    *,
    target_ids: Sequence[int] = (),
    outcome: Literal["done", "refused"] = "done",
    data: Mapping[str, Any] | None = None,
) -> None:
    """Add a line. `data` holds ids, counts and names of fields; never a message, phone or email.

    Lines of one workspace wait for each other until commit, so add it last.
    """
    tx.execute(
        ADD,
        {
            "workspace_id": principal.workspace_id,
            "source": principal.source,
            "user_id": principal.user_id,
            "token_id": principal.token_id,
            "role": principal.role,
            "action": action,
            "outcome": outcome,
            "target_ids": list(target_ids),
            "data": msgspec.json.encode(data or {}).decode(),
        },
    )


def find_broken_audit_entry(tx: Connection, workspace_id: int) -> int | None:
    """Return the id of the first line that was changed, or that follows a missing one; None when all is well."""
    found: int | None = tx.scalar(FIRST_BROKEN, {"workspace_id": workspace_id})
    return found
