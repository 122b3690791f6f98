"""Mailboxes: which channel takes the mail of an address."""

from sqlalchemy import Connection, text

FIND = text("""
    select workspace_id, id from channel
    where code = 'email_mime' and lower(account) = lower(:mailbox) and state = 'connected'
    order by id limit 1
""")


def find_mailbox(tx: Connection, mailbox: str) -> tuple[int, int] | None:
    """Return the workspace and the channel that take an address's mail, or None.

    An address with a plus-tag belongs to the mailbox without it, unless it is one itself. Where several workspaces claim
    a mailbox, the first that connected it has it.
    """
    local, at, domain = mailbox.rpartition("@")
    for address in dict.fromkeys((mailbox, f"{local.partition('+')[0]}{at}{domain}")):
        row = tx.execute(FIND, {"mailbox": address}).one_or_none()
        if row is not None:
            return row.workspace_id, row.id
    return None
