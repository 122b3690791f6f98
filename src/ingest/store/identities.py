"""Identities: a contact's addresses on channels. One unique key, (channel, address), decides who somebody is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, text

from ingest.domain.profiles import Facts
from ingest.store.contacts import Activity

Address = tuple[int, str]
"""A channel's id and an address on it."""


class FoundIdentity(NamedTuple):
    """Where an address leads: the identity (not the alias) and the contact that owns it now."""

    identity_id: int
    workspace_id: int
    contact_id: int


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """An identity to be made, with its contact unless it claims one. `at` is the time of its newest facts.

    `activity` is what the contact's first messages will amount to: written with the contact, it saves an update that would
    touch every index.
    """

    workspace_id: int
    channel_id: int
    address: str
    at: datetime
    facts: Facts
    provenance: dict[str, Any]
    claimed_contact_id: int | None = None
    activity: Activity | None = None


FIND = text("""
    select identity.channel_id, identity.address, coalesce(identity.alias_of, identity.id), identity.workspace_id,
           identity.contact_id
    from unnest(cast(:channel_ids as bigint[]), cast(:addresses as text[])) as wanted (channel_id, address)
    join identity using (channel_id, address)
""")

# One statement, so that an identity that lost the race to another transaction leaves no contact behind. Rows are inserted
# in the order of their unique key: two transactions wait for each other in one direction only.
ADD = text("""
    with new as materialized (
        select *, coalesce(claimed_contact_id, nextval('contact_id_seq')) as contact_id
        from unnest(
            cast(:workspace_ids as bigint[]), cast(:channel_ids as bigint[]), cast(:addresses as text[]),
            cast(:ats as timestamptz[]), cast(:claimed as bigint[]), cast(:profiles as text[]),
            cast(:provenances as text[]), cast(:hashes as bigint[]), cast(:phone_valids as boolean[]),
            cast(:first_names as text[]), cast(:last_names as text[]), cast(:display_names as text[]),
            cast(:phones as text[]), cast(:emails as text[]), cast(:countries as text[]), cast(:languages as text[]),
            cast(:avatars as text[]), cast(:last_message_ats as timestamptz[]), cast(:last_incoming_ats as timestamptz[]),
            cast(:conversation_ids as bigint[]), cast(:cycles as date[])
        ) as row (workspace_id, channel_id, address, at, claimed_contact_id, profile, provenance, profile_hash,
                  phone_valid, first_name, last_name, display_name, phone, email, country_code, language, avatar_url,
                  last_message_at, last_incoming_at, conversation_id, active_cycle)
    ), won as (
        insert into identity (workspace_id, channel_id, address, contact_id, origin_contact_id, profile, connected_at)
        select workspace_id, channel_id, address, contact_id, contact_id, profile::jsonb, at from new
        order by channel_id, address
        on conflict (channel_id, address) do nothing
        returning id, workspace_id, channel_id, address, contact_id
    ), made as (
        insert into contact (workspace_id, id, first_name, last_name, display_name, phone, phone_valid, email,
                             country_code, language, avatar_url, provenance, profile_at, profile_hash, source,
                             activity_hour, last_message_at, last_incoming_at, last_channel_id, conversation_id, status,
                             active_cycle)
        select new.workspace_id, new.contact_id, coalesce(first_name, ''), last_name, display_name, phone, phone_valid,
               email, country_code, language, avatar_url, provenance::jsonb, at, profile_hash, 'channel',
               floor(extract(epoch from coalesce(last_message_at, at)) / 3600), last_message_at, last_incoming_at,
               case when last_message_at is not null then channel_id end, conversation_id,
               case when conversation_id is not null then 'open' else 'closed' end, active_cycle
        from new join won using (channel_id, address)
        where claimed_contact_id is null
    )
    select channel_id, address, id, workspace_id, contact_id from won
""")

ADD_KEYS = text("""
    insert into contact_key (workspace_id, contact_id, key, match_key, is_verified, origin_contact_id)
    select workspace_id, contact_id, key, match_key, is_verified, contact_id
    from unnest(cast(:workspace_ids as bigint[]), cast(:contact_ids as bigint[]), cast(:keys as text[]),
                cast(:match_keys as text[]), cast(:verified as boolean[]))
         as new (workspace_id, contact_id, key, match_key, is_verified)
    order by workspace_id, contact_id, key
    on conflict do nothing
    returning contact_id
""")

ADD_ALIASES = text("""
    insert into identity (workspace_id, channel_id, address, alias_of, contact_id, origin_contact_id, connected_at)
    select owner.workspace_id, new.channel_id, new.address, owner.id, owner.contact_id, owner.contact_id, new.at
    from unnest(cast(:channel_ids as bigint[]), cast(:addresses as text[]), cast(:identity_ids as bigint[]),
                cast(:workspace_ids as bigint[]), cast(:ats as timestamptz[]))
         as new (channel_id, address, identity_id, workspace_id, at)
    join identity as owner on owner.workspace_id = new.workspace_id and owner.id = new.identity_id
    order by new.channel_id, new.address
    on conflict (channel_id, address) do nothing
    returning channel_id, address
""")

