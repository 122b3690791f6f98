"""Storing a batch's messages under the contacts' locks: the blocked dropped, the rest stored once, contacts moved on."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime

import msgspec

from ingest.domain.billing import counts_while_blocked
from ingest.domain.messages import MAX_TEXT, clean_text, external_hash, is_late, message_content
from ingest.domain.profiles import Facts, Profile, merge_facts, read_facts
from ingest.pipeline.resolve.batch import Batch, Item, Resolver, cycle_of
from ingest.store.active_contacts import count_active
from ingest.store.contacts import (
    Activity,
    LockedContact,
    ProfileChange,
    count_dropped,
    forget_activity,
    get_profiles,
    move_contacts_on,
    set_profiles,
)
from ingest.store.conversations import (
    NewConversation,
    adopt_conversations,
    open_conversations,
    reserve_conversation_ids,
    unsnooze_conversations,
)
from ingest.store.identities import add_keys
from ingest.store.messages import (
    MessageKey,
    NewMessage,
    add_attachment_contents,
    add_dropped,
    add_messages,
    find_stored,
)
from ingest.store.unit_of_work import UnitOfWork

ContactKey = tuple[int, int]
"""A workspace's id and a contact's."""


def store_messages(uow: UnitOfWork, resolver: Resolver, batch: Batch) -> set[MessageKey]:
    """Store what contacts wrote and what was written to them elsewhere; return the keys of the messages stored."""
    items = [item for item in batch.items if item.event.kind in {"message", "echo"}]
    kept = _drop_blocked(uow, resolver, batch, items)
    fresh = _first_of_each(batch, kept)
    conversations = _conversations_for(uow, batch, fresh.values())
    rows = {key: _row(resolver, batch, item, key[1], conversations) for key, item in fresh.items()}
    stored = add_messages(uow.tx, [rows[key] for key in sorted(rows)])
    for key, item in fresh.items():
        batch.count(item, "stored" if key in stored else "duplicate")
    new = [(item, rows[key]) for key, item in fresh.items() if key in stored]
    _keep_contents(uow, new, stored)
    _open(uow, resolver, batch, new, conversations)
    _move_on(uow, resolver, batch, new, conversations)
    _apply_facts(uow, batch, [*kept, *_other_tellers(batch)])
    batch.stored = [(item.accepted_at, uow.now) for item, _ in new]
    return set(stored)


def _other_tellers(batch: Batch) -> list[Item]:
    """Return the items that are no messages and still make contacts: what they say about the person counts as well."""
    kinds = {"opt_out", "opt_in", "identity_change", "started"}
    return [item for item in batch.items if item.event.kind in kinds and batch.contact_of(item).blocked_at is None]


def _drop_blocked(uow: UnitOfWork, resolver: Resolver, batch: Batch, items: Sequence[Item]) -> list[Item]:
    """Leave out what blocked contacts wrote; only that it came is kept, unless it was stored before the block."""
    blocked = [item for item in items if batch.contact_of(item).blocked_at is not None]
    if not blocked:
        return list(items)
    keyed = {(item.channel_id, external_hash(item.event.external_id)): item for item in blocked}
    stored = find_stored(uow.tx, list(keyed))
    dropped = {key: item for key, item in sorted(keyed.items()) if key not in stored}
    new = add_dropped(
        uow.tx,
        [
            (item.workspace_id, batch.contact_of(item).id, item.channel_id, key[1], "blocked")
            for key, item in dropped.items()
        ],
    )
    count_dropped(
        uow.tx, Counter((item.workspace_id, batch.contact_of(item).id) for key, item in dropped.items() if key in new)
    )
    _count_dropped_active(uow, resolver, batch, [dropped[key] for key in new])
    for key, item in keyed.items():
        is_new = key in new
        batch.count(item, "dropped" if is_new else "duplicate", "blocked" if is_new else "")
    for _ in range(len(blocked) - len(keyed)):
        batch.count(blocked[0], "duplicate")
    return [item for item in items if batch.contact_of(item).blocked_at is None]


def _count_dropped_active(uow: UnitOfWork, resolver: Resolver, batch: Batch, dropped: Sequence[Item]) -> None:
    workspaces = resolver.workspaces(uow.tx, {item.workspace_id for item in dropped})
    rows = []
    for item in dropped:
        contact, workspace = batch.contact_of(item), workspaces[item.workspace_id]
        blocked_at = contact.blocked_at
        if blocked_at and counts_while_blocked(item.accepted_at, blocked_at, workspace.time_zone, workspace.cycle_day):
            cycle = cycle_of(workspace, item.accepted_at)
            rows.append((item.workspace_id, cycle, contact.id, item.channel_id, "dropped"))
    count_active(uow.tx, sorted(set(rows)))


def _first_of_each(batch: Batch, items: Iterable[Item]) -> dict[MessageKey, Item]:
    """Return one item a message: the same one delivered twice in a batch is a duplicate here already."""
    fresh: dict[MessageKey, Item] = {}
    for item in items:
        key = item.channel_id, external_hash(item.event.external_id)
        if key in fresh:
            batch.count(item, "duplicate")
        else:
            fresh[key] = item
    return fresh


def _conversations_for(uow: UnitOfWork, batch: Batch, items: Iterable[Item]) -> dict[ContactKey, tuple[int, bool]]:
    """Return each contact's current conversation and whether it is yet to be opened."""
    found: dict[ContactKey, tuple[int, bool]] = {}
    without: list[ContactKey] = []
    for item in items:
        contact = batch.contact_of(item)
        key = contact.workspace_id, contact.id
        if key in found:
            continue
        if key in batch.born:
            found[key] = (batch.born[key].conversation_id or 0, True)
        elif contact.status == "closed" or contact.conversation_id is None:
            without.append(key)
            found[key] = (0, True)
        else:
            found[key] = (contact.conversation_id, False)
    for key, number in zip(without, reserve_conversation_ids(uow.tx, len(without)), strict=True):
        found[key] = (number, True)
    return found


