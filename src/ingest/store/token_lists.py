"""API tokens as their workspace sees them: never what they are, only that they are."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret."""

    id: int
    name: str
    role: str
    user_id: int | None
    created_at: datetime
    last_used_on: date | None
    revoked_at: datetime | None


PAGE = text("""
    select id, name, role, user_id, created_at, last_used_on, revoked_at from api_token
    where workspace_id = :workspace_id and case when :cursor < 0 then id < -:cursor else id > :cursor end
    order by case when :cursor < 0 then -id else id end limit :limit
""")
# The workspace's row stands for the number of its tokens.
COUNT = text("""
    select (select count(*) from api_token where workspace_id = :workspace_id and revoked_at is null)
    from workspace where id = :workspace_id for update
""")
REVOKE = text("""
    update api_token set revoked_at = coalesce(revoked_at, now()) where workspace_id = :workspace_id and id = :id
""")


def list_tokens(tx: Connection, workspace_id: int, cursor: int, limit: int) -> list[Token]:
    """Return the tokens after the id, by id; with a negative cursor those before it, nearest first."""
    rows = tx.execute(PAGE, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit})
    return [Token(*row) for row in rows]


def count_tokens(tx: Connection, workspace_id: int) -> int:
    """Return how many tokens work; nobody else makes one until the transaction ends."""
    return int(tx.execute(COUNT, {"workspace_id": workspace_id}).scalar_one())


def revoke_token(tx: Connection, workspace_id: int, token_id: int) -> bool:
    """Revoke the token; return whether there is such a token. Safe to repeat."""
    return tx.execute(REVOKE, {"workspace_id": workspace_id, "id": token_id}).rowcount > 0
