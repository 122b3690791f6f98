"""Lanes: what a claim leaves for later, and what waits behind it.

A part that is put back is a row of its own, added in the transaction that completes the row it came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

PUT_BACK = text("""
    insert into job (workspace_id, queue, name, args, body, weight, due_at, trace_id, created_at, lane)
    select workspace_id, queue, name, args, piece.body, piece.weight, due_at, trace_id, created_at, piece.lane
    from unnest(cast(:origins as bigint[]), cast(:lanes as int[]), cast(:bodies as bytea[]), cast(:weights as int[]))
         as piece (origin, lane, body, weight)
    join job on job.id = piece.origin
""")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a claimed job that is left for a later claim: what becomes a row of its own in the lane."""

    origin_id: int
    lane: int
    body: bytes
    weight: int


def put_back(tx: Connection, pieces: Sequence[Piece]) -> None:
    """Add jobs for parts of claimed ones, as old as those, in one statement. The caller completes the claimed ones."""
    if not pieces:
        return
    tx.execute(
        PUT_BACK,
        {
            "origins": [piece.origin_id for piece in pieces],
            "lanes": [piece.lane for piece in pieces],
            "bodies": [piece.body for piece in pieces],
            "weights": [piece.weight for piece in pieces],
        },
    )


WAITING_WEIGHT = text("""
    select coalesce(sum(weight), 0) from job
    where queue = :queue and due_at <= now() and (leased_until is null or leased_until < now())
""")


def waiting_weight(tx: Connection, queue: str) -> int:
    """Return how much is due and held by nobody."""
    return int(tx.execute(WAITING_WEIGHT, {"queue": queue}).scalar_one())


NEWEST_BODY = text("""
    select body from job
    where queue = :queue and workspace_id = :workspace_id and lane = 0
      and due_at <= now() and (leased_until is null or leased_until < now())
    order by due_at desc, id desc
    limit 1
""")


def find_newest_body(tx: Connection, queue: str, workspace_id: int) -> bytes | None:
    """Return the body of the workspace's last ordinary job in line, None when none is waiting."""
    found: bytes | None = tx.execute(NEWEST_BODY, {"queue": queue, "workspace_id": workspace_id}).scalar()
    return found
