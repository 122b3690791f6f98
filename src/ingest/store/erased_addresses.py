"""Addresses of deleted contacts, as salted hashes: a request that waited while its contact was deleted brings nothing back.

They are kept when the purge removes the identities, or before, when somebody comes with an address whose contact is gone:
the address is then taken off it. Accepting a deletion leaves addresses alone, or ten thousand contacts could not be detached
while somebody waits for the answer.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from ingest.store.deletions import BARE_ADDRESS, FREED

# Of two deletions that had the same address, one after the other, the later one counts.
REMEMBER = text(f"""
    insert into erased_address (workspace_id, channel_id, address_hash, deletion_job_id, erased_at, expires_at)
    select distinct on (1, 2, 3) identity.workspace_id, channel_id,
           sha256(cast(:salt as bytea) || convert_to(channel_id || ':' || {BARE_ADDRESS}, 'UTF8')),
           job.id, job.created_at, job.created_at + cast(:span as interval)
    from contact
    join identity on identity.workspace_id = contact.workspace_id and identity.contact_id = contact.id
    join deletion_job as job on job.workspace_id = contact.workspace_id and job.id = contact.deletion_job_id
    where contact.workspace_id = any(cast(:workspace_ids as bigint[])) and contact.id = any(cast(:ids as bigint[]))
    order by 1, 2, 3, job.created_at desc
    on conflict (channel_id, address_hash)
    do update set deletion_job_id = excluded.deletion_job_id, erased_at = excluded.erased_at, expires_at = excluded.expires_at
    where erased_address.erased_at <= excluded.erased_at
""")  # noqa: S608 - a constant
# A deletion that is being cancelled has its contacts locked: whoever waited for that finds them live.
LOCK_DETACHED = text("""
    select id from contact
    where workspace_id = any(cast(:workspace_ids as bigint[])) and id = any(cast(:ids as bigint[]))
      and deletion_job_id is not null
    order by workspace_id, id for no key update
""")
FREE = text("""
    update identity set address = :freed || identity.id || :freed || identity.address
    from contact
    where contact.workspace_id = any(cast(:workspace_ids as bigint[])) and contact.id = any(cast(:ids as bigint[]))
      and contact.deletion_job_id is not null
      and identity.workspace_id = contact.workspace_id and identity.contact_id = contact.id
      and not starts_with(identity.address, :freed)
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
    tx: Connection, workspace_ids: Collection[int], contact_ids: Collection[int], *, salt: bytes, span: timedelta
) -> None:
    """Keep the addresses of those of the contacts that are detached, for the time `span`. Safe to repeat."""
    given = {
        "workspace_ids": list(workspace_ids),
        "ids": list(contact_ids),
        "salt": salt,
        "freed": FREED,
        "span": span,
    }
    tx.execute(REMEMBER, given)


def lock_detached(tx: Connection, workspace_ids: Collection[int], contact_ids: Collection[int]) -> list[int]:
    """Lock those of the contacts that are detached, and return them."""
    return list(tx.scalars(LOCK_DETACHED, {"workspace_ids": list(workspace_ids), "ids": list(contact_ids)}))


def free_addresses(tx: Connection, workspace_ids: Collection[int], contact_ids: Collection[int]) -> None:
    """Take the addresses off those of the contacts that are detached. Safe to repeat."""
    tx.execute(FREE, {"workspace_ids": list(workspace_ids), "ids": list(contact_ids), "freed": FREED})


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
