"""The purge of detached contacts: rows removed in bounded numbers, counted, and what is left certified.

The job's row is locked throughout, so two workers never purge for the same job at once. Nobody else touches the rows: a
detached contact is live for no one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InternalError, ProgrammingError

from ingest.store.contact_registry import purged_references
from ingest.store.deletions import BARE_ADDRESS, FREED, Record

# A row that cannot be removed is the contact's trouble; everything else (locks, connections) is the moment's.
FAULTS_OF_DATA = (IntegrityError, DataError, InternalError, ProgrammingError)

NEXT_BATCH = text("""
    select position, contact_ids from deletion_batch
    where workspace_id = :workspace_id and deletion_job_id = :id and done_at is null
    order by position limit 1
""")
GIVEN_UP = text("""
    select contact_id from deletion_failure
    where workspace_id = :workspace_id and deletion_job_id = :id and attempts >= :attempts
""")
# Ids of the batch that are there and belong to this very job: whatever else has the id is out of scope.
STILL_THERE = text("""
    select id from contact where workspace_id = :workspace_id and id = any(:ids) and deletion_job_id = :id order by id
""")

# What a message carries along goes first; its id's hash stays for a while, so that a redelivery brings nothing back. A
# message that was changed meanwhile is not where it was, and goes with the next part.
PURGE_MESSAGES = text("""
    with doomed as materialized (
        select ctid as place, id, channel_id, external_hash from message
        where workspace_id = :workspace_id and contact_id = any(:ids) limit :rows
    ), remembered as (
        insert into message_fingerprint (workspace_id, channel_id, external_hash, expires_at)
        select :workspace_id, channel_id, external_hash, :expires_at from doomed
        on conflict (channel_id, external_hash) do update set expires_at = excluded.expires_at
    ), effects as (
        delete from message_effect using doomed
        where message_effect.workspace_id = :workspace_id and message_effect.message_id = doomed.id
        returning 1
    ), messages as (
        delete from message using doomed where message.ctid = doomed.place returning 1
    )
    select (select count(*) from messages) as message, (select count(*) from effects) as message_effect,
           (select count(*) from doomed) as doomed
""")

PURGE = {
    (each.table, each.column): text(f"""
        delete from {each.table} where ctid = any(array(
            select ctid from {each.table} where workspace_id = :workspace_id and {each.column} = any(:ids) limit :rows))
    """)  # noqa: S608 - names from the registry
    for each in purged_references()
}

IDENTIFIERS = text(f"""
    select contact.id, contact.phone, contact.email,
           (select coalesce(array_agg({BARE_ADDRESS}), '{{}}') from identity
            where workspace_id = :workspace_id and contact_id = contact.id) as addresses,
           (select coalesce(array_agg(split_part(key, ':', 2)), '{{}}') from contact_key
            where workspace_id = :workspace_id and contact_id = contact.id) as keys
    from contact where workspace_id = :workspace_id and id = any(:ids)
""")  # noqa: S608 - a constant
# What is known by a contact's address alone: effects that wait for a message, and read marks.
PURGE_BY_ADDRESS = text(f"""
    with theirs as materialized (
        select channel_id, {BARE_ADDRESS} as address from identity
        where workspace_id = :workspace_id and contact_id = any(:ids)
    ), effects as (
        delete from message_effect using theirs
        where message_effect.workspace_id = :workspace_id and message_effect.channel_id = theirs.channel_id
          and message_effect.actor = theirs.address and message_effect.message_id is null
        returning 1
    ), marks as (
        delete from watermark using theirs
        where watermark.channel_id = theirs.channel_id and watermark.address = theirs.address
        returning 1
    )
    select (select count(*) from effects) as message_effect, (select count(*) from marks) as watermark
""")  # noqa: S608 - a constant
PURGE_IDENTITIES = text("delete from identity where workspace_id = :workspace_id and contact_id = any(:ids)")

# The trigger on contact keys has marked those that lost a holder.
PURGE_SHARED_KEYS = text("""
    delete from shared_key
    where workspace_id = :workspace_id and is_stale
      and not exists (select from contact_key where contact_key.workspace_id = shared_key.workspace_id
                                                and contact_key.match_key = shared_key.match_key)
