"""What ought to be true, kept in dictionaries: who owns which address, what is stored with whom, what waits.

It knows the rules and no SQL. Every method is told of something that has happened for certain.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

Address = tuple[int, str]
"""A channel's id and a sender's address on it."""
MessageKey = tuple[int, str]
"""A channel's id and the provider's id of a message."""


@dataclass(frozen=True)
class Delivery:
    """One request that was accepted. `key` is None for one that cannot be read."""

    workspace_id: int
    address: Address
    key: MessageKey | None
    accepted_at: datetime
    trace_id: bytes


@dataclass
class Person:
    """A contact that has been made."""

    workspace_id: int
    is_blocked: bool = False
    inside: int | None = None
    deletion: int | None = None

    @property
    def is_live(self) -> bool:
        """Whether it is neither absorbed nor being deleted."""
        return self.inside is None and self.deletion is None


@dataclass
class Union:
    """A merge, with what moved."""

    kept: int
    absorbed: int
    addresses: set[Address]
    messages: set[MessageKey]
    is_active: bool = True


@dataclass
class Ledger:
    """The state that the database ought to have."""

    owner: dict[Address, int] = field(default_factory=dict)
    people: dict[int, Person] = field(default_factory=dict)
    stored: dict[MessageKey, int] = field(default_factory=dict)
    purged: set[MessageKey] = field(default_factory=set)
    dropped: dict[MessageKey, int] = field(default_factory=dict)
    kept_out: set[Address] = field(default_factory=set)
    erased: dict[Address, datetime] = field(default_factory=dict)
    """When each address of a deleted contact was freed: what was accepted before makes no new contact."""
    unions: list[Union] = field(default_factory=list)
    accepted: Counter[int] = field(default_factory=Counter)
    resolved: Counter[int] = field(default_factory=Counter)
    kept: Counter[int] = field(default_factory=Counter)
    dead: Counter[int] = field(default_factory=Counter)
    unreadable: set[bytes] = field(default_factory=set)
    """The requests that cannot be read. One accepted twice may share its letter with itself."""
    seen: dict[int, int] = field(default_factory=dict)
    """Every contact that ever was, with its workspace: none comes back."""

    # Messages

    def resolve(self, deliveries: Iterable[Delivery]) -> tuple[set[Address], list[Delivery]]:
        """Note that these were resolved together.

        Returns the addresses for which there must be a new contact, and the deliveries that are not erased.
        """
        new: set[Address] = set()
        left: list[Delivery] = []
        for each in deliveries:
            self.resolved[each.workspace_id] += 1
            if each.key is None:
                self.dead[each.workspace_id] += 1
                self.unreadable.add(each.trace_id)
            elif not self._is_erased(each):
                left.append(each)
                if each.address not in self.owner and each.address not in self.kept_out:
                    new.add(each.address)
        return new, left

    def _is_erased(self, delivery: Delivery) -> bool:
        erased_at = self.erased.get(delivery.address)
        return delivery.address not in self.owner and erased_at is not None and delivery.accepted_at < erased_at

    def be_born(self, address: Address, contact_id: int, workspace_id: int) -> None:
        """Note who owns a new address."""
        assert contact_id not in self.seen, "a contact came back"
        self.seen[contact_id] = workspace_id
        self.owner[address] = contact_id
        self.people[contact_id] = Person(workspace_id)

    def store(self, deliveries: Iterable[Delivery]) -> None:
        """Note what of the resolved ones must be stored, and with whom."""
        for each in deliveries:
            contact_id = self.owner.get(each.address)
            if each.key is None or contact_id is None or each.key in self.stored:
                continue
            if self.people[contact_id].is_blocked:
                # What came during a block stays dropped, also when it comes again after it.
                self.dropped.setdefault(each.key, contact_id)
            elif each.key not in self.purged and each.key not in self.dropped:
                self.stored[each.key] = contact_id
                self.kept[each.workspace_id] += 1

    # Acts

    def live(self, contact_id: int) -> Person | None:
        """Return the contact if it is live."""
        person = self.people.get(contact_id)
        return person if person is not None and person.is_live else None

    def union_of(self, kept: int, absorbed: int) -> Union | None:
        """Return the latest merge of the two."""
        return next((each for each in reversed(self.unions) if (each.kept, each.absorbed) == (kept, absorbed)), None)

    def may_merge(self, kept: int, absorbed: int) -> bool:
        """Return whether a merge must succeed."""
        before = self.union_of(kept, absorbed)
        if before is not None and before.is_active and kept in self.people and absorbed in self.people:
            return kept != absorbed
        sides = [self.live(kept), self.live(absorbed)]
        return kept != absorbed and all(side is not None and not side.is_blocked for side in sides)

    def merge(self, kept: int, absorbed: int) -> None:
        """Note a merge."""
        if self.people[absorbed].inside is not None:
            return
        moved = {each for each, owner in self.owner.items() if owner == absorbed}
        messages = {each for each, owner in self.stored.items() if owner == absorbed}
        self.owner |= dict.fromkeys(moved, kept)
        self.stored |= dict.fromkeys(messages, kept)
        self.people[absorbed].inside = kept
        self.unions.append(Union(kept, absorbed, moved, messages))

    def may_unmerge(self, kept: int, absorbed: int) -> bool:
        """Return whether taking the contact out must succeed."""
        union = self.union_of(kept, absorbed)
        if union is None or kept not in self.people or absorbed not in self.people:
            return False
        person = self.people[kept]
        return not union.is_active or (person.is_live and not person.is_blocked)

    def unmerge(self, kept: int, absorbed: int) -> None:
        """Note that the contact was taken out again."""
        union = self.union_of(kept, absorbed)
        assert union is not None
        if not union.is_active:
            return
        union.is_active = False
        self.people[absorbed].inside = None
        self.owner |= {each: absorbed for each in union.addresses if self.owner.get(each) == kept}
        self.stored |= {each: absorbed for each in union.messages if self.stored.get(each) == kept}

    def inside(self, contact_id: int) -> set[int]:
        """Return the contact and all that it has absorbed."""
        found = {contact_id}
        while more := {number for number, each in self.people.items() if each.inside in found} - found:
            found |= more
        return found

    def delete(self, contact_id: int, deletion: int, at: datetime, *, keep_block: bool) -> None:
        """Note a deletion that was accepted at this time."""
        if self.people[contact_id].deletion is not None:
            return
        freed = {address for address, owner in self.owner.items() if owner == contact_id}
        if keep_block and self.people[contact_id].is_blocked:
            self.kept_out |= freed
        for address in freed:
            del self.owner[address]
            self.erased[address] = at
        for number in self.inside(contact_id):
            self.people[number].deletion = deletion

    def forget(self, keys: Collection[MessageKey]) -> None:
        """Note messages that are gone, and may not come back."""
        self.purged |= set(keys)
        for key in keys:
            del self.stored[key]

    def purge(self, contact_ids: Iterable[int]) -> None:
        """Note contacts of which nothing is left."""
        for contact_id in contact_ids:
            del self.people[contact_id]
            self.forget({key for key, owner in self.stored.items() if owner == contact_id})
            self.dropped = {key: owner for key, owner in self.dropped.items() if owner != contact_id}
