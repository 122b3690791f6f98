"""What else names a deleted contact: raw requests given up on, kept answers, files of transfers, saved filters.

Read in pages of bounded size, because any of them may be large, and changed row by row where a contact is found.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from ingest.store.deletions import Record

# A page ends with the row that reaches this; its last row alone may be larger.
PAGE_BYTES = 4 * 1024 * 1024
PAGE_ROWS = 500

OLDER_REQUESTS = text("""
    select exists (select from job where queue = 'resolve' and workspace_id = :workspace_id and body is not null
                                     and created_at <= :accepted_at)
""")
FROZEN_AT = text("""
    select contact_ids from deletion_batch
    where workspace_id = :workspace_id and deletion_job_id = :id and position >= :first and position < :end
""")
SET_SWEEP = text("""
    update deletion_job set sweep = cast(:sweep as jsonb) where workspace_id = :workspace_id and id = :id
""")

LETTERS = text("""
    select id, body from (
        select id, body, sum(octet_length(body)) over (order by id) - octet_length(body) as bytes_before from (
            select id, body from dead_letter
            where workspace_id = :workspace_id and body is not null and id > :after order by id limit :rows
        ) as page
    ) as page where bytes_before < :bytes order by id
""")
EMPTY_LETTERS = text("""
    update dead_letter set body = null, args = '{}', reason = 'erased', settled_at = coalesce(settled_at, now()),
                           state = case when state = 'open' then 'discarded' else state end
    where workspace_id = :workspace_id and id = any(cast(:ids as bigint[]))
""")

ANSWERS = text("""
    select key, body from idempotency_key
    where workspace_id = :workspace_id and body is not null and key > :after order by key limit :rows
""")
REPLACE_ANSWERS = text("""
    update idempotency_key set status = :status, body = :body
    where workspace_id = :workspace_id and key = any(cast(:keys as text[]))
""")
DROP_ANSWERS = text(
    "delete from idempotency_key where workspace_id = :workspace_id and key = any(cast(:keys as text[]))"
)

# A batch that is being written now would come after the sweep: wait for its end.
WAIT_FOR_TRANSFERS = text("""
    select id from transfer where workspace_id = :workspace_id and state in ('queued', 'running') order by id for update
""")
PARTS = text("""
    select transfer_id, position, kind, form, content from (
        select transfer_id, position, kind, form, content,
               sum(octet_length(content)) over (order by transfer_id, position) - octet_length(content) as bytes_before
        from (
            select part.transfer_id, part.position, transfer.kind, transfer.options ->> 'form' as form, part.content
            from transfer_part as part
            join transfer on transfer.workspace_id = part.workspace_id and transfer.id = part.transfer_id
            where part.workspace_id = :workspace_id and part.content is not null and transfer.kind in ('import', 'export')
              and (part.transfer_id, part.position) > (:after_id, :after_position)
            order by part.transfer_id, part.position limit :rows
        ) as page
    ) as page where bytes_before < :bytes order by transfer_id, position
""")
SET_PART = text("""
    update transfer_part set content = :content
    where workspace_id = :workspace_id and transfer_id = :transfer_id and position = :position
""")
TRANSFERS = text("""
    select id, file_name, options from transfer where workspace_id = :workspace_id and id > :after order by id limit :rows
""")
SET_TRANSFER = text("""
    update transfer set file_name = :file_name, options = cast(:options as jsonb)
    where workspace_id = :workspace_id and id = :id
""")

SEGMENTS = text("select id, name, filter, search from segment where workspace_id = :workspace_id order by id")
SET_SEGMENT = text("""
    update segment set name = :name, filter = cast(:filter as jsonb), search = :search, updated_at = :now
    where workspace_id = :workspace_id and id = :id
""")

BULK_ACTS = text("""
    select id, params from bulk_act
    where workspace_id = :workspace_id and params <> '{}' and id > :after order by id limit :rows
""")
SET_BULK_ACT = text("""
    update bulk_act set params = cast(:params as jsonb) where workspace_id = :workspace_id and id = :id
""")
DELETION_KEYS = text("""
    select id, idempotency_key from deletion_job
    where workspace_id = :workspace_id and idempotency_key is not null and id > :after order by id limit :rows
""")
DROP_DELETION_KEYS = text("""
    update deletion_job set idempotency_key = null where workspace_id = :workspace_id and id = any(cast(:ids as bigint[]))
