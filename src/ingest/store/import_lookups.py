"""Whom the rows of an import mean, looked up as sets."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, text

from ingest.domain.contact_keys import match_key

BY_KEYS = text("""
    select wanted.key, contact.id
    from unnest(cast(:keys as text[]), cast(:match_keys as text[])) as wanted (key, match_key)
    join contact_key on contact_key.workspace_id = :workspace_id and contact_key.match_key = wanted.match_key
        and contact_key.key = wanted.key and contact_key.is_primary
    join contact on contact.workspace_id = :workspace_id and contact.id = contact_key.contact_id
    where contact.merged_into is null and contact.deletion_job_id is null
    order by contact.id
""")
BY_IDS = text("""
    with recursive way (asked, id, merged_into, deletion_job_id) as (
        select id, id, merged_into, deletion_job_id from contact where workspace_id = :workspace_id and id = any(:ids)
        union all
        select way.asked, contact.id, contact.merged_into, contact.deletion_job_id
        from way join contact on contact.workspace_id = :workspace_id and contact.id = way.merged_into
    )
    select asked, id from way where merged_into is null and deletion_job_id is null
""")
USERS = text("""
    select lower(email), id from workspace_user
    where workspace_id = :workspace_id and removed_at is null and not is_invited and lower(email) = any(:emails)
""")
PUT_TAGS = text("""
    insert into contact_tag (workspace_id, contact_id, tag_id, source, created_at)
    select distinct :workspace_id, contact_id, tag_id, :source, now()
    from unnest(cast(:contact_ids as bigint[]), cast(:tag_ids as bigint[])) as new (contact_id, tag_id)
    on conflict do nothing
""")
SET_MARKS = text("""
    update contact
    set assignee_id = coalesce(new.assignee_id, contact.assignee_id),
        lifecycle_id = coalesce(new.lifecycle_id, contact.lifecycle_id), updated_at = now()
    from unnest(cast(:ids as bigint[]), cast(:assignees as bigint[]), cast(:stages as bigint[]))
         as new (id, assignee_id, lifecycle_id)
    where contact.workspace_id = :workspace_id and contact.id = new.id
""")


def find_by_keys(tx: Connection, workspace_id: int, keys: Collection[str]) -> dict[str | int, list[int]]:
    """Return the live contacts that have each key as their phone or email."""
    if not keys:
        return {}
    ordered = sorted(set(keys))
    given = {"workspace_id": workspace_id, "keys": ordered, "match_keys": [match_key(key) for key in ordered]}
    found: dict[str | int, list[int]] = {}
    for key, contact_id in tx.execute(BY_KEYS, given):
        found.setdefault(key, []).append(contact_id)
    return found


def find_by_ids(tx: Connection, workspace_id: int, ids: Collection[int]) -> dict[str | int, list[int]]:
    """Return the live contact that each id leads to, through merges."""
    if not ids:
        return {}
    rows = tx.execute(BY_IDS, {"workspace_id": workspace_id, "ids": sorted(set(ids))})
    return {asked: [contact_id] for asked, contact_id in rows}


def find_users(tx: Connection, workspace_id: int, emails: Collection[str]) -> dict[str, int]:
    """Return the users with these addresses, by lower-case address."""
    if not emails:
        return {}
    given = {"workspace_id": workspace_id, "emails": sorted({email.lower() for email in emails})}
    return {row[0]: row[1] for row in tx.execute(USERS, given)}


def put_tag_pairs(tx: Connection, workspace_id: int, pairs: Sequence[tuple[int, int]], source: str) -> None:
    """Put tags on contacts: (contact, tag) pairs."""
    if pairs:
        contact_ids, tag_ids = (list(column) for column in zip(*pairs, strict=True))
        given = {"workspace_id": workspace_id, "contact_ids": contact_ids, "tag_ids": tag_ids, "source": source}
        tx.execute(PUT_TAGS, given)


def set_marks(tx: Connection, workspace_id: int, marks: Sequence[tuple[int, int | None, int | None]]) -> None:
    """Set assignee and lifecycle stage of contacts: (contact, user, stage); None leaves alone."""
    if marks:
        ids, assignees, stages = (list(column) for column in zip(*marks, strict=True))
        given = {"workspace_id": workspace_id, "ids": ids, "assignees": assignees, "stages": stages}
        tx.execute(SET_MARKS, given)
