"""Contacts as people and programs change them: made by hand, edited field by field, as sets.

Times and provenance are written with the values, so that a channel's later facts know what they may not replace.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text

COLUMNS = ("first_name", "last_name", "phone", "email", "country_code", "language", "avatar_url")


@dataclass(frozen=True, slots=True)
class EditedContact:
    """What an edit starts from. The contact is locked."""

    id: int
    columns: Mapping[str, str | None]
    fields: Mapping[str, str]
    provenance: Mapping[str, Any]
    phone_valid: bool | None


@dataclass(frozen=True, slots=True)
class ContactEdit:
    """New values of one contact: `columns` that change, `fields` as they are to be in the end, provenance to add."""

    id: int
    columns: Mapping[str, str | None] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    phone_valid: bool | None = None


# In order, so that two transactions wait for each other in one direction only.
LOCK_KEYS = text("""
    select pg_advisory_xact_lock(hashtextextended(key, :workspace_id))
    from (select key from unnest(cast(:keys as text[])) as wanted (key) order by key) as ordered
""")

FIND = text("""
    select id, first_name, last_name, phone, email, country_code, language, avatar_url, fields, provenance, phone_valid
    from contact where workspace_id = :workspace_id and id = any(:ids)
""")

RESERVE = text("select nextval(pg_get_serial_sequence('contact', 'id')) from generate_series(1, :count)")

ADD = text("""
    insert into contact (workspace_id, id, first_name, last_name, phone, phone_valid, email, country_code, language,
                         avatar_url, fields, provenance, source, created_at, updated_at)
    select :workspace_id, id, coalesce(columns ->> 'first_name', ''), columns ->> 'last_name', columns ->> 'phone',
           phone_valid, columns ->> 'email', columns ->> 'country_code', columns ->> 'language',
           columns ->> 'avatar_url', fields, provenance, :source, :now, :now
    from unnest(cast(:ids as bigint[]), cast(cast(:columns as text[]) as jsonb[]),
                cast(cast(:fields as text[]) as jsonb[]), cast(cast(:provenances as text[]) as jsonb[]),
                cast(:phone_valids as boolean[])) as new (id, columns, fields, provenance, phone_valid)
""")

CHANGE = text("""
    update contact
    set first_name = case when columns ? 'first_name' then coalesce(columns ->> 'first_name', '') else first_name end,
        last_name = case when columns ? 'last_name' then columns ->> 'last_name' else last_name end,
        phone = case when columns ? 'phone' then columns ->> 'phone' else phone end,
        phone_valid = case when columns ? 'phone' then new.phone_valid else contact.phone_valid end,
        email = case when columns ? 'email' then columns ->> 'email' else email end,
        country_code = case when columns ? 'country_code' then columns ->> 'country_code' else country_code end,
        language = case when columns ? 'language' then columns ->> 'language' else language end,
        avatar_url = case when columns ? 'avatar_url' then columns ->> 'avatar_url' else avatar_url end,
        fields = new.fields,
        provenance = contact.provenance || new.provenance,
        updated_at = :now
    from unnest(cast(:ids as bigint[]), cast(cast(:columns as text[]) as jsonb[]),
                cast(cast(:fields as text[]) as jsonb[]), cast(cast(:provenances as text[]) as jsonb[]),
                cast(:phone_valids as boolean[])) as new (id, columns, fields, provenance, phone_valid)
    where contact.workspace_id = :workspace_id and contact.id = new.id
""")

# The default key of a kind becomes the new one; keys that were kept beside it stay.
DROP_KEYS = text("""
    delete from contact_key
    using unnest(cast(:ids as bigint[]), cast(:schemes as text[])) as changed (contact_id, scheme)
    where contact_key.workspace_id = :workspace_id and contact_key.contact_id = changed.contact_id
      and contact_key.is_primary and starts_with(contact_key.key, changed.scheme)
""")
SET_KEYS = text("""
    insert into contact_key (workspace_id, contact_id, key, match_key, origin_contact_id)
    select :workspace_id, contact_id, key, match_key, contact_id
    from unnest(cast(:ids as bigint[]), cast(:keys as text[]), cast(:match_keys as text[]))
         as new (contact_id, key, match_key)
    on conflict (workspace_id, contact_id, key) do update set is_primary = true, is_verified = true
""")

ADD_EVENTS = text("""
    insert into contact_event (workspace_id, contact_id, origin_contact_id, conversation_id, kind, source, actor_id, data, at)
    select :workspace_id, contact_id, contact_id, conversation_id, :kind, :source, :actor_id, data, :now
    from unnest(cast(:ids as bigint[]), cast(:conversation_ids as bigint[]), cast(cast(:datas as text[]) as jsonb[]))
         as new (contact_id, conversation_id, data)
