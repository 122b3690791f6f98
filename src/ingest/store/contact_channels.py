"""A contact's channels as people change them: taken off the contact, so that the address is free again."""

from datetime import datetime

from sqlalchemy import Connection, text

# Aliases go with their identity. Messages keep the identity's id: they stay in the history.
REMOVE = text("""
    delete from identity where workspace_id = :workspace_id and contact_id = :contact_id and channel_id = :channel_id
    returning id
""")
FORGET_LAST = text("""
    update contact set last_channel_id = null, updated_at = :now
    where workspace_id = :workspace_id and id = :contact_id and last_channel_id = :channel_id
""")


def remove_identities(tx: Connection, workspace_id: int, contact_id: int, channel_id: int, now: datetime) -> list[int]:
    """Remove the contact's identities on the channel; return their ids. The contact is locked."""
    given = {"workspace_id": workspace_id, "contact_id": contact_id, "channel_id": channel_id}
    removed = list(tx.scalars(REMOVE, given))
    tx.execute(FORGET_LAST, {**given, "now": now})
    return removed
