"""What became of what was accepted, counted in the transaction that decided it. Rows are added, never changed."""

from collections import Counter
from typing import NamedTuple

from sqlalchemy import Connection, text


class Outcome(NamedTuple):
    """Something that became of an item (or a request), on a channel, for a reason."""

    workspace_id: int
    channel_id: int
    outcome: str
    reason: str = ""


Tally = Counter[Outcome]

ADD = text("""
    insert into tally (workspace_id, channel_id, outcome, reason, count)
    select * from unnest(cast(:workspace_ids as bigint[]), cast(:channel_ids as bigint[]), cast(:outcomes as text[]),
                         cast(:reasons as text[]), cast(:counts as bigint[]))
""")

COMPACT = text("""
    with old as (
        delete from tally where id in (
            select id from tally where at < now() - interval '1 minute' order by id limit :rows for update skip locked
        )
        returning workspace_id, channel_id, outcome, reason, count, at
    )
    insert into tally (workspace_id, channel_id, outcome, reason, count, at)
    select workspace_id, channel_id, outcome, reason, sum(count), date_trunc('hour', min(at)) from old
    group by workspace_id, channel_id, outcome, reason, date_trunc('day', at)
""")


def add_tally(tx: Connection, tally: Tally) -> None:
    """Count the outcomes, in one statement."""
    if tally:
        tx.execute(
            ADD,
            {
                "workspace_ids": [each.workspace_id for each in tally],
                "channel_ids": [each.channel_id for each in tally],
                "outcomes": [each.outcome for each in tally],
                "reasons": [each.reason for each in tally],
                "counts": list(tally.values()),
            },
        )


def compact_tallies(tx: Connection, rows: int = 20_000) -> None:
    """Add up old rows, by day. Sums stay what they were; safe to repeat."""
    tx.execute(COMPACT, {"rows": rows})
