"""Imports, exports and bulk changes: their progress, and the batches they are cut into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer with its progress. `counts` says how many rows ended how."""

    id: int
    kind: str
    state: str
    options: dict[str, Any]
    file_name: str
    total_count: int
    done_count: int
    counts: dict[str, int]
    source: str
    user_id: int | None
    token_id: int | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state not in {"queued", "running"}


# A batch that was given up on stops the rest; replaying its dead letter goes on.
COLUMNS = """id, kind,
             case when state in ('queued', 'running') and exists (
                 select from dead_letter where dead_letter.workspace_id = transfer.workspace_id
                     and dead_letter.queue = 'transfer' and dead_letter.state = 'open'
                     and dead_letter.args @> jsonb_build_object('transfer_id', transfer.id))
             then 'failed' else state end,
             options, file_name, total_count, done_count, counts, source, user_id, token_id, error,
             created_at, started_at, finished_at, expires_at"""
ADD = text("""
    insert into transfer (workspace_id, kind, options, file_name, source, user_id, token_id, created_at, expires_at)
    values (:workspace_id, :kind, cast(:options as jsonb), :file_name, :source, :user_id, :token_id, :now, :expires_at)
    returning id
""")
ADD_PART = text("""
    insert into transfer_part (workspace_id, transfer_id, position, row_count, content)
    values (:workspace_id, :id, :position, :row_count, :content)
""")
SET_TOTAL = text("""
    update transfer set total_count = :total where workspace_id = :workspace_id and id = :id
""")
FIND = text(f"select {COLUMNS} from transfer where workspace_id = :workspace_id and id = :id")  # noqa: S608
LOCK = text(f"select {COLUMNS} from transfer where workspace_id = :workspace_id and id = :id for update")  # noqa: S608
PAGE = text(f"""
    select {COLUMNS} from transfer
    where workspace_id = :workspace_id and kind = :kind
      and case when :cursor < 0 then id > -:cursor when :cursor > 0 then id < :cursor else true end
    order by case when :cursor < 0 then id else -id end limit :limit
""")  # noqa: S608
FIND_PART = text("""
    select content, row_count, done_at is not null from transfer_part
    where workspace_id = :workspace_id and transfer_id = :id and position = :position
""")
FINISH_PART = text("""
    update transfer_part set content = null, report = cast(:report as jsonb), done_at = :now
    where workspace_id = :workspace_id and transfer_id = :id and position = :position
""")
PROGRESS = text("""
    update transfer
    set done_count = done_count + :done, counts = cast(:counts as jsonb), state = :state,
        total_count = greatest(total_count, done_count + :done),
        started_at = coalesce(started_at, :now), finished_at = case when :is_over then cast(:now as timestamptz) end
    where workspace_id = :workspace_id and id = :id
""")
REPORT = text("""
    select line from transfer_part, jsonb_array_elements(report) as line
    where workspace_id = :workspace_id and transfer_id = :id and (line ->> 0)::int > :after
      and (not :only_problems or line ->> 1 in ('failed', 'skipped'))
    order by (line ->> 0)::int limit :limit
""")
CONTENT = text("""
    select content from transfer_part where workspace_id = :workspace_id and transfer_id = :id and position = :position
""")
TRIM = text("delete from transfer where expires_at < :now")


def add_transfer(
    tx: Connection,
    workspace_id: int,
    kind: str,
    options: Mapping[str, Any],
    *,
    file_name: str = "",
    source: str,
    user_id: int | None,
    token_id: int | None,
    now: datetime,
    expires_at: datetime,
) -> int:
    """Add a transfer and return its id."""
    given = {"source": source, "user_id": user_id, "token_id": token_id, "now": now, "expires_at": expires_at}
    encoded = msgspec.json.encode(dict(options)).decode()
    row = {"workspace_id": workspace_id, "kind": kind, "options": encoded, "file_name": file_name, **given}
    return int(tx.execute(ADD, row).scalar_one())


