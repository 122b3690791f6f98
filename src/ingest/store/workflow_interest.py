"""Whether anybody waits for news: most workspaces have no workflow, and then a message needs no follow-up."""

from collections.abc import Collection

from sqlalchemy import Connection, text

INTERESTED = text("select distinct workspace_id from workflow where state = 'published' and workspace_id = any(:ids)")


def list_interested(tx: Connection, workspace_ids: Collection[int]) -> set[int]:
    """Return the workspaces that have a published workflow."""
    return set(tx.scalars(INTERESTED, {"ids": list(workspace_ids)}))