""")

ADD_TOMBSTONES = text("""
    insert into tombstone (workspace_id, contact_id, deletion_job_id, actor_id, deleted_at)
    select :workspace_id, id, :id, cast(:actor_id as bigint), :now from unnest(cast(:ids as bigint[])) as id order by id
    on conflict do nothing
""")
PURGE_CONTACTS = text("""
    delete from contact where workspace_id = :workspace_id and id = any(:ids) and deletion_job_id = :id
""")

ADD_FAILURES = text("""
    insert into deletion_failure as failure (workspace_id, deletion_job_id, contact_id, error, at)
    values (:workspace_id, :id, :contact_id, :error, :now)
    on conflict (workspace_id, deletion_job_id, contact_id)
    do update set attempts = failure.attempts + 1, error = excluded.error, at = excluded.at
    returning attempts
""")
FORGET_FAILURES = text("""
    delete from deletion_failure
    where workspace_id = :workspace_id and deletion_job_id = :id and contact_id = any(:ids)
""")

MARK_BATCH = text("""
    update deletion_batch set done_at = :now
    where workspace_id = :workspace_id and deletion_job_id = :id and position = :position
""")
PROGRESS = text("""
    update deletion_job
    set state = 'running', started_at = coalesce(started_at, :now), purged_count = purged_count + :purged,
        row_counts = cast(:row_counts as jsonb)
    where workspace_id = :workspace_id and id = :id
""")
FINISH = text("""
    update deletion_job
    set state = :state, finished_at = :now, started_at = coalesce(started_at, :now)
    where workspace_id = :workspace_id and id = :id
""")
ADD_CERTIFICATE = text("""
    insert into erasure_certificate (workspace_id, deletion_job_id, body, digest, issued_at)
    values (:workspace_id, :id, cast(:body as jsonb), :digest, :now)
    on conflict (workspace_id, deletion_job_id) do update
    set body = excluded.body, digest = excluded.digest, issued_at = excluded.issued_at
""")
TOMBSTONES = text("""
    select contact_id from tombstone where workspace_id = :workspace_id and deletion_job_id = :id order by contact_id
