"""Merge suggestions as rows: reviewed as sets by duplicate detection, listed for people, dismissed by them.

One row a pair, decided by a unique key. Whoever changes rows of several pairs locks them in the order of their ids.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, text

from ingest.domain.suggestions import Kind, Pair, State, Suggestion, link_key, pair_of
from ingest.store.contact_keys import Contact, WorkspaceKey

WorkspacePair = tuple[int, Pair]
"""A workspace's id and a pair of its contacts."""

# What may have to change: open suggestions of the contacts, whatever there is of the pairs, and open suggestions of the
# contacts that have a key which is shared by too many from now on.
LOCK = text("""
    select workspace_id, low_contact_id, high_contact_id, kind, keys, state, reason, dismissed_keys
    from merge_suggestion
    where (workspace_id, id) in (
        select merge_suggestion.workspace_id, merge_suggestion.id
        from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, contact_id)
        join merge_suggestion on merge_suggestion.workspace_id = wanted.workspace_id
                             and low_contact_id = wanted.contact_id and state = 'open'
        union
        select merge_suggestion.workspace_id, merge_suggestion.id
        from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, contact_id)
        join merge_suggestion on merge_suggestion.workspace_id = wanted.workspace_id
                             and high_contact_id = wanted.contact_id and state = 'open'
        union
        select merge_suggestion.workspace_id, merge_suggestion.id
        from unnest(cast(:pair_workspace_ids as bigint[]), cast(:lows as bigint[]), cast(:highs as bigint[]))
             as pair (workspace_id, low_contact_id, high_contact_id)
        join merge_suggestion using (workspace_id, low_contact_id, high_contact_id)
        union
        select merge_suggestion.workspace_id, merge_suggestion.id
        from unnest(cast(:key_workspace_ids as bigint[]), cast(:match_keys as text[])) as risen (workspace_id, match_key)
        join contact_key using (workspace_id, match_key)
        join merge_suggestion on merge_suggestion.workspace_id = contact_key.workspace_id
                             and low_contact_id = contact_key.contact_id and state = 'open'
    )
    order by workspace_id, id
    for no key update
""")

# Pairs of identities that the provider named together, as pairs of the contacts that own them now.
LINKS = text("""
    with mine as (
        select identity.workspace_id, identity.id
        from unnest(cast(:workspace_ids as bigint[]), cast(:ids as bigint[])) as wanted (workspace_id, contact_id)
        join identity using (workspace_id, contact_id)
    ), link as (
        select identity_link.workspace_id, low_identity_id, high_identity_id
        from mine join identity_link on identity_link.workspace_id = mine.workspace_id and low_identity_id = mine.id
        union
        select identity_link.workspace_id, low_identity_id, high_identity_id
        from mine join identity_link on identity_link.workspace_id = mine.workspace_id and high_identity_id = mine.id
    )
    select link.workspace_id, low.contact_id as low_contact_id, high.contact_id as high_contact_id, low_identity_id,
           high_identity_id
    from link
    join identity as low on low.workspace_id = link.workspace_id and low.id = low_identity_id
    join identity as high on high.workspace_id = link.workspace_id and high.id = high_identity_id
    where low.contact_id <> high.contact_id and low.removed_at is null and high.removed_at is null
""")

# A party that is purged at this moment is missing here, rather than an error; one that was blocked or merged since it was
# read has a detection of its own coming.
ADD = text("""
    insert into merge_suggestion (workspace_id, low_contact_id, high_contact_id, kind, keys, opened_at, changed_at)
    select new.workspace_id, low.id, high.id, new.kind, array(select jsonb_array_elements_text(new.keys::jsonb)),
           :now, :now
    from unnest(cast(:workspace_ids as bigint[]), cast(:lows as bigint[]), cast(:highs as bigint[]),
                cast(:kinds as text[]), cast(:keys as text[]))
         as new (workspace_id, low_id, high_id, kind, keys)
    join contact as low on low.workspace_id = new.workspace_id and low.id = new.low_id
    join contact as high on high.workspace_id = new.workspace_id and high.id = new.high_id
    order by new.workspace_id, new.low_id, new.high_id
    for key share of low, high
    on conflict (workspace_id, low_contact_id, high_contact_id) do nothing
    returning workspace_id, id, low_contact_id, high_contact_id
""")

