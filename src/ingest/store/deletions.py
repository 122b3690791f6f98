"""Deletion jobs: accepted with their contacts frozen and detached, in sets; told about while they run."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from ingest.domain.actors import Actor
from ingest.domain.deletions import BATCH_CONTACTS

Record = Row[Any]
"""A row as it was read."""

# What stands before an address of a detached contact once somebody else came with it: the unique key is free for a new
# contact, and the purge still knows what to look for. No address begins with a control character.
FREED = "\x1f"
# The address of an identity, whether it was freed or not.
BARE_ADDRESS = "case when starts_with(address, :freed) then split_part(address, :freed, 3) else address end"

ALL_LIVE = text("""
    select id from contact where workspace_id = :workspace_id and merged_into is null and deletion_job_id is null order by id
""")

ABSORBED = text("""
    with recursive inside as (
        select id from contact where workspace_id = :workspace_id and merged_into = any(cast(:ids as bigint[]))
        union
        select contact.id from contact join inside on contact.merged_into = inside.id
        where contact.workspace_id = :workspace_id
    )
    select id from inside order by id
""")

# One row, because ten thousand would take longer to fetch than to lock. Without an order of its own the aggregate keeps
# that of the locks.
LOCK = text("""
    with locked as materialized (
        select id, merged_into, blocked_at is not null as is_blocked, deletion_job_id,
               merged_into is null and deletion_job_id is null as is_live
        from contact where workspace_id = :workspace_id and id = any(cast(:ids as bigint[]))
        order by id for no key update
    )
    select coalesce(array_agg(id) filter (where is_live), '{}') as live_ids,
           count(*) filter (where is_live and is_blocked) as blocked_count,
           min(merged_into) as merged_into, min(deletion_job_id) as deletion_job_id
    from locked where id <> all(cast(:unwanted as bigint[]))
""")

ADD_JOB = text("""
    insert into deletion_job (workspace_id, selection, state, contact_count, absorbed_count, keep_block, actor_id,
                              idempotency_key, created_at, purge_after)
    values (:workspace_id, :selection, :state, :contact_count, :absorbed_count, :keep_block, cast(:actor_id as bigint),
            cast(:idempotency_key as text), :now, :purge_after)
    returning id
""")

ADD_BATCHES = text("""
    insert into deletion_batch (workspace_id, deletion_job_id, position, contact_ids)
    select :workspace_id, :job_id, position, (cast(:ids as bigint[]))[position * :size + 1 : (position + 1) * :size]
    from generate_series(0, (cardinality(cast(:ids as bigint[])) - 1) / :size) as position
""")

DETACH = text("""
    update contact set deletion_job_id = :job_id, snoozed_until = null
    where workspace_id = :workspace_id and id = any(cast(:ids as bigint[]))
""")

BLOCKED_ADDRESSES = text("""
    select identity.channel_id, identity.address
    from contact join identity on identity.workspace_id = contact.workspace_id and identity.contact_id = contact.id
    where contact.workspace_id = :workspace_id and contact.id = any(cast(:ids as bigint[])) and contact.blocked_at is not null
""")
KEEP_BLOCKS = text("""
    insert into block_list (workspace_id, channel_id, address_hash)
    select :workspace_id, channel_id, hash from unnest(cast(:channel_ids as bigint[]), cast(:hashes as bytea[]))
           as kept (channel_id, hash)
    on conflict do nothing
""")

FIND_REPEAT = text("""
    select deletion_job.id, contact_count, absorbed_count from deletion_job
    where workspace_id = :workspace_id and idempotency_key = :idempotency_key
""")
# The job that already has every one of the contacts, detached or gone. The first of them tells which it could be, so that a
# deletion that is no repeat costs two look-ups here.
FIND_JOB_OF = text("""
    select job.id, contact_count, absorbed_count
    from deletion_job as job
    where job.workspace_id = :workspace_id and job.id = :job_id
      and state <> 'cancelled' and contact_count = cardinality(cast(:ids as bigint[]))
      and contact_count = (
          select count(*) from unnest(cast(:ids as bigint[])) as wanted (id)
          where exists (select from contact where workspace_id = :workspace_id and contact.id = wanted.id
                                              and deletion_job_id = job.id)
             or exists (select from tombstone where workspace_id = :workspace_id and contact_id = wanted.id
                                                and deletion_job_id = job.id))
