"""Whose item is it? Identities looked up, made where missing, and owned under the contacts' locks.

Two workers may meet the same new person at the same moment: the unique key on (channel, address) lets one of them make
the identity, the other finds it made and goes on. A merge, unmerge or deletion may move an identity between the look-up
and the lock: the look-up under the lock is the one that counts.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from ingest.domain.claims import choose_claim, is_same_number
from ingest.domain.contact_keys import PHONE_SCHEME
from ingest.domain.profiles import Facts, Key, first_provenance, read_facts
from ingest.errors import Transient
from ingest.pipeline.resolve.batch import Batch, Item, Resolver, addresses_of, cycle_of
from ingest.pipeline.resolve.erased import drop_erased, free_detached
from ingest.pipeline.resolve.turned_away import drop_items, find_turned_away
from ingest.store.contacts import Activity, lock_contacts
from ingest.store.conversations import reserve_conversation_ids
from ingest.store.identities import (
    Address,
    Claimable,
    FoundIdentity,
    NewIdentity,
    add_aliases,
    add_identities,
    find_identities,
    link_identities,
    list_claimable,
    list_identities,
)
from ingest.store.unit_of_work import Transaction

MAX_ROUNDS = 5

Claimants = dict[Address, tuple[int, tuple[Key, ...]]]
"""Of a new sender's address: the workspace and the keys that the address itself stands for."""


def find_people(tx: Transaction, resolver: Resolver, batch: Batch) -> None:
    """Give every item that concerns a person its identity, and lock all their contacts.

    Items that may not make a contact (edits, reactions, watermarks) and find none keep `identity` None. Raises Transient
    when identities keep moving; the batch is then tried again.
    """
    for _ in range(MAX_ROUNDS):
        # A round that did not settle lets go of its locks: locking further contacts beside them could go against the order.
        savepoint = tx.begin_nested()
        if _settle(tx, resolver, batch):
            savepoint.commit()
            return
        savepoint.rollback()
        free_detached(tx, resolver.salts, batch.contacts.values())
        batch.contacts, batch.born, batch.detect = {}, {}, {}
    raise Transient("identities kept moving")


def _settle(tx: Transaction, resolver: Resolver, batch: Batch) -> bool:
    """Find, make and lock the people, and give the items their identities; False where somebody moved one meanwhile."""
    makers, others = _of_people(batch)
    wanted = addresses_of(makers) | {item.address for item in others}
    if not wanted:
        return True
    known = _look_up(tx, resolver, wanted)
    drop_erased(tx, resolver.salts, batch, known)
    makers, others = _of_people(batch)
    missing = _missing_people(makers, known)
    if missing:
        turned_away = _turn_away(tx, resolver, batch, missing)
        missing = [person for person in missing if person.address not in turned_away]
        makers = [item for item in makers if item.address not in turned_away]
        known |= _make_people(tx, resolver, batch, missing)
        if any(person.address not in known for person in missing):
            return False
    _lock(tx, batch, known.values())
    owned = find_identities(tx, wanted)
    if not _is_settled(batch, owned, wanted, known):
        for address in wanted:
            resolver.hints.pop(address, None)
        return False
    resolver.remember(owned)
    _attach_aliases(tx, batch, makers, owned)
    _assign(batch, [*makers, *others], owned)
    return True


def _of_people(batch: Batch) -> tuple[list[Item], list[Item]]:
    """Return the items that may make a contact, and the others that concern one."""
    makers = [item for item in batch.items if item.event.kind not in {"status", "edit", "delete", "reaction"}]
    seen = [item for item in batch.items if item.event.kind in {"edit", "reaction", "status"}]
    return makers, [item for item in seen if item.event.sender is not None]


def _look_up(tx: Transaction, resolver: Resolver, wanted: Collection[Address]) -> dict[Address, FoundIdentity]:
    known = {address: hint for address in wanted if (hint := resolver.hints.get(address)) is not None}
    if len(known) < len(wanted):
        known |= find_identities(tx, [address for address in wanted if address not in known])
    return known


class _Person:
    """Items of one unknown sender, by whichever of its addresses they came."""

    def __init__(self, first: Item) -> None:
        self.items = [first]

    @property
    def address(self) -> Address:
        return self.items[0].address

    def newest_facts(self) -> tuple[Facts, datetime]:
        """Return the facts of the newest event that carries some, and the time of the event."""
        said = [(item.sent_at, read_facts(item.sender)) for item in self.items]
        at, facts = max(said, key=lambda each: (bool(each[1].hash), each[0], each[1].hash))
        return facts, at


