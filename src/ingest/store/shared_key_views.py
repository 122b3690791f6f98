"""Keys that so many contacts share that no pairs are suggested for them."""

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A key and how many contacts have it."""

    match_key: str
    contact_count: int


LIST = text("""
    select match_key, contact_count from shared_key where workspace_id = :workspace_id and state = 'open'
    order by contact_count desc, match_key limit :limit
""")


def list_shared_keys(tx: Connection, workspace_id: int, limit: int) -> list[SharedKey]:
    """Return the workspace's shared keys, the most shared first."""
    return [SharedKey(*row) for row in tx.execute(LIST, {"workspace_id": workspace_id, "limit": limit})]
