"""Contacts as the message path sees them: locked in id order, then moved on by what was stored."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, text

from ingest.domain.profiles import FIELDS


class LockedContact(NamedTuple):
    """What storing needs to know of a contact, true until the transaction ends."""

    workspace_id: int
    id: int
    blocked_at: datetime | None
    status: str
    conversation_id: int | None
    active_cycle: date | None
    profile_at: datetime | None
    profile_hash: int | None
    merged_into: int | None
    deletion_job_id: int | None
    last_incoming_at: datetime | None

    @property
    def is_live(self) -> bool:
        """Whether the contact is neither absorbed nor being deleted."""
        return self.merged_into is None and self.deletion_job_id is None


@dataclass(slots=True)
class Activity:
    """What a batch stored for one contact; times are provider times."""

    last_message_at: datetime
    last_channel_id: int
    last_incoming_at: datetime | None = None
    conversation_id: int | None = None
    is_opened: bool = False
    active_cycle: date | None = None
    profile_at: datetime | None = None
    dropped_count: int = 0


LOCK = text("""
    select contact.workspace_id, contact.id, blocked_at, status, conversation_id, active_cycle, profile_at, profile_hash,
           merged_into, deletion_job_id, last_incoming_at
    from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, id)
    join contact using (workspace_id, id)
    order by contact.workspace_id, contact.id
    for no key update of contact
""")

MOVE_ON = text("""
    update contact
    set last_channel_id = case when (new.last_message_at, new.last_channel_id)
                                    > (coalesce(contact.last_message_at, '-infinity'), coalesce(contact.last_channel_id, 0))
                          then new.last_channel_id else contact.last_channel_id end,
        last_message_at = greatest(contact.last_message_at, new.last_message_at),
        last_incoming_at = greatest(contact.last_incoming_at, new.last_incoming_at),
        activity_hour = floor(extract(epoch from greatest(contact.last_message_at, new.last_message_at)) / 3600),
        conversation_id = coalesce(new.conversation_id, contact.conversation_id),
        status = case when new.is_opened then 'open' else contact.status end,
        snoozed_until = case when new.is_opened then null else contact.snoozed_until end,
        active_cycle = coalesce(new.active_cycle, contact.active_cycle),
        profile_at = greatest(contact.profile_at, new.profile_at)
    from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[]), cast(:last_message_ats as timestamptz[]),
                cast(:last_channel_ids as bigint[]), cast(:last_incoming_ats as timestamptz[]),
                cast(:conversation_ids as bigint[]), cast(:opened as boolean[]), cast(:cycles as date[]),
                cast(:profile_ats as timestamptz[]))
         as new (workspace_id, id, last_message_at, last_channel_id, last_incoming_at, conversation_id, is_opened,
                 active_cycle, profile_at)
    where contact.workspace_id = new.workspace_id and contact.id = new.id
""")

# For contacts that were made with messages in mind which then turned out to be stored already.
FORGET_ACTIVITY = text("""
    update contact
    set last_message_at = null, last_incoming_at = null, last_channel_id = null, conversation_id = null, status = 'closed',
        active_cycle = null
    from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, id)
    where contact.workspace_id = wanted.workspace_id and contact.id = wanted.id
""")

COUNT_DROPPED = text("""
    update contact set dropped_count = dropped_count + new.count
    from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[]), cast(:counts as bigint[]))
         as new (workspace_id, id, count)
    where contact.workspace_id = new.workspace_id and contact.id = new.id
""")

PROFILED = text("""
    select contact.id, first_name, last_name, display_name, language, avatar_url, phone, email, country_code, provenance
    from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, id)
    join contact using (workspace_id, id)