def _row(
    resolver: Resolver, batch: Batch, item: Item, digest: str, conversations: dict[ContactKey, tuple[int, bool]]
) -> NewMessage:
    event, contact = item.event, batch.contact_of(item)
    message = event.message
    content = message_content(event)
    is_incoming = event.kind == "message"
    return NewMessage(
        item.workspace_id,
        contact.id,
        conversations[contact.workspace_id, contact.id][0],
        item.channel_id,
        item.identity.identity_id if item.identity else 0,
        clean_text(event.external_id),
        digest,
        "incoming" if is_incoming else "outgoing",
        "contact" if is_incoming else "echo",
        message.kind if message else "unsupported",
        clean_text(message.text)[:MAX_TEXT] if message else "",
        None if content is None else msgspec.json.encode(content).decode(),
        item.sent_at,
        item.accepted_at,
        item.sequence,
        is_late(item.sent_at, item.accepted_at, resolver.late_after_seconds),
        event.automatic,
        None if is_incoming else "sent",
        item.trace_id,
    )


def _keep_contents(uow: UnitOfWork, new: Sequence[tuple[Item, NewMessage]], stored: dict[MessageKey, int]) -> None:
    contents = [
        (row.workspace_id, stored[row.channel_id, row.external_hash], position, attachment.content)
        for item, row in new
        if item.event.message is not None
        for position, attachment in enumerate(item.event.message.attachments)
        if attachment.content is not None
    ]
    add_attachment_contents(uow.tx, contents)


def _open(
    uow: UnitOfWork,
    resolver: Resolver,
    batch: Batch,
    new: Sequence[tuple[Item, NewMessage]],
    conversations: dict[ContactKey, tuple[int, bool]],
) -> None:
    """Open conversations for contacts that have none, wake snoozed ones, and note which the contact itself opened."""
    to_open: dict[ContactKey, NewConversation] = {}
    snoozed: set[tuple[int, int]] = set()
    incoming: set[tuple[int, int]] = set()
    quiet: set[int] = set()
    for item, row in sorted(new, key=lambda each: (each[1].traffic, each[0].sent_at, each[1].external_hash)):
        key = row.workspace_id, row.contact_id
        number, is_new = conversations[key]
        if row.traffic == "incoming" and not is_new:
            incoming.add((row.workspace_id, number))
        if row.is_late or row.is_automatic:
            quiet.add(number)
        if is_new:
            source = "contact" if row.traffic == "incoming" else "echo"
            to_open.setdefault(
                key, NewConversation(number, *key, opened_at=item.sent_at, source=source, channel_id=row.channel_id)
            )
        elif row.traffic == "incoming" and batch.contact_of(item).status == "snoozed":
            snoozed.add((row.workspace_id, number))
    open_conversations(uow.tx, list(to_open.values()))
    unsnooze_conversations(uow.tx, sorted(snoozed))
    opened = [(each.workspace_id, each.id) for each in to_open.values() if each.source == "contact"]
    resolver.remember_own_conversations(number for _, number in opened)
    opened += _adopt(uow, resolver, sorted(incoming.difference(opened)))
    for workspace_id, number in opened:
        if number not in quiet:
            batch.opened.setdefault(workspace_id, []).append(number)