def _missing_people(makers: Sequence[Item], known: dict[Address, FoundIdentity]) -> list[_Person]:
    """Return the senders none of whose addresses is known, each once."""
    people: dict[Address, _Person] = {}
    for item in makers:
        if item.address in known:
            continue
        addresses = addresses_of([item])
        if any(address in known for address in addresses):
            continue
        person = next((people[address] for address in addresses if address in people), None)
        if person is None:
            person = _Person(item)
        else:
            person.items.append(item)
        for address in addresses:
            people[address] = person
    return list({id(person): person for person in people.values()}.values())


def _turn_away(tx: Transaction, resolver: Resolver, batch: Batch, missing: Sequence[_Person]) -> set[Address]:
    """Drop the items of newcomers whom a block covers; return their addresses."""
    workspaces = resolver.workspaces(tx, {person.items[0].workspace_id for person in missing})
    newcomers: dict[Address, tuple[int, tuple[Key, ...]]] = {}
    for person in missing:
        workspace_id = person.items[0].workspace_id
        by_key = workspaces[workspace_id].settings.get("block_by_key")
        newcomers[person.address] = (workspace_id, person.newest_facts()[0].keys if by_key else ())
    found = find_turned_away(tx, resolver.salts, newcomers)
    items = [item for person in missing if person.address in found for item in person.items]
    drop_items(batch, items)
    return {item.address for item in items}


def _make_people(
    tx: Transaction, resolver: Resolver, batch: Batch, missing: Sequence[_Person]
) -> dict[Address, FoundIdentity]:
    facts = {person.address: person.newest_facts() for person in missing}
    claimants = _claimants(missing, {address: each for address, (each, _) in facts.items()})
    holders = list_claimable(tx, sorted({(ws, key.match_key) for ws, keys in claimants.values() for key in keys}))
    joined = _join_variants(tx, missing, claimants, holders)
    missing = [person for person in missing if person.address not in joined]
    claims = _choose_claims(missing, claimants, holders)
    activities = _first_activities(tx, resolver, [person for person in missing if person.address not in claims])
    new = [
        _new_identity(person, *facts[person.address], claims.get(person.address), activities.get(person.address))
        for person in missing
    ]
    made = add_identities(tx, new)
    for each in new:
        found = made.get((each.channel_id, each.address))
        if found is None:
            continue
        if each.activity is not None:
            batch.born[found.workspace_id, found.contact_id] = each.activity
        if each.facts.keys:
            batch.detect.setdefault(found.workspace_id, set()).add(found.contact_id)
    return made | joined


def _first_activities(tx: Transaction, resolver: Resolver, people: Sequence[_Person]) -> dict[Address, Activity]:
    """Return what each new contact's messages in this batch amount to, if all of them are stored."""
    wrote = {person.address: [each for each in person.items if each.event.message is not None] for person in people}
    wrote = {address: items for address, items in wrote.items() if items}
    workspaces = resolver.workspaces(tx, {items[0].workspace_id for items in wrote.values()})
    numbers = iter(reserve_conversation_ids(tx, len(wrote)))
    activities: dict[Address, Activity] = {}
    for address, items in wrote.items():
        newest = max(items, key=lambda item: item.sent_at)
        incoming = [item.sent_at for item in items if item.event.kind == "message"]
        activities[address] = Activity(
            newest.sent_at,
            newest.channel_id,
            last_incoming_at=max(incoming, default=None),
            conversation_id=next(numbers),
            is_opened=True,
            active_cycle=cycle_of(workspaces[newest.workspace_id], newest.accepted_at),
        )
    return activities


def _new_identity(
    person: _Person, facts: Facts, at: datetime, claimed: int | None, activity: Activity | None
) -> NewIdentity:
    item = person.items[0]
    return NewIdentity(
        item.workspace_id,
        item.channel_id,
        item.sender.external_id,
        at,
        facts,
        first_provenance(facts),
        claimed,
        activity,
    )


def _claimants(missing: Sequence[_Person], facts: dict[Address, Facts]) -> Claimants:
    """Return the workspace and keys of those new senders whose address itself is a number or a mail address."""
    return {
        person.address: (person.items[0].workspace_id, facts[person.address].keys)
        for person in missing
        if facts[person.address].keys and person.items[0].sender.verified and person.items[0].may_claim
    }