""")

SET_ASSIGNEE = text("""
    update contact set assignee_id = :user_id, updated_at = :now
    where workspace_id = :workspace_id and id = any(:ids) and assignee_id is distinct from :user_id
    returning id
""")
SET_LIFECYCLE = text("""
    update contact set lifecycle_id = :stage_id, updated_at = :now
    where workspace_id = :workspace_id and id = :id and lifecycle_id is distinct from :stage_id
    returning id
""")


def lock_keys(tx: Connection, workspace_id: int, keys: Collection[str]) -> None:
    """Let nobody else make a contact under these keys until the transaction ends."""
    if keys:
        tx.execute(LOCK_KEYS, {"workspace_id": workspace_id, "keys": sorted(set(keys))})


def get_edited(tx: Connection, workspace_id: int, ids: Sequence[int]) -> dict[int, EditedContact]:
    """Return what edits of these contacts start from, by id. The contacts are locked."""
    rows = tx.execute(FIND, {"workspace_id": workspace_id, "ids": list(ids)})
    return {
        row.id: EditedContact(
            row.id, {name: getattr(row, name) for name in COLUMNS}, row.fields, row.provenance, row.phone_valid
        )
        for row in rows
    }


def reserve_contact_ids(tx: Connection, count: int) -> list[int]:
    """Return that many fresh ids; what is not used is lost, which is harmless."""
    return list(tx.scalars(RESERVE, {"count": count})) if count else []


def add_edited_contacts(
    tx: Connection, workspace_id: int, new: Sequence[ContactEdit], source: str, now: datetime
) -> None:
    """Make the contacts under ids reserved beforehand."""
    if new:
        tx.execute(ADD, {**_edits(workspace_id, new, now), "source": source})


def change_contacts(tx: Connection, workspace_id: int, edits: Sequence[ContactEdit], now: datetime) -> None:
    """Write the edits; the contacts are locked."""
    if edits:
        tx.execute(CHANGE, _edits(workspace_id, edits, now))


def replace_keys(
    tx: Connection,
    workspace_id: int,
    changed: Sequence[tuple[int, str]],
    keys: Sequence[tuple[int, str, str]],
) -> None:
    """Replace default keys: `changed` names the (contact, scheme) pairs that lose theirs, `keys` are the new ones as
    (contact, key, match key).
    """
    if changed:
        ids, schemes = (list(column) for column in zip(*changed, strict=True))
        tx.execute(DROP_KEYS, {"workspace_id": workspace_id, "ids": ids, "schemes": schemes})
    if keys:
        ids, names, matches = (list(column) for column in zip(*sorted(set(keys)), strict=True))
        tx.execute(SET_KEYS, {"workspace_id": workspace_id, "ids": ids, "keys": names, "match_keys": matches})


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A line of one contact's timeline. `data` holds ids and names of fields, never values."""

    contact_id: int
    data: Mapping[str, Any] = field(default_factory=dict)
    conversation_id: int | None = None


def add_contact_events(
    tx: Connection,
    workspace_id: int,
    kind: str,
    events: Sequence[NewEvent],
    *,
    source: str,
    actor_id: int | None,
    now: datetime,
) -> None:
    """Add a line of this kind to each timeline."""
    if not events:
        return
    tx.execute(
        ADD_EVENTS,
        {
            "workspace_id": workspace_id,
            "kind": kind,
            "source": source,
            "actor_id": actor_id,
            "now": now,
            "ids": [each.contact_id for each in events],
            "conversation_ids": [each.conversation_id for each in events],
            "datas": [msgspec.json.encode(each.data).decode() for each in events],
        },
    )


def set_assignee(
    tx: Connection, workspace_id: int, ids: Sequence[int], user_id: int | None, now: datetime
) -> list[int]:
    """Assign the contacts, which are locked, and return the ids of those that had another assignee."""
    given = {"workspace_id": workspace_id, "ids": list(ids), "user_id": user_id, "now": now}
    return list(tx.scalars(SET_ASSIGNEE, given))


def set_lifecycle(tx: Connection, workspace_id: int, contact_id: int, stage_id: int | None, now: datetime) -> bool:
    """Move the contact, which is locked, to the stage; return whether it was in another."""
    given = {"workspace_id": workspace_id, "id": contact_id, "stage_id": stage_id, "now": now}
    return tx.execute(SET_LIFECYCLE, given).first() is not None


def _edits(workspace_id: int, edits: Sequence[ContactEdit], now: datetime) -> dict[str, Any]:
    encode = msgspec.json.encode
    return {
        "workspace_id": workspace_id,
        "now": now,
        "ids": [each.id for each in edits],
        "columns": [encode(each.columns).decode() for each in edits],
        "fields": [encode(each.fields).decode() for each in edits],
        "provenances": [encode(each.provenance).decode() for each in edits],
        "phone_valids": [each.phone_valid for each in edits],
    }