LINK = text("""
    insert into identity_link (workspace_id, channel_id, low_identity_id, high_identity_id)
    select workspace_id, channel_id, least(one, other), greatest(one, other)
    from unnest(cast(:workspace_ids as bigint[]), cast(:channel_ids as bigint[]), cast(:ones as bigint[]),
                cast(:others as bigint[])) as new (workspace_id, channel_id, one, other)
    on conflict do nothing
""")

# Contacts that hold one of the keys, locked; those that have no channel may be claimed by the key's own address. Of a key
# that a crowd shares a few are enough to know that it is nobody's alone.
FIND_CLAIMABLE = text("""
    with found as materialized (
        select wanted.workspace_id, wanted.match_key, held.key, held.contact_id
        from unnest(cast(:workspace_ids as bigint[]), cast(:match_keys as text[])) as wanted (workspace_id, match_key)
        cross join lateral (
            select key, contact_id from contact_key
            where contact_key.workspace_id = wanted.workspace_id and contact_key.match_key = wanted.match_key
            order by contact_id
            limit 50
        ) as held
    )
    select contact.id, found.workspace_id, found.match_key, found.key
    from found
    join contact on contact.workspace_id = found.workspace_id and contact.id = found.contact_id
    where contact.merged_into is null and contact.deletion_job_id is null
    order by contact.workspace_id, contact.id
    for no key update of contact
""")
OF_CONTACTS = text("""
    select identity.channel_id, identity.address, coalesce(identity.alias_of, identity.id), identity.workspace_id,
           identity.contact_id
    from unnest(cast(:workspace_ids as bigint[]), cast(:contact_ids as bigint[])) as wanted (workspace_id, contact_id)
    join identity using (workspace_id, contact_id)
""")
WITH_CHANNEL = text("""
    select distinct contact_id from identity
    where workspace_id = any(:workspace_ids) and contact_id = any(:contact_ids)
""")

SET_CONSENT = text("""
    update identity
    set opted_out_at = greatest(identity.opted_out_at, new.opted_out_at),
        consent_at = greatest(identity.consent_at, new.consent_at)
    from unnest(cast(:workspace_ids as bigint[]), cast(:identity_ids as bigint[]), cast(:opted_out as timestamptz[]),
                cast(:consented as timestamptz[])) as new (workspace_id, id, opted_out_at, consent_at)
    where identity.workspace_id = new.workspace_id and identity.id = new.id
    returning identity.contact_id, identity.opted_out_at > coalesce(identity.consent_at, '-infinity')
""")


def find_identities(tx: Connection, addresses: Iterable[Address]) -> dict[Address, FoundIdentity]:
    """Return where each known address leads; unknown ones are absent. One statement."""
    wanted = list(addresses)
    rows = tx.execute(FIND, {"channel_ids": [each[0] for each in wanted], "addresses": [each[1] for each in wanted]})
    return {
        (channel_id, address): FoundIdentity(identity_id, workspace_id, contact_id)
        for channel_id, address, identity_id, workspace_id, contact_id in rows
    }


def list_identities(tx: Connection, contacts: Iterable[tuple[int, int]]) -> dict[Address, FoundIdentity]:
    """Return all addresses of the (workspace, contact) pairs."""
    wanted = list(contacts)
    rows = tx.execute(
        OF_CONTACTS, {"workspace_ids": [each[0] for each in wanted], "contact_ids": [each[1] for each in wanted]}
    )
    return {
        (channel_id, address): FoundIdentity(identity_id, workspace_id, contact_id)
        for channel_id, address, identity_id, workspace_id, contact_id in rows.all()
    }


def add_identities(tx: Connection, new: Sequence[NewIdentity]) -> dict[Address, FoundIdentity]:
    """Make the identities with their contacts and keys; return those made.

    An address that another transaction took first is missing from the answer and has left nothing behind: look it up.
    """
    rows = tx.execute(ADD, _columns(new)).all()
    made = {
        (channel_id, address): FoundIdentity(identity_id, workspace_id, contact_id)
        for channel_id, address, identity_id, workspace_id, contact_id in rows
    }
    add_keys(
        tx,
        [
            (found.workspace_id, found.contact_id, each.facts)
            for each in new
            if (found := made.get((each.channel_id, each.address))) is not None
        ],
    )
    return made