def _adopt(uow: UnitOfWork, resolver: Resolver, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of the contacts' conversations that an echo had opened, which are now the contacts' own."""
    unknown = [pair for pair in pairs if pair[1] not in resolver.own_conversations]
    adopted = adopt_conversations(uow.tx, unknown)
    resolver.remember_own_conversations(number for _, number in set(unknown).difference(adopted))
    return adopted


def _move_on(
    uow: UnitOfWork,
    resolver: Resolver,
    batch: Batch,
    new: Sequence[tuple[Item, NewMessage]],
    conversations: dict[ContactKey, tuple[int, bool]],
) -> None:
    """Record on each contact what was stored for it, and count it as active."""
    workspaces = resolver.workspaces(uow.tx, {row.workspace_id for _, row in new})
    activities: dict[ContactKey, Activity] = {}
    active: dict[tuple[int, date, int], tuple[int, str]] = {}
    for item, row in new:
        key = row.workspace_id, row.contact_id
        activity = activities.get(key)
        if activity is None:
            activity = activities[key] = Activity(row.sent_at, row.channel_id)
        elif (row.sent_at, row.channel_id) > (activity.last_message_at, activity.last_channel_id):
            activity.last_message_at, activity.last_channel_id = row.sent_at, row.channel_id
        contact = batch.contact_of(item)
        number, is_new = conversations[key]
        if is_new:
            activity.conversation_id = number
        if key not in batch.born and contact.profile_hash and contact.profile_hash == item.told:
            activity.profile_at = _latest(activity.profile_at, row.sent_at)
        if row.traffic == "incoming":
            activity.last_incoming_at = _latest(activity.last_incoming_at, row.sent_at)
            if not row.is_late and not row.is_automatic:
                batch.wrote.setdefault(row.workspace_id, set()).add(row.contact_id)
        if is_new or (row.traffic == "incoming" and contact.status == "snoozed"):
            activity.is_opened = True
        cycle = cycle_of(workspaces[row.workspace_id], row.accepted_at)
        if key in batch.born or contact.active_cycle != cycle:
            activity.active_cycle = cycle
            active.setdefault((row.workspace_id, cycle, row.contact_id), (row.channel_id, row.traffic))
    count_active(uow.tx, [(*key, *active[key]) for key in sorted(active)])
    # Contacts made for this batch have it all already, unless some of their messages had been stored before.
    as_foreseen = {key for key, activity in batch.born.items() if activities.get(key) == activity}
    forget_activity(uow.tx, sorted(batch.born.keys() - as_foreseen))
    move_contacts_on(uow.tx, {key: each for key, each in activities.items() if key not in as_foreseen})


def _latest(one: datetime | None, other: datetime) -> datetime:
    return other if one is None or other > one else one


def _apply_facts(uow: UnitOfWork, batch: Batch, items: Sequence[Item]) -> None:
    """Let what channels say about people become their contacts', where it is news."""
    told: dict[ContactKey, list[Item]] = {}
    news: set[ContactKey] = set()
    for item in items:
        contact = batch.contact_of(item)
        if item.told:
            key = contact.workspace_id, contact.id
            told.setdefault(key, []).append(item)
            if item.told != contact.profile_hash or _is_said_again(contact, item):
                news.add(key)
    if not news:
        return
    profiles = get_profiles(uow.tx, sorted(news))
    changes: list[ProfileChange] = []
    keys = []
    for key in sorted(news):
        facts = [(item.sent_at, read_facts(item.sender)) for item in told[key]]
        contact = batch.contacts[key[1]]
        before = Profile(*profiles[key[1]], contact.profile_at, contact.profile_hash)
        after = before
        for at, each in facts:
            after = merge_facts(after, each, at)
        changes.append(_profile_change(key, before, after, [each for _, each in facts]))
        keys += [(*key, each) for _, each in facts]
    set_profiles(uow.tx, changes)
    for contact_id in add_keys(uow.tx, keys):
        workspace_id = batch.contacts[contact_id].workspace_id
        batch.detect.setdefault(workspace_id, set()).add(contact_id)


def _is_said_again(contact: LockedContact, item: Item) -> bool:
    """Return whether the newest facts are repeated by something that is no message: storing has not noted the time."""
    is_stored = item.event.kind in {"message", "echo"}
    return not is_stored and contact.profile_at is not None and item.sent_at > contact.profile_at


def _profile_change(key: ContactKey, before: Profile, after: Profile, facts: Sequence[Facts]) -> ProfileChange:
    fields = {name: value for name, value in after.fields.items() if value != before.fields.get(name)}
    phone_valid = next((each.phone_valid for each in facts if each.fields.get("phone") == fields.get("phone")), None)
    return ProfileChange(
        *key,
        fields=fields,
        provenance={name: value for name, value in after.provenance.items() if value != before.provenance.get(name)},
        profile_at=after.newest_at,
        profile_hash=after.newest_hash,
        phone_valid=phone_valid if "phone" in fields else None,
    )