CHANGE = text("""
    update merge_suggestion
    set kind = new.kind, keys = array(select jsonb_array_elements_text(new.keys::jsonb)), state = new.state,
        reason = new.reason, changed_at = :now,
        opened_at = case when new.state = 'open' and merge_suggestion.state <> 'open' then :now else opened_at end
    from unnest(cast(:workspace_ids as bigint[]), cast(:lows as bigint[]), cast(:highs as bigint[]),
                cast(:kinds as text[]), cast(:keys as text[]), cast(:states as text[]), cast(:reasons as text[]))
         as new (workspace_id, low_contact_id, high_contact_id, kind, keys, state, reason)
    where merge_suggestion.workspace_id = new.workspace_id
      and merge_suggestion.low_contact_id = new.low_contact_id
      and merge_suggestion.high_contact_id = new.high_contact_id
    returning merge_suggestion.workspace_id, merge_suggestion.id, merge_suggestion.low_contact_id,
              merge_suggestion.high_contact_id
""")

# A blocked, merged or detached party hides its suggestions at once, before detection has closed them.
_OPEN = """
    select merge_suggestion.id, low_contact_id, high_contact_id, kind, keys, state, opened_at,
           array(select matched.key from unnest(keys) as matched (key)
                 where exists (select from contact_key
                               where contact_key.workspace_id = merge_suggestion.workspace_id
                                 and contact_key.contact_id in (low_contact_id, high_contact_id)
                                 and contact_key.key = matched.key and not is_verified)) as unverified_keys
    from merge_suggestion
    join contact as low on low.workspace_id = merge_suggestion.workspace_id and low.id = low_contact_id
    join contact as high on high.workspace_id = merge_suggestion.workspace_id and high.id = high_contact_id
    where merge_suggestion.workspace_id = :workspace_id and merge_suggestion.id > :after_id and state = 'open'
      and low.blocked_at is null and low.merged_into is null and low.deletion_job_id is null
      and high.blocked_at is null and high.merged_into is null and high.deletion_job_id is null
"""
LIST_OPEN = text(f"{_OPEN} order by merge_suggestion.id limit :limit")
LIST_OPEN_OF_CONTACT = text(f"""
    {_OPEN} and (low_contact_id = :contact_id or high_contact_id = :contact_id)
    order by merge_suggestion.id limit :limit
""")

DISMISS = text("""
    update merge_suggestion
    set state = 'dismissed', reason = null, changed_at = :now, actor_id = cast(:actor_id as bigint),
        dismissed_keys = array(select distinct unnest(dismissed_keys || keys) order by 1)
    where workspace_id = :workspace_id and id = :id and state = 'open'
""")


@dataclass(frozen=True, slots=True)
class OpenedSuggestion:
    """A suggestion that has just become open, for the first time or again."""

    workspace_id: int
    id: int
    pair: Pair
    kind: Kind


@dataclass(frozen=True, slots=True)
class OpenSuggestion:
    """An open suggestion as people see it.

    `keys` say which values matched: a `tel:` or `mailto:` key to be marked on each party that has it, or an `identity:`
    key where the provider named both. Of `unverified_keys` nobody has proved that they are the person's own.
    """

    id: int
    pair: Pair
    kind: Kind
    keys: tuple[str, ...]
    unverified_keys: frozenset[str]
    state: State
    opened_at: datetime


def list_links(tx: Connection, contacts: Collection[Contact]) -> dict[WorkspacePair, frozenset[str]]:
    """Return the pairs with one of the contacts that a provider has named together, with their link keys."""
    found: dict[WorkspacePair, frozenset[str]] = {}
    for row in tx.execute(LINKS, _contact_columns(contacts)) if contacts else ():
        place = row.workspace_id, pair_of(row.low_contact_id, row.high_contact_id)
        found[place] = found.get(place, frozenset()) | {link_key(row.low_identity_id, row.high_identity_id)}
    return found


