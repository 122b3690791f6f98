"""Makes accepted requests durable: one job row a workspace and group, one statement, one commit.

The web process is asyncio, and this is its only statement on the hot path, so it goes through psycopg directly. Being a
single statement in autocommit mode it is one round trip and one transaction.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate

import msgspec
from psycopg import AsyncConnection

from ingest.jobs.types import ResolveRequests
from ingest.store.arrays import array_text


class RawRequest(msgspec.Struct, frozen=True, array_like=True):
    """A proved request as it is kept until a worker has parsed it.

    `accepted_at` is aware UTC. `channel_id` is 0 where the call came to an app's URL. `headers` are the few that parsing
    needs, never credentials.
    """

    workspace_id: int
    channel_id: int
    app_id: int
    accepted_at: datetime
    trace_id: bytes
    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class IntakeRow(msgspec.Struct, frozen=True, array_like=True):
    """A group of requests of one workspace, encoded: what becomes a job row, or a record of the spool."""

    workspace_id: int
    weight: int
    trace_id: bytes
    counts: dict[int, int]
    body: bytes


ROW_REQUESTS = 50

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(list[RawRequest])

# Arrays as their texts, and all bodies as one that the server cuts apart: psycopg takes several times as long for lists,
# whose types it has to find out.
ADD_ROWS = f"""
    with counted as (
        insert into tally (workspace_id, channel_id, outcome, count)
        select workspace_id, channel_id, 'accepted', count
        from unnest(%s::bigint[], %s::bigint[], %s::bigint[]) as new (workspace_id, channel_id, count)
    )
    insert into job (workspace_id, queue, name, body, weight, trace_id)
    select workspace_id, '{ResolveRequests.queue}', '{ResolveRequests.name}', substring(bodies from start for size), weight,
           trace_id
    from (select %b::bytea as bodies) as group_body,
         unnest(%s::bigint[], %s::int[], %s::int[], %s::int[], %s::uuid[]) as new (workspace_id, start, size, weight, trace_id)
"""  # noqa: S608 - constants of ours


def encode_rows(requests: Sequence[RawRequest]) -> list[IntakeRow]:
    """Return the requests as rows of one workspace and at most a hundred each, in order of arrival within a workspace.

    A row is the least that a claim can take: one of five hundred would be a long wait for somebody else.
    """
    groups: dict[int, list[RawRequest]] = {}
    for request in requests:
        groups.setdefault(request.workspace_id, []).append(request)
    return [
        IntakeRow(
            workspace_id,
            len(some),
            some[0].trace_id,
            dict(Counter(request.channel_id for request in some)),
            _encoder.encode(some),
        )
        for workspace_id, group in groups.items()
        for start in range(0, len(group), ROW_REQUESTS)
        if (some := group[start : start + ROW_REQUESTS])
    ]


def encode_requests(requests: Sequence[RawRequest]) -> bytes:
    """Return the requests as the body of a job row."""
    return _encoder.encode(requests)


def decode_requests(body: bytes) -> list[RawRequest]:
    """Return the requests of a job row's body."""
    return _requests.decode(body)


async def add_intake_rows(connection: AsyncConnection[object], rows: Sequence[IntakeRow]) -> None:
    """Insert the rows and count them as accepted; durable when this returns. The connection is in autocommit mode."""
    tallies = [(row.workspace_id, channel_id, count) for row in rows for channel_id, count in row.counts.items()]
    sizes = [len(row.body) for row in rows]
    ends = list(accumulate(sizes))
    await connection.execute(
        ADD_ROWS,
        (
            array_text([workspace_id for workspace_id, _, _ in tallies]),
            array_text([channel_id for _, channel_id, _ in tallies]),
            array_text([count for _, _, count in tallies]),
            b"".join([row.body for row in rows]),
            array_text([row.workspace_id for row in rows]),
            array_text([1 + end - size for end, size in zip(ends, sizes, strict=True)]),
            array_text(sizes),
            array_text([row.weight for row in rows]),
            array_text([row.trace_id.hex() for row in rows]),
        ),
    )


def split_requests(body: bytes, pieces: int) -> list[tuple[bytes, int]]:
    """Return the body's requests as at most `pieces` bodies of about equal size, each with its number of requests."""
    requests = decode_requests(body)
    size = -(-len(requests) // pieces)
    groups = [requests[start : start + size] for start in range(0, len(requests), size)]
    return [(encode_requests(group), len(group)) for group in groups]