@dataclass(frozen=True, slots=True)
class PartKey:
    """Which batch of which transfer."""

    workspace_id: int
    transfer_id: int
    position: int

    def as_dict(self) -> dict[str, int]:
        """Return it as parameters."""
        return {"workspace_id": self.workspace_id, "id": self.transfer_id, "position": self.position}


def add_part(tx: Connection, key: PartKey, row_count: int, content: bytes | None) -> None:
    """Add a batch's content."""
    tx.execute(ADD_PART, {**key.as_dict(), "row_count": row_count, "content": content})


def set_total(tx: Connection, workspace_id: int, transfer_id: int, total: int) -> None:
    """Record how many rows there are in all."""
    tx.execute(SET_TOTAL, {"workspace_id": workspace_id, "id": transfer_id, "total": total})


def find_transfer(tx: Connection, workspace_id: int, transfer_id: int) -> Transfer | None:
    """Return the transfer, or None."""
    row = tx.execute(FIND, {"workspace_id": workspace_id, "id": transfer_id}).one_or_none()
    return None if row is None else Transfer(*row)


def lock_transfer(tx: Connection, workspace_id: int, transfer_id: int) -> Transfer | None:
    """Lock and return the transfer, or None."""
    row = tx.execute(LOCK, {"workspace_id": workspace_id, "id": transfer_id}).one_or_none()
    return None if row is None else Transfer(*row)


def list_transfers(tx: Connection, workspace_id: int, kind: str, cursor: int, limit: int) -> list[Transfer]:
    """Return the transfers before the id, newest first; with a negative cursor those after it, nearest first."""
    given = {"workspace_id": workspace_id, "kind": kind, "cursor": cursor, "limit": limit}
    return [Transfer(*row) for row in tx.execute(PAGE, given)]


def find_part(tx: Connection, key: PartKey) -> bytes | None:
    """Return a batch's content, or None when there is no such batch or it is done."""
    row = tx.execute(FIND_PART, key.as_dict()).one_or_none()
    return None if row is None or row[2] or row[0] is None else bytes(row[0])


def finish_part(tx: Connection, key: PartKey, report: Sequence[Any], now: datetime) -> None:
    """Replace a batch's content by what became of its rows."""
    encoded = msgspec.json.encode(list(report)).decode()
    tx.execute(FINISH_PART, {**key.as_dict(), "report": encoded, "now": now})


def mark_progress(
    tx: Connection,
    transfer: Transfer,
    workspace_id: int,
    *,
    done: int,
    counts: Mapping[str, int],
    is_over: bool,
    now: datetime,
) -> str:
    """Add a batch's outcome to the progress of the transfer, which is locked; return its state."""
    total = {name: transfer.counts.get(name, 0) + counts.get(name, 0) for name in {*transfer.counts, *counts}}
    over = "completed_with_errors" if total.get("failed") else "completed"
    state = over if is_over else "running"
    tx.execute(
        PROGRESS,
        {
            "workspace_id": workspace_id,
            "id": transfer.id,
            "done": done,
            "counts": msgspec.json.encode(total).decode(),
            "state": state,
            "is_over": is_over,
            "now": now,
        },
    )
    return state


def list_report(
    tx: Connection, workspace_id: int, transfer_id: int, *, after: int, limit: int, only_problems: bool
) -> list[list[Any]]:
    """Return what became of the rows after that number: [row, outcome, contact id, field, reason] each."""
    given = {"workspace_id": workspace_id, "id": transfer_id, "after": after, "limit": limit}
    return list(tx.scalars(REPORT, {**given, "only_problems": only_problems}))


def find_content(tx: Connection, key: PartKey) -> bytes | None:
    """Return the content that an export's batch has written, or None beyond the last."""
    found = tx.scalar(CONTENT, key.as_dict())
    return None if found is None else bytes(found)


def trim_transfers(tx: Connection, now: datetime) -> int:
    """Remove transfers that have expired, with all they hold; return how many went."""
    return tx.execute(TRIM, {"now": now}).rowcount
