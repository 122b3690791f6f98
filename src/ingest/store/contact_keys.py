"""Contact keys as duplicate detection reads them: who shares a key, and which keys are shared by too many to be one person.

Keys are written where contacts are: by resolving, edits, merges and unmerges. A trigger marks a shared key as stale when
any of these takes the key from a contact.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from ingest.domain.contact_keys import ContactKey
from ingest.domain.suggestions import MAX_SHARERS, CountedKey, Party, PartyState

Contact = tuple[int, int]
"""A workspace's id and the id of a contact in it."""
WorkspaceKey = tuple[int, str]
"""A workspace's id and a match key in it."""

# Contacts of one key are counted up to here: an office line of 100,000 costs no more than one of a thousand.
COUNT_LIMIT = 1000

# Whoever reviews a workspace's pairs sees all that was committed before, and decides alone.
LOCK_DETECTION = text("""
    select pg_advisory_xact_lock(hashtextextended('detect', workspace_id))
    from (select unnest(cast(:workspace_ids as bigint[])) as workspace_id order by 1) as ordered
""")

# Taking the mark off locks the row: a key that is taken from a contact from now on marks it again, after our commit.
TAKE_STALE = text("""
    update shared_key set is_stale = false
    where (workspace_id, match_key) in (
        select workspace_id, match_key from shared_key
        where workspace_id = any(:workspace_ids) and is_stale
        order by 1, 2 limit :limit
        for no key update
    )
    returning workspace_id, match_key
""")

COUNT_KEYS = text("""
    with touched as (
        select contact_key.workspace_id, contact_key.match_key
        from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, contact_id)
        join contact_key using (workspace_id, contact_id)
        union
        select * from unnest(cast(:key_workspace_ids as bigint[]), cast(:match_keys as text[]))
    )
    select touched.workspace_id, touched.match_key, sharers.contact_count, sharers.contact_ids[1 : :listed],
           shared_key.match_key is not null as was_shared
    from touched
    left join shared_key using (workspace_id, match_key)
    cross join lateral (
        select count(distinct id) as contact_count, coalesce(array_agg(distinct id), '{}') as contact_ids
        from (
            select contact.id
            from contact_key
            cross join lateral (
                select id, blocked_at, merged_into, deletion_job_id from contact
                where contact.workspace_id = contact_key.workspace_id and contact.id = contact_key.contact_id
                -- By id: with the condition below in reach, a plan made while there were few walks an index of the live ones.
                offset 0
            ) as contact
            where contact_key.workspace_id = touched.workspace_id and contact_key.match_key = touched.match_key
              and contact.blocked_at is null and contact.merged_into is null and contact.deletion_job_id is null
            limit :most
        ) as holder
    ) as sharers
    where sharers.contact_count > 1 or shared_key.match_key is not null
""")

PARTIES = text("""
    select contact.workspace_id, contact.id,
           case when contact.deletion_job_id is not null then 'deleted'
                when contact.merged_into is not null then 'merged'
                when contact.blocked_at is not null then 'blocked'
                else 'live' end as state,
           contact.merged_into, own.keys, own.match_keys, own.shared_keys
    from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, id)
    join contact using (workspace_id, id)
    cross join lateral (
        select coalesce(array_agg(contact_key.key), '{}') as keys,
               coalesce(array_agg(contact_key.match_key), '{}') as match_keys,
               coalesce(array_agg(shared_key.match_key) filter (where shared_key.match_key is not null), '{}')
                   as shared_keys
        from contact_key
        left join shared_key using (workspace_id, match_key)
        where contact_key.workspace_id = contact.workspace_id and contact_key.contact_id = contact.id
    ) as own
""")

SET_SHARED = text("""
    insert into shared_key (workspace_id, match_key, contact_count, changed_at)
    select workspace_id, match_key, contact_count, :now
    from unnest(cast(:workspace_ids as bigint[]), cast(:match_keys as text[]), cast(:counts as bigint[]))
         as new (workspace_id, match_key, contact_count)
    order by workspace_id, match_key
    on conflict (workspace_id, match_key) do update
    set contact_count = excluded.contact_count, changed_at = excluded.changed_at
    where shared_key.contact_count <> excluded.contact_count
""")

DROP_SHARED = text("""
    delete from shared_key
    using unnest(cast(:workspace_ids as bigint[]), cast(:match_keys as text[])) as gone (workspace_id, match_key)
    where shared_key.workspace_id = gone.workspace_id and shared_key.match_key = gone.match_key
""")

MARK_ABANDONED = text("""
    update shared_key set is_stale = true
    where workspace_id = :workspace_id
      and not exists (select from contact_key where contact_key.workspace_id = shared_key.workspace_id
                                                and contact_key.match_key = shared_key.match_key)
""")