""")
JOB_OF_ONE = text("""
    select coalesce(
        (select deletion_job_id from contact where workspace_id = :workspace_id and id = :id),
        (select deletion_job_id from tombstone where workspace_id = :workspace_id and contact_id = :id))
""")

GET_JOB = text("""
    select job.*, (select count(*) from deletion_failure as failure
                   where failure.workspace_id = job.workspace_id and failure.deletion_job_id = job.id) as failed_count
    from deletion_job as job where workspace_id = :workspace_id and id = :id
""")
LIST_JOBS = text("""
    select job.*, (select count(*) from deletion_failure as failure
                   where failure.workspace_id = job.workspace_id and failure.deletion_job_id = job.id) as failed_count
    from deletion_job as job
    where workspace_id = :workspace_id and (cast(:before_id as bigint) is null or id < :before_id)
    order by id desc limit :limit
""")
LIST_FAILURES = text("""
    select contact_id, attempts, error, at from deletion_failure
    where workspace_id = :workspace_id and deletion_job_id = :id order by contact_id limit 1000
""")
FIND_CERTIFICATE = text("""
    select body, digest, issued_at from erasure_certificate where workspace_id = :workspace_id and deletion_job_id = :id
""")

LOCK_JOB = text("select * from deletion_job where workspace_id = :workspace_id and id = :id for update")
CANCEL = text(
    "update deletion_job set state = 'cancelled', finished_at = :now where workspace_id = :workspace_id and id = :id"
)
FROZEN = text("""
    select unnest(contact_ids) as id from deletion_batch
    where workspace_id = :workspace_id and deletion_job_id = :id order by 1
""")
REATTACH = text("""
    update contact set deletion_job_id = null where workspace_id = :workspace_id and id = any(cast(:ids as bigint[]))
""")
# An address that a new contact has taken meanwhile stays with that one.
RESTORE_IDENTITIES = text("""
    update identity set address = split_part(identity.address, :freed, 3)
    where workspace_id = :workspace_id and contact_id = any(cast(:ids as bigint[])) and starts_with(identity.address, :freed)
      and not exists (select from identity as taken where taken.channel_id = identity.channel_id
                                                      and taken.address = split_part(identity.address, :freed, 3))
""")


@dataclass(frozen=True, slots=True)
class NewDeletion:
    """A deletion to be added, with its frozen set: the contacts that were selected and those absorbed by them."""

    workspace_id: int
    selection: str
    selected_ids: Sequence[int]
    absorbed_ids: Sequence[int]
    keep_block: bool
    actor: Actor
    idempotency_key: str | None
    purge_after: datetime

    @property
    def ids(self) -> list[int]:
        """All contacts that go, ascending."""
        return sorted({*self.selected_ids, *self.absorbed_ids})


def list_all_live(tx: Connection, workspace_id: int) -> list[int]:
    """Return every contact of the workspace that is not merged away or deleted, ascending."""
    return list(tx.scalars(ALL_LIVE, {"workspace_id": workspace_id}))


def list_absorbed(tx: Connection, workspace_id: int, ids: Sequence[int]) -> list[int]:
    """Return the contacts that merges had put into these, however deep, ascending."""
    return list(tx.scalars(ABSORBED, {"workspace_id": workspace_id, "ids": list(ids)}))


@dataclass(frozen=True, slots=True)
class Locked:
    """The wanted contacts under their locks: those that are live, and where the others went (one of them)."""

    live_ids: list[int]
    blocked_count: int
    merged_into: int | None
    deletion_job_id: int | None


def lock_for_deletion(tx: Connection, workspace_id: int, wanted: Sequence[int], absorbed: Sequence[int] = ()) -> Locked:
    """Lock the wanted contacts and those absorbed by them, in the order of their ids."""
    unwanted = {*absorbed}.difference(wanted)
    every = sorted({*wanted, *absorbed})
    given = {"workspace_id": workspace_id, "ids": every, "unwanted": sorted(unwanted)}
    return Locked(*tx.execute(LOCK, given).one())


def add_deletion(tx: Connection, new: NewDeletion, now: datetime) -> int:
    """Add the job with its batches and detach the contacts; return the job's id."""
    given = {
        "workspace_id": new.workspace_id,
        "selection": new.selection,
        "state": "waiting" if new.purge_after > now else "queued",
        "contact_count": len(new.selected_ids),
        "absorbed_count": len(new.absorbed_ids),
        "keep_block": new.keep_block,
        "actor_id": new.actor.id,
        "idempotency_key": new.idempotency_key,
        "purge_after": new.purge_after,
        "now": now,
    }
    job_id = int(tx.execute(ADD_JOB, given).scalar_one())
    given = {
        "workspace_id": new.workspace_id,
        "job_id": job_id,
        "ids": new.ids,
        "size": BATCH_CONTACTS,
    }
    for statement in (ADD_BATCHES, DETACH):
        tx.execute(statement, given)
    return job_id