def lock_suggestions(
    tx: Connection, contacts: Collection[Contact], pairs: Collection[WorkspacePair], risen: Collection[WorkspaceKey]
) -> dict[WorkspacePair, Suggestion]:
    """Return what may have to change, locked, by pair: of the contacts and of the `risen` keys only what is open."""
    ordered = sorted(pairs)
    given = {
        **_contact_columns(contacts),
        "pair_workspace_ids": [workspace_id for workspace_id, _ in ordered],
        "lows": [pair[0] for _, pair in ordered],
        "highs": [pair[1] for _, pair in ordered],
        "key_workspace_ids": [workspace_id for workspace_id, _ in risen],
        "match_keys": [key for _, key in risen],
    }
    return {
        (row.workspace_id, (row.low_contact_id, row.high_contact_id)): Suggestion(
            (row.low_contact_id, row.high_contact_id),
            row.kind,
            tuple(row.keys),
            row.state,
            row.reason,
            frozenset(row.dismissed_keys),
        )
        for row in tx.execute(LOCK, given)
    }


def save_suggestions(
    tx: Connection,
    changes: Sequence[tuple[int, Suggestion]],
    before: Mapping[WorkspacePair, Suggestion],
    now: datetime,
) -> list[OpenedSuggestion]:
    """Write the suggestions as they are to be and return those that became open, by id.

    `before` are the rows that exist, locked. A pair that somebody else has added meanwhile is left to them.
    """
    new = [change for change in changes if (change[0], change[1].pair) not in before]
    changed = [change for change in changes if (change[0], change[1].pair) in before]
    added = tx.execute(ADD, {**_columns(new), "now": now}).all() if new else []
    updated = tx.execute(CHANGE, {**_columns(changed), **_states(changed), "now": now}).all() if changed else []
    became_open = {
        (workspace_id, each.pair): each
        for workspace_id, each in changes
        if each.state == "open"
        and ((workspace_id, each.pair) not in before or before[workspace_id, each.pair].state != "open")
    }
    places = {row.id: (row.workspace_id, (row.low_contact_id, row.high_contact_id)) for row in (*added, *updated)}
    return [
        OpenedSuggestion(place[0], id_, place[1], became_open[place].kind)
        for id_, place in sorted(places.items())
        if place in became_open
    ]


def list_open_suggestions(
    tx: Connection, workspace_id: int, after_id: int, limit: int, contact_id: int | None = None
) -> list[OpenSuggestion]:
    """Return the workspace's open suggestions after `after_id`, by id; with `contact_id` only that contact's.

    None has a blocked, merged or deleted party.
    """
    given: dict[str, Any] = {"workspace_id": workspace_id, "after_id": after_id, "limit": limit}
    if contact_id is None:
        rows = tx.execute(LIST_OPEN, given)
    else:
        rows = tx.execute(LIST_OPEN_OF_CONTACT, {**given, "contact_id": contact_id})
    return [_read_open(row) for row in rows]


def mark_dismissed(tx: Connection, workspace_id: int, suggestion_id: int, actor_id: int | None, now: datetime) -> bool:
    """Dismiss an open suggestion and return whether it was open. Only a key that is new to the pair reopens it."""
    given = {"workspace_id": workspace_id, "id": suggestion_id, "actor_id": actor_id, "now": now}
    return tx.execute(DISMISS, given).rowcount == 1


def _read_open(row: Row[Any]) -> OpenSuggestion:
    pair = row.low_contact_id, row.high_contact_id
    unverified = frozenset(row.unverified_keys)
    return OpenSuggestion(row.id, pair, row.kind, tuple(row.keys), unverified, row.state, row.opened_at)


def _contact_columns(contacts: Collection[Contact]) -> dict[str, list[int]]:
    ordered = sorted(contacts)
    return {"workspace_ids": [each[0] for each in ordered], "ids": [each[1] for each in ordered]}


def _columns(changes: Sequence[tuple[int, Suggestion]]) -> dict[str, list[Any]]:
    return {
        "workspace_ids": [workspace_id for workspace_id, _ in changes],
        "lows": [each.pair[0] for _, each in changes],
        "highs": [each.pair[1] for _, each in changes],
        "kinds": [each.kind for _, each in changes],
        "keys": [msgspec.json.encode(each.keys).decode() for _, each in changes],
    }


def _states(changes: Sequence[tuple[int, Suggestion]]) -> dict[str, list[Any]]:
    return {"states": [each.state for _, each in changes], "reasons": [each.reason for _, each in changes]}
