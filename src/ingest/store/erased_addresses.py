"""Addresses of deleted contacts, as salted hashes: a request that waited while its contact was deleted brings nothing back."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from ingest.store.deletions import FREED

REMEMBER = text("""
    insert into erased_address (workspace_id, channel_id, address_hash, deletion_job_id, erased_at, expires_at)
    select workspace_id, channel_id,
           sha256(cast(:salt as bytea) || convert_to(channel_id || ':' || split_part(address, :freed, 3), 'UTF8')),
           :deletion_job_id, :now, :expires_at
    from identity where workspace_id = :workspace_id and contact_id = any(cast(:ids as bigint[]))
    on conflict (channel_id, address_hash)
    do update set deletion_job_id = excluded.deletion_job_id, erased_at = excluded.erased_at, expires_at = excluded.expires_at
""")
FORGET = text("delete from erased_address where workspace_id = :workspace_id and deletion_job_id = :deletion_job_id")
ANY_SINCE = text("""
    select exists (select from erased_address where workspace_id = any(cast(:workspace_ids as bigint[])) and erased_at > :since)
""")
FIND = text("""
    select channel_id, encode(address_hash, 'hex'), erased_at from erased_address
    join unnest(cast(:channel_ids as bigint[]), cast(:hashes as text[])) as wanted (channel_id, hash)
      using (channel_id)
    where address_hash = decode(hash, 'hex')
""")


def remember_addresses(
    tx: Connection,
    workspace_id: int,
    deletion_job_id: int,
    ids: Collection[int],
    *,
    salt: bytes,
    now: datetime,
    span: timedelta,
) -> None:
    """Keep the addresses of these contacts, which are detached already, for the time `span`."""
    given = {
        "workspace_id": workspace_id,
        "deletion_job_id": deletion_job_id,
        "ids": list(ids),
        "salt": salt,
        "freed": FREED,
        "now": now,
        "expires_at": now + span,
    }
    tx.execute(REMEMBER, given)


def forget_addresses(tx: Connection, workspace_id: int, deletion_job_id: int) -> None:
    """Forget what a deletion that was cancelled had kept."""
    tx.execute(FORGET, {"workspace_id": workspace_id, "deletion_job_id": deletion_job_id})


def were_any_erased(tx: Connection, workspace_ids: Collection[int], since: datetime) -> bool:
    """Return whether the workspaces had a deletion after that time. Of most batches none had."""
    return bool(tx.scalar(ANY_SINCE, {"workspace_ids": list(workspace_ids), "since": since}))


def find_erased(tx: Connection, wanted: Collection[tuple[int, bytes]]) -> dict[tuple[int, bytes], datetime]:
    """Return when each of the (channel, address hash) pairs was erased; others are absent."""
    rows = tx.execute(FIND, {"channel_ids": [pair[0] for pair in wanted], "hashes": [pair[1].hex() for pair in wanted]})
    return {(channel_id, bytes.fromhex(digest)): erased_at for channel_id, digest, erased_at in rows}
