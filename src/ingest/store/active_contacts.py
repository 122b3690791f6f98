"""Monthly active contacts: a contact counts once a billing cycle, whoever tries how often."""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Connection, text

ADD = text("""
    insert into active_contact (workspace_id, cycle_start, contact_id, channel_id, reason)
    select * from unnest(cast(:workspace_ids as bigint[]), cast(:cycles as date[]), cast(:contact_ids as bigint[]),
                         cast(:channel_ids as bigint[]), cast(:reasons as text[]))
    on conflict do nothing
""")


def count_active(tx: Connection, rows: Sequence[tuple[int, date, int, int, str]]) -> None:
    """Count contacts as active: (workspace, cycle start, contact, channel, reason: incoming, outgoing or dropped)."""
    if rows:
        workspace_ids, cycles, contact_ids, channel_ids, reasons = (list(column) for column in zip(*rows, strict=True))
        tx.execute(
            ADD,
            {
                "workspace_ids": workspace_ids,
                "cycles": cycles,
                "contact_ids": contact_ids,
                "channel_ids": channel_ids,
                "reasons": reasons,
            },
        )
