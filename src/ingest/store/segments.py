"""Segments: saved filters of a workspace."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Segment:
    """A saved filter, with the search and the time zone it is read in."""

    id: int
    name: str
    filter: dict[str, Any]
    search: str
    time_zone: str
    created_at: datetime


COLUMNS = "id, name, filter, search, time_zone, created_at"
PAGE = text(f"""
    select {COLUMNS} from segment
    where workspace_id = :workspace_id and case when :cursor < 0 then id < -:cursor else id > :cursor end
    order by case when :cursor < 0 then -id else id end limit :limit
""")  # noqa: S608
FIND = text(f"select {COLUMNS} from segment where workspace_id = :workspace_id and id = :id")  # noqa: S608
# The workspace's row stands for the number of its segments.
COUNT = text("""
    select (select count(*) from segment where workspace_id = :workspace_id) from workspace where id = :workspace_id for update
""")
ADD = text(f"""
    insert into segment (workspace_id, name, filter, search, time_zone, created_by)
    values (:workspace_id, :name, cast(:filter as jsonb), :search, :time_zone, :user_id)
    on conflict do nothing returning {COLUMNS}
""")  # noqa: S608
CHANGE = text(f"""
    update segment set name = :name, filter = cast(:filter as jsonb), search = :search, time_zone = :time_zone,
                       updated_at = now()
    where workspace_id = :workspace_id and id = :id
      and not exists (select from segment as other where other.workspace_id = :workspace_id and other.id <> :id
                      and lower(other.name) = lower(:name))
    returning {COLUMNS}
""")  # noqa: S608
REMOVE = text("delete from segment where workspace_id = :workspace_id and id = :id")
CLAIM_DEFAULTS = text("""
    update workspace set settings = settings || '{"has_default_segments": true}'
    where id = :workspace_id and not settings ? 'has_default_segments'
""")


def list_segments(tx: Connection, workspace_id: int, cursor: int, limit: int) -> list[Segment]:
    """Return the segments after the id, by id; with a negative cursor those before it, nearest first."""
    rows = tx.execute(PAGE, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit})
    return [Segment(*row) for row in rows]


def find_segment(tx: Connection, workspace_id: int, segment_id: int) -> Segment | None:
    """Return the segment, or None."""
    row = tx.execute(FIND, {"workspace_id": workspace_id, "id": segment_id}).one_or_none()
    return None if row is None else Segment(*row)


def count_segments(tx: Connection, workspace_id: int) -> int:
    """Return how many segments there are; nobody else adds one until the transaction ends."""
    return int(tx.execute(COUNT, {"workspace_id": workspace_id}).scalar_one())


def add_segment(
    tx: Connection,
    workspace_id: int,
    *,
    name: str,
    given: dict[str, Any],
    search: str,
    time_zone: str,
    user_id: int | None,
) -> Segment | None:
    """Add the segment and return it; None when the name is taken."""
    row = tx.execute(
        ADD,
        {
            "workspace_id": workspace_id,
            "name": name,
            "filter": msgspec.json.encode(given).decode(),
            "search": search,
            "time_zone": time_zone,
            "user_id": user_id,
        },
    ).one_or_none()
    return None if row is None else Segment(*row)


def change_segment(tx: Connection, workspace_id: int, segment: Segment) -> Segment | None:
    """Write the segment and return it; None when it is gone or its name is another's."""
    row = tx.execute(
        CHANGE,
        {
            "workspace_id": workspace_id,
            "id": segment.id,
            "name": segment.name,
            "filter": msgspec.json.encode(segment.filter).decode(),
            "search": segment.search,
            "time_zone": segment.time_zone,
        },
    ).one_or_none()
    return None if row is None else Segment(*row)


def remove_segment(tx: Connection, workspace_id: int, segment_id: int) -> bool:
    """Remove the segment for good; return whether it was there."""
    return tx.execute(REMOVE, {"workspace_id": workspace_id, "id": segment_id}).rowcount > 0


def claim_default_segments(tx: Connection, workspace_id: int) -> bool:
    """Return whether the workspace still lacks the segments that come with it: true for exactly one caller ever."""
    return tx.execute(CLAIM_DEFAULTS, {"workspace_id": workspace_id}).rowcount > 0