def add_keys(tx: Connection, facts: Sequence[tuple[int, int, Facts]]) -> set[int]:
    """Give each (workspace, contact) the keys of its facts; return the contacts that had one of them not yet."""
    rows = [(workspace_id, contact_id, key) for workspace_id, contact_id, each in facts for key in each.keys]
    if not rows:
        return set()
    return set(
        tx.scalars(
            ADD_KEYS,
            {
                "workspace_ids": [row[0] for row in rows],
                "contact_ids": [row[1] for row in rows],
                "keys": [row[2].key for row in rows],
                "match_keys": [row[2].match_key for row in rows],
                "verified": [row[2].is_verified for row in rows],
            },
        )
    )


def add_aliases(tx: Connection, aliases: Sequence[tuple[Address, FoundIdentity, datetime]]) -> set[Address]:
    """Attach addresses to identities; return those attached. One that somebody else took meanwhile is missing."""
    if not aliases:
        return set()
    parameters = {
        "channel_ids": [address[0] for address, _, _ in aliases],
        "addresses": [address[1] for address, _, _ in aliases],
        "identity_ids": [owner.identity_id for _, owner, _ in aliases],
        "workspace_ids": [owner.workspace_id for _, owner, _ in aliases],
        "ats": [at for _, _, at in aliases],
    }
    return {(channel_id, address) for channel_id, address in tx.execute(ADD_ALIASES, parameters)}


def link_identities(tx: Connection, links: Sequence[tuple[int, int, int, int]]) -> None:
    """Record that two identities met in one event: (workspace, channel, identity, identity). Safe to repeat."""
    if links:
        workspace_ids, channel_ids, ones, others = (list(column) for column in zip(*links, strict=True))
        tx.execute(LINK, {"workspace_ids": workspace_ids, "channel_ids": channel_ids, "ones": ones, "others": others})


@dataclass(frozen=True, slots=True)
class Claimable:
    """A live contact that holds a key; `has_channel` says whether somebody already writes as it."""

    contact_id: int
    workspace_id: int
    match_key: str
    key: str
    has_channel: bool


def list_claimable(tx: Connection, keys: Sequence[tuple[int, str]]) -> list[Claimable]:
    """Return the live contacts that hold one of the (workspace, match key) pairs, locked, by id.

    Whether they have a channel is read after the lock, so that two channels cannot claim the same contact.
    """
    if not keys:
        return []
    rows = tx.execute(
        FIND_CLAIMABLE, {"workspace_ids": [key[0] for key in keys], "match_keys": [key[1] for key in keys]}
    ).all()
    if not rows:
        return []
    parameters = {"workspace_ids": list({row[1] for row in rows}), "contact_ids": [row[0] for row in rows]}
    with_channel = set(tx.scalars(WITH_CHANNEL, parameters))
    return [Claimable(row[0], row[1], row[2], row[3], row[0] in with_channel) for row in rows]


def set_consent(
    tx: Connection, changes: Sequence[tuple[int, int, datetime | None, datetime | None]]
) -> dict[int, bool]:
    """Record opt-outs and opt-ins: (workspace, identity, opted out at, consented at); the newest of each counts.

    Returns for each contact concerned whether it is opted out now.
    """
    if not changes:
        return {}
    workspace_ids, identity_ids, opted_out, consented = (list(column) for column in zip(*changes, strict=True))
    rows = tx.execute(
        SET_CONSENT,
        {
            "workspace_ids": workspace_ids,
            "identity_ids": identity_ids,
            "opted_out": opted_out,
            "consented": consented,
        },
    )
    return {contact_id: bool(is_out) for contact_id, is_out in rows}


def _columns(new: Sequence[NewIdentity]) -> dict[str, list[Any]]:
    encode = msgspec.json.encode
    names = ("first_name", "last_name", "display_name", "phone", "email", "country_code", "language", "avatar_url")
    columns = ("first_names", "last_names", "display_names", "phones", "emails", "countries", "languages", "avatars")
    return {
        "workspace_ids": [each.workspace_id for each in new],
        "channel_ids": [each.channel_id for each in new],
        "addresses": [each.address for each in new],
        "ats": [each.at for each in new],
        "claimed": [each.claimed_contact_id for each in new],
        "profiles": [encode(each.facts.profile()).decode() for each in new],
        "provenances": [encode(each.provenance).decode() for each in new],
        "hashes": [each.facts.hash for each in new],
        "phone_valids": [each.facts.phone_valid for each in new],
        "last_message_ats": [each.activity.last_message_at if each.activity else None for each in new],
        "last_incoming_ats": [each.activity.last_incoming_at if each.activity else None for each in new],
        "conversation_ids": [each.activity.conversation_id if each.activity else None for each in new],
        "cycles": [each.activity.active_cycle if each.activity else None for each in new],
        **{column: [each.facts.fields.get(name) for each in new] for column, name in zip(columns, names, strict=True)},
    }