""")


def has_older_requests(tx: Connection, workspace_id: int, accepted_at: datetime) -> bool:
    """Return whether requests wait that were accepted before that time: what they hold is not settled yet."""
    return bool(tx.scalar(OLDER_REQUESTS, {"workspace_id": workspace_id, "accepted_at": accepted_at}))


def list_frozen_between(tx: Connection, workspace_id: int, deletion_job_id: int, first: int, end: int) -> list[int]:
    """Return the contacts of the batches from `first` on and before `end`, ascending."""
    given = {"workspace_id": workspace_id, "id": deletion_job_id, "first": first, "end": end}
    return sorted({contact_id for ids in tx.scalars(FROZEN_AT, given) for contact_id in ids})


def set_sweep(tx: Connection, workspace_id: int, deletion_job_id: int, sweep: Mapping[str, Any]) -> None:
    """Note how far the sweep has come."""
    encoded = msgspec.json.encode(dict(sweep)).decode()
    tx.execute(SET_SWEEP, {"workspace_id": workspace_id, "id": deletion_job_id, "sweep": encoded})


def list_letters(tx: Connection, workspace_id: int, after_id: int) -> list[tuple[int, bytes]]:
    """Return (id, body) of the next dead letters that carry something."""
    given = {"workspace_id": workspace_id, "after": after_id, "rows": PAGE_ROWS, "bytes": PAGE_BYTES}
    return [(row.id, bytes(row.body)) for row in tx.execute(LETTERS, given)]


def empty_letters(tx: Connection, workspace_id: int, ids: Collection[int]) -> None:
    """Discard these dead letters with what they carry."""
    tx.execute(EMPTY_LETTERS, {"workspace_id": workspace_id, "ids": sorted(ids)})


def list_answers(tx: Connection, workspace_id: int, after_key: str) -> list[tuple[str, bytes]]:
    """Return (idempotency key, kept answer), the next of them; they live for a day."""
    given = {"workspace_id": workspace_id, "after": after_key, "rows": PAGE_ROWS}
    return [(row.key, bytes(row.body)) for row in tx.execute(ANSWERS, given)]


def replace_answers(tx: Connection, workspace_id: int, keys: Collection[str], status: int, body: bytes) -> None:
    """Put this answer in the place of others: the calls stay known, so that repeating them does nothing twice."""
    tx.execute(REPLACE_ANSWERS, {"workspace_id": workspace_id, "keys": sorted(keys), "status": status, "body": body})


def drop_answers(tx: Connection, workspace_id: int, keys: Collection[str]) -> None:
    """Forget the keys with their answers."""
    tx.execute(DROP_ANSWERS, {"workspace_id": workspace_id, "keys": sorted(keys)})


def wait_for_transfers(tx: Connection, workspace_id: int) -> None:
    """Return when no batch of a transfer is under way; none begins until the transaction ends."""
    tx.execute(WAIT_FOR_TRANSFERS, {"workspace_id": workspace_id})


def list_parts(tx: Connection, workspace_id: int, after: Sequence[int]) -> list[Record]:
    """Return the next parts with content (transfer_id, position, kind, form, content) of imports and exports."""
    given = {"workspace_id": workspace_id, "after_id": after[0], "after_position": after[1]}
    return list(tx.execute(PARTS, {**given, "rows": PAGE_ROWS, "bytes": PAGE_BYTES}))


def set_part(tx: Connection, workspace_id: int, transfer_id: int, position: int, content: bytes) -> None:
    """Replace a part's content."""
    given = {"workspace_id": workspace_id, "transfer_id": transfer_id, "position": position, "content": content}
    tx.execute(SET_PART, given)


def list_transfers(tx: Connection, workspace_id: int, after_id: int) -> list[Record]:
    """Return the next transfers (id, file_name, options)."""
    return list(tx.execute(TRANSFERS, {"workspace_id": workspace_id, "after": after_id, "rows": PAGE_ROWS}))


def set_transfer(tx: Connection, workspace_id: int, transfer_id: int, file_name: str, options: Any) -> None:
    """Replace a transfer's file name and options."""
    encoded = msgspec.json.encode(options).decode()
    tx.execute(
        SET_TRANSFER, {"workspace_id": workspace_id, "id": transfer_id, "file_name": file_name, "options": encoded}
    )


def list_segments(tx: Connection, workspace_id: int) -> list[Record]:
    """Return all segments (id, name, filter, search); there are at most 500."""
    return list(tx.execute(SEGMENTS, {"workspace_id": workspace_id}))


def set_segment(
    tx: Connection, workspace_id: int, segment_id: int, *, name: str, given: Any, search: str, now: datetime
) -> None:
    """Replace a segment's name, filter and search."""
    encoded = msgspec.json.encode(given).decode()
    row = {
        "workspace_id": workspace_id,
        "id": segment_id,
        "name": name,
        "filter": encoded,
        "search": search,
        "now": now,
    }
    tx.execute(SET_SEGMENT, row)


def list_bulk_acts(tx: Connection, workspace_id: int, after_id: int) -> list[Record]:
    """Return the next bulk acts that have parameters (id, params)."""
    return list(tx.execute(BULK_ACTS, {"workspace_id": workspace_id, "after": after_id, "rows": PAGE_ROWS}))


def set_bulk_act(tx: Connection, workspace_id: int, bulk_act_id: int, params: Any) -> None:
    """Replace a bulk act's parameters."""
    encoded = msgspec.json.encode(params).decode()
    tx.execute(SET_BULK_ACT, {"workspace_id": workspace_id, "id": bulk_act_id, "params": encoded})


def list_deletion_keys(tx: Connection, workspace_id: int, after_id: int) -> list[Record]:
    """Return the next deletions that were asked for under a key (id, idempotency_key)."""
    return list(tx.execute(DELETION_KEYS, {"workspace_id": workspace_id, "after": after_id, "rows": PAGE_ROWS}))


def drop_deletion_keys(tx: Connection, workspace_id: int, ids: Collection[int]) -> None:
    """Forget the keys of these deletions."""
    tx.execute(DROP_DELETION_KEYS, {"workspace_id": workspace_id, "ids": sorted(ids)})
