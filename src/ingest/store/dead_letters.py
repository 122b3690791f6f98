"""Dead letters: jobs and requests given up on, kept with their reason and raw bytes until somebody replays or discards them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """A job given up on. `args` are its ids, `body` the raw requests it carried."""

    workspace_id: int
    queue: str
    name: str
    reason: str
    channel_id: int | None = None
    args: dict[str, Any] | None = None
    body: bytes | None = None
    attempts: int = 0
    trace_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as it is kept. `state` is open, replayed or discarded. `body` is left out of lists."""

    id: int
    workspace_id: int
    queue: str
    name: str
    reason: str
    channel_id: int | None
    args: dict[str, Any]
    body: bytes | None
    attempts: int
    trace_id: UUID | None
    state: str
    created_at: datetime


ADD = text("""
    insert into dead_letter (workspace_id, queue, name, reason, channel_id, args, body, attempts, trace_id)
    select workspace_id, queue, name, reason, channel_id, args::jsonb, body, attempts, trace_id
    from unnest(cast(:workspace_ids as bigint[]), cast(:queues as text[]), cast(:names as text[]), cast(:reasons as text[]),
                cast(:channel_ids as bigint[]), cast(:args as text[]), cast(:bodies as bytea[]), cast(:attempts as int[]),
                cast(:traces as uuid[]))
         as new (workspace_id, queue, name, reason, channel_id, args, body, attempts, trace_id)
""")

COLUMNS = "id, workspace_id, queue, name, reason, channel_id, args, {body}, attempts, trace_id, state, created_at"

LIST = text(f"""
    select {COLUMNS.format(body="null::bytea as body")} from dead_letter
    where state = :state and id > :after_id and (cast(:workspace_id as bigint) is null or workspace_id = :workspace_id)
      and (cast(:reason as text) is null or reason like :reason || '%')
    order by id limit :limit
""")  # noqa: S608 - constants of ours

GET = text(f"select {COLUMNS.format(body='body')} from dead_letter where id = :id")  # noqa: S608

REPLAY = text("""
    with chosen as (
        update dead_letter set state = 'replayed', settled_at = now()
        where id = any(:ids) and state = 'open'
        returning id, workspace_id, queue, name, args, body, channel_id, trace_id
    ), counted as (
        insert into tally (workspace_id, channel_id, outcome, reason, count)
        select workspace_id, coalesce(channel_id, 0), 'accepted', 'replayed', 1 from chosen where body is not null
    ), jobs as (
        insert into job (workspace_id, queue, name, args, body, trace_id, is_solo)
        select workspace_id, queue, name, args, body, trace_id, true from chosen
    )
    select id, queue from chosen order by id
""")

DISCARD = text("""
    update dead_letter set state = 'discarded', settled_at = now(), body = null
    where id = any(:ids) and state = 'open'
    returning id
""")

TRIM = text("""
    with gone as (
        delete from dead_letter where id in (
            select id from dead_letter where created_at < :before order by created_at limit :rows for update skip locked
        )
        returning state
    )
    select count(*) as all, count(*) filter (where state = 'open') as open from gone
""")


def add_dead_letters(tx: Connection, new: Sequence[NewDeadLetter]) -> None:
    """Set jobs aside, in one statement."""
    if not new:
        return
    tx.execute(
        ADD,
        {
            "workspace_ids": [each.workspace_id for each in new],
            "queues": [each.queue for each in new],
            "names": [each.name for each in new],
            "reasons": [each.reason for each in new],
            "channel_ids": [each.channel_id for each in new],
            "args": [msgspec.json.encode(each.args or {}).decode() for each in new],
            "bodies": [each.body for each in new],
            "attempts": [each.attempts for each in new],
            "traces": [each.trace_id for each in new],
        },
    )


def list_dead_letters(
    tx: Connection,
    *,
    workspace_id: int | None = None,
    reason: str | None = None,
    state: str = "open",
    after_id: int = 0,
    limit: int = 100,
) -> list[DeadLetter]:
    """Return dead letters by id, without bodies; `reason` is matched from its beginning."""
    rows = tx.execute(
        LIST,
        {"workspace_id": workspace_id, "reason": reason, "state": state, "after_id": after_id, "limit": limit},
    )
    return [DeadLetter(*row) for row in rows]


def get_dead_letter(tx: Connection, dead_letter_id: int) -> DeadLetter | None:
    """Return one dead letter with its body, or None."""
    row = tx.execute(GET, {"id": dead_letter_id}).one_or_none()
    return None if row is None else DeadLetter(*row)


def replay_dead_letters(tx: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Turn open dead letters into jobs again, each handled alone; others are left alone.

    Returns the ids of those that were open, each with its queue, to be rung for after the commit.
    """
    return {row.id: row.queue for row in tx.execute(REPLAY, {"ids": list(ids)})}


def discard_dead_letters(tx: Connection, ids: Sequence[int]) -> list[int]:
    """Give open dead letters up for good, with their bodies; return the ids of those that were open."""
    return sorted(tx.scalars(DISCARD, {"ids": list(ids)}))


def trim_dead_letters(tx: Connection, before: datetime, rows: int = 5000) -> tuple[int, int]:
    """Remove dead letters that are older, the oldest first; return how many went, and how many of them were open."""
    gone = tx.execute(TRIM, {"before": before, "rows": rows}).one()
    return int(gone.all), int(gone.open)