""")


def name_of_fault(fault: DBAPIError) -> str:
    """Return what kind of fault it was, without any data."""
    return type(fault.orig or fault).__name__


def find_next_batch(tx: Connection, workspace_id: int, deletion_job_id: int) -> Record | None:
    """Return the first batch that is not done (position, contact_ids), or None."""
    return tx.execute(NEXT_BATCH, {"workspace_id": workspace_id, "id": deletion_job_id}).first()


def list_given_up(tx: Connection, workspace_id: int, deletion_job_id: int, attempts: int) -> list[int]:
    """Return the contacts that have failed that often, ascending."""
    given = {"workspace_id": workspace_id, "id": deletion_job_id, "attempts": attempts}
    return sorted(tx.scalars(GIVEN_UP, given))


def list_still_there(tx: Connection, workspace_id: int, deletion_job_id: int, ids: Sequence[int]) -> list[int]:
    """Return those of the contacts that this job has detached and not removed yet."""
    return list(tx.scalars(STILL_THERE, {"workspace_id": workspace_id, "id": deletion_job_id, "ids": list(ids)}))


def purge_messages(
    tx: Connection, workspace_id: int, ids: Sequence[int], *, rows: int, now: datetime, remember: timedelta
) -> tuple[dict[str, int], bool]:
    """Remove up to `rows` messages with what hangs on them; return the removed rows, and whether that was all.

    Their ids' hashes stay for the time `remember`.
    """
    given = {"workspace_id": workspace_id, "ids": list(ids), "rows": rows, "expires_at": now + remember}
    counts = dict(tx.execute(PURGE_MESSAGES, given).mappings().one())
    doomed = counts.pop("doomed")
    return counts, doomed < rows and counts["message"] == doomed


def purge_children(tx: Connection, workspace_id: int, ids: Sequence[int], *, rows: int) -> tuple[dict[str, int], bool]:
    """Remove up to `rows` rows of each other table; return the removed rows, and whether that was all."""
    given = {"workspace_id": workspace_id, "ids": list(ids), "rows": rows}
    counts: dict[str, int] = {}
    is_all = True
    for (table, _), statement in PURGE.items():
        removed = tx.execute(statement, given).rowcount
        counts[table] = counts.get(table, 0) + removed
        is_all = is_all and removed < rows
    return counts, is_all


def list_identifiers(tx: Connection, workspace_id: int, ids: Sequence[int]) -> set[str]:
    """Return all addresses, phones and emails of the contacts."""
    found: set[str] = set()
    for row in tx.execute(IDENTIFIERS, {"workspace_id": workspace_id, "ids": list(ids), "freed": FREED}):
        found.update(filter(None, (row.phone, row.email, *row.addresses, *row.keys)))
    return found


def purge_contacts(
    tx: Connection, workspace_id: int, deletion_job_id: int, ids: Sequence[int], *, actor_id: int | None, now: datetime
) -> dict[str, int]:
    """Remove the contacts, whose rows are gone, with their identities; leave tombstones. Returns the removed rows."""
    given = {
        "workspace_id": workspace_id,
        "id": deletion_job_id,
        "ids": list(ids),
        "freed": FREED,
        "actor_id": actor_id,
        "now": now,
    }
    counts = dict(tx.execute(PURGE_BY_ADDRESS, given).mappings().one())
    counts["identity"] = tx.execute(PURGE_IDENTITIES, given).rowcount
    counts["shared_key"] = tx.execute(PURGE_SHARED_KEYS, given).rowcount
    tx.execute(ADD_TOMBSTONES, given)
    counts["contact"] = tx.execute(PURGE_CONTACTS, given).rowcount
    tx.execute(FORGET_FAILURES, given)
    return counts


def add_failure(
    tx: Connection, workspace_id: int, deletion_job_id: int, contact_id: int, *, error: str, now: datetime
) -> int:
    """Note that the contact could not be purged; return how often that was."""
    given = {
        "workspace_id": workspace_id,
        "id": deletion_job_id,
        "contact_id": contact_id,
        "error": error,
        "now": now,
    }
    return int(tx.execute(ADD_FAILURES, given).scalar_one())


def mark_batch_done(tx: Connection, workspace_id: int, deletion_job_id: int, position: int, now: datetime) -> None:
    """Mark a batch done."""
    given = {"workspace_id": workspace_id, "id": deletion_job_id, "position": position, "now": now}
    tx.execute(MARK_BATCH, given)


def add_progress(tx: Connection, job: Record, counts: Mapping[str, int], now: datetime) -> None:
    """Add removed rows to the job's figures; the job's row is locked."""
    total = {**job.row_counts}
    for table, removed in counts.items():
        if removed:
            total[table] = total.get(table, 0) + removed
    given = {
        "workspace_id": job.workspace_id,
        "id": job.id,
        "purged": counts.get("contact", 0),
        "row_counts": msgspec.json.encode(total).decode(),
        "now": now,
    }
    tx.execute(PROGRESS, given)


def finish_deletion(tx: Connection, workspace_id: int, deletion_job_id: int, state: str, now: datetime) -> None:
    """Mark the job finished."""
    tx.execute(FINISH, {"workspace_id": workspace_id, "id": deletion_job_id, "state": state, "now": now})


def get_schema_version(tx: Connection) -> str:
    """Return which schema the database has: the release that deleted."""
    return str(tx.scalar(text("select max(version_num) from alembic_version")))


def list_tombstones(tx: Connection, workspace_id: int, deletion_job_id: int) -> list[int]:
    """Return the contacts that the job has deleted, ascending."""
    return list(tx.scalars(TOMBSTONES, {"workspace_id": workspace_id, "id": deletion_job_id}))


def add_certificate(
    tx: Connection, workspace_id: int, deletion_job_id: int, body: Mapping[str, Any], *, digest: bytes, now: datetime
) -> None:
    """Keep the certificate of erasure."""
    given = {
        "workspace_id": workspace_id,
        "id": deletion_job_id,
        "body": msgspec.json.encode(body).decode(),
        "digest": digest,
        "now": now,
    }
    tx.execute(ADD_CERTIFICATE, given)