def list_blocked_addresses(tx: Connection, workspace_id: int, ids: Sequence[int]) -> list[tuple[int, str]]:
    """Return (channel, address) of the blocked ones among the contacts."""
    rows = tx.execute(BLOCKED_ADDRESSES, {"workspace_id": workspace_id, "ids": list(ids)})
    return [(row.channel_id, row.address) for row in rows]


def keep_blocks(tx: Connection, workspace_id: int, kept: Collection[tuple[int, bytes]]) -> None:
    """Put (channel, hash of the address) on the block list."""
    given = {
        "workspace_id": workspace_id,
        "channel_ids": [channel_id for channel_id, _ in kept],
        "hashes": [digest for _, digest in kept],
    }
    tx.execute(KEEP_BLOCKS, given)


def find_repeat(tx: Connection, workspace_id: int, idempotency_key: str | None, ids: Sequence[int]) -> Record | None:
    """Return the job that the same request has made before, by its key or by having the very same contacts, or None."""
    if idempotency_key is not None:
        given = {"workspace_id": workspace_id, "idempotency_key": idempotency_key}
        found = tx.execute(FIND_REPEAT, given).first()
        if found is not None:
            return found
    if not ids:
        return None
    job_id = tx.scalar(JOB_OF_ONE, {"workspace_id": workspace_id, "id": ids[0]})
    if job_id is None:
        return None
    return tx.execute(FIND_JOB_OF, {"workspace_id": workspace_id, "ids": list(ids), "job_id": job_id}).first()


def find_deletion(tx: Connection, workspace_id: int, deletion_job_id: int) -> Record | None:
    """Return the job with its progress, or None."""
    return tx.execute(GET_JOB, {"workspace_id": workspace_id, "id": deletion_job_id}).first()


def list_deletions(tx: Connection, workspace_id: int, before_id: int | None = None, limit: int = 50) -> list[Record]:
    """Return the workspace's jobs, newest first; `before_id` continues a page."""
    return list(tx.execute(LIST_JOBS, {"workspace_id": workspace_id, "before_id": before_id, "limit": limit}))


def list_failures(tx: Connection, workspace_id: int, deletion_job_id: int) -> list[Record]:
    """Return the contacts that could not be purged, at most 1,000."""
    return list(tx.execute(LIST_FAILURES, {"workspace_id": workspace_id, "id": deletion_job_id}))


def find_certificate(tx: Connection, workspace_id: int, deletion_job_id: int) -> Record | None:
    """Return the certificate of erasure, or None while the job is not done."""
    return tx.execute(FIND_CERTIFICATE, {"workspace_id": workspace_id, "id": deletion_job_id}).first()


def lock_deletion(tx: Connection, workspace_id: int, deletion_job_id: int) -> Record | None:
    """Lock the job's row and return it, or None."""
    return tx.execute(LOCK_JOB, {"workspace_id": workspace_id, "id": deletion_job_id}).first()


def list_frozen(tx: Connection, workspace_id: int, deletion_job_id: int) -> list[int]:
    """Return the ids of the job's frozen set, ascending."""
    return list(tx.scalars(FROZEN, {"workspace_id": workspace_id, "id": deletion_job_id}))


def cancel_deletion(tx: Connection, workspace_id: int, deletion_job_id: int, ids: Sequence[int], now: datetime) -> None:
    """Give the contacts back, with those of their identities that nobody has taken meanwhile."""
    given = {"workspace_id": workspace_id, "id": deletion_job_id, "ids": list(ids), "freed": FREED, "now": now}
    for statement in (REATTACH, RESTORE_IDENTITIES, CANCEL):
        tx.execute(statement, given)