""")

SET_PROFILES = text("""
    update contact
    set first_name = coalesce(new.fields ->> 'first_name', contact.first_name),
        last_name = coalesce(new.fields ->> 'last_name', contact.last_name),
        display_name = coalesce(new.fields ->> 'display_name', contact.display_name),
        language = coalesce(new.fields ->> 'language', contact.language),
        avatar_url = coalesce(new.fields ->> 'avatar_url', contact.avatar_url),
        phone = coalesce(new.fields ->> 'phone', contact.phone),
        email = coalesce(new.fields ->> 'email', contact.email),
        country_code = coalesce(new.fields ->> 'country_code', contact.country_code),
        phone_valid = coalesce(new.phone_valid, contact.phone_valid),
        provenance = contact.provenance || new.provenance,
        profile_at = new.profile_at,
        profile_hash = new.profile_hash,
        updated_at = now()
    from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[]), cast(cast(:fields as text[]) as jsonb[]),
                cast(cast(:provenances as text[]) as jsonb[]), cast(:profile_ats as timestamptz[]),
                cast(:hashes as bigint[]), cast(:valids as boolean[]))
         as new (workspace_id, id, fields, provenance, profile_at, profile_hash, phone_valid)
    where contact.workspace_id = new.workspace_id and contact.id = new.id
""")


def lock_contacts(tx: Connection, contacts: Collection[tuple[int, int]]) -> dict[int, LockedContact]:
    """Lock the (workspace, contact) pairs in their order and return those that exist, by contact id.

    Everybody who changes a contact or stores for it takes this lock first, so whatever is read under it stays true.
    """
    ordered = sorted(contacts)
    rows = tx.execute(LOCK, {"workspace_ids": [each[0] for each in ordered], "ids": [each[1] for each in ordered]})
    return {row[1]: LockedContact._make(row) for row in rows.all()}


def move_contacts_on(tx: Connection, activities: Mapping[tuple[int, int], Activity]) -> None:
    """Record what was stored for the (workspace, contact) pairs, which are locked. Newest times win, in any order."""
    if not activities:
        return
    values = list(activities.values())
    tx.execute(
        MOVE_ON,
        {
            "workspace_ids": [key[0] for key in activities],
            "ids": [key[1] for key in activities],
            "last_message_ats": [each.last_message_at for each in values],
            "last_channel_ids": [each.last_channel_id for each in values],
            "last_incoming_ats": [each.last_incoming_at for each in values],
            "conversation_ids": [each.conversation_id for each in values],
            "opened": [each.is_opened for each in values],
            "cycles": [each.active_cycle for each in values],
            "profile_ats": [each.profile_at for each in values],
        },
    )


def forget_activity(tx: Connection, contacts: Sequence[tuple[int, int]]) -> None:
    """Take back the activity that new contacts were made with."""
    if contacts:
        tx.execute(
            FORGET_ACTIVITY, {"workspace_ids": [each[0] for each in contacts], "ids": [each[1] for each in contacts]}
        )


def count_dropped(tx: Connection, counts: Mapping[tuple[int, int], int]) -> None:
    """Add to the contacts' counters of dropped messages."""
    if counts:
        tx.execute(
            COUNT_DROPPED,
            {
                "workspace_ids": [key[0] for key in counts],
                "ids": [key[1] for key in counts],
                "counts": list(counts.values()),
            },
        )


def get_profiles(
    tx: Connection, contacts: Sequence[tuple[int, int]]
) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the profile fields and their provenance of (workspace, contact) pairs, by contact id."""
    rows = tx.execute(
        PROFILED, {"workspace_ids": [each[0] for each in contacts], "ids": [each[1] for each in contacts]}
    )
    return {row.id: ({name: getattr(row, name) for name in FIELDS}, row.provenance) for row in rows}


@dataclass(frozen=True, slots=True)
class ProfileChange:
    """New values of a contact's profile fields; `profile_at` and `profile_hash` are those of the newest facts seen."""

    workspace_id: int
    contact_id: int
    fields: Mapping[str, str]
    provenance: Mapping[str, Any]
    profile_at: datetime | None
    profile_hash: int | None
    phone_valid: bool | None


def set_profiles(tx: Connection, changes: Sequence[ProfileChange]) -> None:
    """Set the changed profile fields of contacts, which are locked."""
    if not changes:
        return
    encode = msgspec.json.encode
    tx.execute(
        SET_PROFILES,
        {
            "workspace_ids": [each.workspace_id for each in changes],
            "ids": [each.contact_id for each in changes],
            "fields": [encode(each.fields).decode() for each in changes],
            "provenances": [encode(each.provenance).decode() for each in changes],
            "profile_ats": [each.profile_at for each in changes],
            "hashes": [each.profile_hash for each in changes],
            "valids": [each.phone_valid for each in changes],
        },
    )