def _choose_claims(
    missing: Sequence[_Person], claimants: Claimants, holders: Sequence[Claimable]
) -> dict[Address, int]:
    """Return the contacts that new senders claim: known by that very number or mail address, and by no channel yet."""
    claims: dict[Address, int] = {}
    for person in missing if holders else ():
        claimed = choose_claim(*claimants.get(person.address, (0, ())), holders)
        if claimed is not None and claimed not in claims.values():
            claims[person.address] = claimed
    return claims


def _join_variants(
    tx: Transaction, missing: Sequence[_Person], claimants: Claimants, holders: Sequence[Claimable]
) -> dict[Address, FoundIdentity]:
    """Attach new addresses that are another spelling of a number already known on the same channel; return where to.

    The contacts are locked. A number that some other contact holds exactly is left to that contact.
    """
    with_channel = {(each.workspace_id, each.contact_id) for each in holders if each.has_channel}
    if not with_channel:
        return {}
    known = list_identities(tx, with_channel)
    exact = {(each.workspace_id, each.key) for each in holders}
    joined: dict[Address, FoundIdentity] = {}
    for person in missing:
        workspace_id, keys = claimants.get(person.address, (0, ()))
        numbers = [key for key in keys if key.key.startswith(PHONE_SCHEME) and (workspace_id, key.key) not in exact]
        found = {
            identity
            for (channel_id, address), identity in known.items()
            if channel_id == person.address[0] and any(is_same_number(address, key) for key in numbers)
        }
        if len(found) == 1:
            joined[person.address] = found.pop()
    started = {person.address: person.items[0].sent_at for person in missing}
    attached = add_aliases(tx, [(address, owner, started[address]) for address, owner in joined.items()])
    return {address: owner for address, owner in joined.items() if address in attached}


def _lock(tx: Transaction, batch: Batch, found: Iterable[FoundIdentity]) -> None:
    wanted = {(each.workspace_id, each.contact_id) for each in found}
    if wanted:
        batch.contacts |= lock_contacts(tx, wanted)


def _is_settled(
    batch: Batch, owned: dict[Address, FoundIdentity], wanted: Collection[Address], known: dict[Address, FoundIdentity]
) -> bool:
    """Return whether everybody found before the lock is still there under it, on a live, locked contact."""
    if any(address in known and address not in owned for address in wanted):
        return False
    # Somebody may have made, meanwhile, the person of an item that makes none itself: its contact is not locked yet.
    return all(each.contact_id in batch.contacts and batch.contacts[each.contact_id].is_live for each in owned.values())


def _attach_aliases(tx: Transaction, batch: Batch, makers: Sequence[Item], owned: dict[Address, FoundIdentity]) -> None:
    """Attach addresses that came with a known one; note identities of different contacts that met in one event."""
    aliases: dict[Address, tuple[Address, FoundIdentity, datetime]] = {}
    coming: dict[Address, FoundIdentity] = {}
    links: set[tuple[int, int, int, int]] = set()
    for item in makers:
        if not (item.sender.aliases or item.event.former):
            continue
        addresses = sorted(addresses_of([item]))
        # Two new senders who share an alias are one person, made by the first of them; the alias is still on its way.
        owner = next(known[each] for known in (owned, coming) for each in (item.address, *addresses) if each in known)
        for address in addresses:
            other = owned.get(address)
            if other is None:
                aliases[address] = (address, owner, item.sent_at)
                coming[address] = owner
            elif other.identity_id != owner.identity_id and other.contact_id != owner.contact_id:
                one, two = sorted((owner.identity_id, other.identity_id))
                links.add((item.workspace_id, item.channel_id, one, two))
                batch.detect.setdefault(item.workspace_id, set()).update((owner.contact_id, other.contact_id))
    attached = add_aliases(tx, list(aliases.values()))
    for address, (_, owner, _) in aliases.items():
        if address in attached:
            owned[address] = owner
    if len(attached) < len(aliases):
        # Somebody else has just taken one of them: the batch is tried again, and then meets it as a link.
        raise Transient("an alias was taken meanwhile")
    link_identities(tx, sorted(links))


def _assign(batch: Batch, items: Sequence[Item], owned: dict[Address, FoundIdentity]) -> None:
    for item in items:
        item.identity = owned.get(item.address)
        if item.identity is None and item.event.former:
            item.identity = next((found for each in addresses_of([item]) if (found := owned.get(each))), None)