LIST_SHARED = text("""
    select match_key, contact_count, changed_at from shared_key
    where workspace_id = :workspace_id and state = 'open'
    order by contact_count desc, match_key limit :limit
""")

LIST_IDS = text("""
    select id from contact where workspace_id = :workspace_id and id > :after_id order by id limit :limit
""")


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A match key of more than ten contacts. `contact_count` is exact below 1000; from there on there are more."""

    match_key: str
    contact_count: int
    changed_at: datetime


def lock_detection(tx: Connection, workspace_ids: Collection[int]) -> None:
    """Wait until nobody else reviews the workspaces' pairs, and keep others waiting until the transaction ends.

    What is read afterwards includes whatever the one before has written.
    """
    tx.execute(LOCK_DETECTION, {"workspace_ids": sorted(workspace_ids)})


def take_stale_keys(tx: Connection, workspace_ids: Collection[int], limit: int) -> set[WorkspaceKey]:
    """Return shared keys that have lost a contact since they were counted; they count as counted from now on."""
    rows = tx.execute(TAKE_STALE, {"workspace_ids": sorted(workspace_ids), "limit": limit})
    return {(row.workspace_id, row.match_key) for row in rows}


def count_keys(
    tx: Connection, contacts: Collection[Contact], keys: Collection[WorkspaceKey] = ()
) -> dict[int, list[CountedKey]]:
    """Return these keys and all that the contacts have, by workspace, with the live and unblocked contacts that have them.

    Left out are keys of a single contact. One statement; it reads at most 1000 contacts a key.
    """
    rows = tx.execute(
        COUNT_KEYS,
        {
            **_columns(contacts),
            "key_workspace_ids": [workspace_id for workspace_id, _ in keys],
            "match_keys": [key for _, key in keys],
            "listed": MAX_SHARERS + 1,
            "most": COUNT_LIMIT,
        },
    )
    found: dict[int, list[CountedKey]] = {}
    for workspace_id, match_key, contact_count, contact_ids, was_shared in rows:
        counted = CountedKey(match_key, contact_count, tuple(contact_ids), was_shared)
        found.setdefault(workspace_id, []).append(counted)
    return found


def list_parties(tx: Connection, contacts: Collection[Contact]) -> tuple[dict[Contact, Party], set[WorkspaceKey]]:
    """Return the contacts with their state and keys, and which of these keys are known to be shared. One statement."""
    if not contacts:
        return {}, set()
    parties: dict[Contact, Party] = {}
    shared: set[WorkspaceKey] = set()
    for row in tx.execute(PARTIES, _columns(contacts)):
        keys = frozenset(ContactKey(*each) for each in zip(row.keys, row.match_keys, strict=True))
        state: PartyState = row.state
        parties[row.workspace_id, row.id] = Party(row.id, state, keys, row.merged_into)
        shared.update((row.workspace_id, each) for each in row.shared_keys)
    return parties, shared


def mark_shared_keys(tx: Connection, counted: Sequence[tuple[int, CountedKey]], now: datetime) -> None:
    """Write down which keys are shared, of those counted with their workspace, and which no longer are."""
    shared = [(workspace_id, key) for workspace_id, key in counted if key.is_shared]
    if shared:
        given = {**_key_columns(shared), "counts": [key.contact_count for _, key in shared], "now": now}
        tx.execute(SET_SHARED, given)
    no_longer = [(workspace_id, key) for workspace_id, key in counted if key.was_shared and not key.is_shared]
    if no_longer:
        tx.execute(DROP_SHARED, _key_columns(no_longer))


def mark_abandoned_keys(tx: Connection, workspace_id: int) -> None:
    """Mark the shared keys that no contact has any more as stale, so that the next detection drops them."""
    tx.execute(MARK_ABANDONED, {"workspace_id": workspace_id})


def list_shared_keys(tx: Connection, workspace_id: int, limit: int) -> list[SharedKey]:
    """Return the workspace's shared keys, the most shared first."""
    return [SharedKey(*row) for row in tx.execute(LIST_SHARED, {"workspace_id": workspace_id, "limit": limit})]


def list_contact_ids(tx: Connection, workspace_id: int, after_id: int, limit: int) -> list[int]:
    """Return the ids of the workspace's contacts after `after_id`, in order: live, merged and detached ones alike."""
    return list(tx.scalars(LIST_IDS, {"workspace_id": workspace_id, "after_id": after_id, "limit": limit}))


def _columns(contacts: Collection[Contact]) -> dict[str, list[int]]:
    ordered = sorted(contacts)
    return {"workspace_ids": [each[0] for each in ordered], "ids": [each[1] for each in ordered]}


def _key_columns(keys: Sequence[tuple[int, CountedKey]]) -> dict[str, list[int] | list[str]]:
    return {"workspace_ids": [each[0] for each in keys], "match_keys": [each[1].match_key for each in keys]}
