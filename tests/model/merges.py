"""What merges, unmerges and undos ought to make of contacts, in dictionaries.

It knows the rules and no SQL. A field is a pile of layers: whoever sets it puts one on top, a merge as well; the topmost
shows, and taking a merge out takes its layers away, wherever they lie by then.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

UNDO_SPAN = timedelta(minutes=10)
RANK = {"closed": 0, "snoozed": 1, "open": 2}
SCHEMES = {"phone": "tel:", "email": "mailto:"}

Row = tuple[str, Any]
"""A message, comment, identity or event: its table, and what it is known by."""
NewId = Callable[[], int]
"""Gives the id of the conversation that the system has just had to make."""


@dataclass(frozen=True)
class Layer:
    """A value of a field, with who set it and when. `merge` is the merge that put it there, if one did."""

    value: str | None
    source: str
    at: float
    merge: int | None = None


@dataclass
class Conversation:
    """A thread with a contact."""

    owner: int
    status: str = "open"


@dataclass
class Contact:
    """A contact with what is its own. Of `keys` and `tags` the value tells whether it has them from no merge."""

    fields: dict[str, list[Layer]] = field(default_factory=dict)
    keys: dict[str, bool] = field(default_factory=dict)
    tags: dict[str, bool] = field(default_factory=dict)
    current: int | None = None
    until: datetime | None = None
    inside: int | None = None

    def top(self, name: str) -> Layer | None:
        """Return the layer that shows."""
        pile = self.fields.get(name)
        return pile[-1] if pile else None

    def value(self, name: str) -> str | None:
        """Return the value that shows."""
        top = self.top(name)
        return top.value if top else None

    def put(self, name: str, layer: Layer) -> None:
        """Put a layer on top."""
        self.fields.setdefault(name, []).append(layer)

    def default_keys(self) -> set[str]:
        """Return the keys of the phone and email that show."""
        return {scheme + value for name, scheme in SCHEMES.items() if (value := self.value(name))}


@dataclass
class Past:
    """What a contact had at some moment, and its rows."""

    contact: Contact
    rows: dict[Row, tuple[int, int | None]]
    conversations: dict[int, Conversation]


@dataclass
class Merge:
    """A merge, with what moved and what was before."""

    kept: int
    absorbed: int
    at: datetime
    before: dict[int, Past]
    moved: set[Row]
    moved_conversations: list[int]
    keys: set[str]
    state: str = "active"
    has_news: bool = False


@dataclass
class MergeModel:
    """The state that the database ought to have."""

    people: dict[int, Contact] = field(default_factory=dict)
    rows: dict[Row, tuple[int, int | None]] = field(default_factory=dict)
    """Owner and conversation of every row."""
    conversations: dict[int, Conversation] = field(default_factory=dict)
    merges: dict[int, Merge] = field(default_factory=dict)
    unasked: set[frozenset[int]] = field(default_factory=set)
    """Pairs that were taken apart, and what became of them by later merges: nobody needs to be asked about them."""
    event_count: int = 0

    def live(self) -> list[int]:
        """Return the contacts that are not absorbed."""
        return [number for number, each in self.people.items() if each.inside is None]

    def status(self, contact_id: int) -> str:
        """Return the status of the contact's current conversation."""
        current = self.people[contact_id].current
        return "closed" if current is None else self.conversations[current].status

    def active(self) -> dict[int, Merge]:
        """Return the merges that were not taken apart, oldest first."""
        return {number: each for number, each in self.merges.items() if each.state == "active"}

    def into(self, contact_id: int) -> Iterator[Merge]:
        """Give the active merges into the contact."""
        return (each for each in self.active().values() if each.kept == contact_id)

    # What comes in between

    def be_born(self, contact_id: int, address: str) -> None:
        """Note a new contact and its identity. Its first message is still to be told."""
        self.people[contact_id] = Contact()
        self.rows["identity", address] = (contact_id, None)

    def receive(self, address: str, message_id: str, new_id: NewId) -> None:
        """Note a message: it goes to whoever has the identity."""
        owner, _ = self.rows["identity", address]
        person = self.people[owner]
        if self.status(owner) == "closed":
            self._open(owner, new_id)
        elif self.status(owner) == "snoozed":
            self._wake(owner)
        self.rows["message", message_id] = (owner, person.current)
        self._note_news(owner)

    def comment(self, contact_id: int, words: str) -> None:
        """Note a comment."""
        self.rows["comment", words] = (contact_id, self.people[contact_id].current)
        self._note_news(contact_id)

    def edit(self, contact_id: int, name: str, value: str | None, at: datetime, country: str | None) -> None:
        """Note that a user set a field. `country` is that of a phone; it follows unless somebody else set it."""
        person = self.people[contact_id]
        before = person.value(name)
        if value == before:
            return
        told = person.top("country_code")
        if name == "phone" and (told is None or not told.value or told.source == "derived"):
            person.put("country_code", Layer(country, "derived", at.timestamp()))
        person.put(name, Layer(value, "user", at.timestamp()))
        if name in SCHEMES:
            # A default key is replaced; those beside it stay.
            if before is not None:
                person.keys.pop(SCHEMES[name] + before, None)
            if value is not None:
                person.keys[SCHEMES[name] + value] = True
        self._note_news(contact_id)

    def tag(self, contact_id: int, tag: str) -> None:
        """Note a tag that was put on."""
        if tag not in self.people[contact_id].tags:
            self.people[contact_id].tags[tag] = True
            self._note_news(contact_id)

    def untag(self, contact_id: int, tag: str) -> None:
        """Note a tag that was taken off."""
        if self.people[contact_id].tags.pop(tag, None) is not None:
            self._note_news(contact_id)

    def open(self, contact_id: int, new_id: NewId) -> None:
        """Note that a user opened or woke the conversation."""
        if self.status(contact_id) == "closed":
            self._open(contact_id, new_id)
            self._note_event(contact_id)
        elif self.status(contact_id) == "snoozed":
            self._wake(contact_id)

    def close(self, contact_id: int) -> None:
        """Note that a user closed the conversation."""
        if self.status(contact_id) != "closed":
            self._settle(contact_id, "closed", None)

    def snooze(self, contact_id: int, until: datetime) -> None:
        """Note that a user put the conversation, which is not closed, to sleep."""
        self._settle(contact_id, "snoozed", until)

    def pass_time(self, now: datetime) -> None:
        """Let conversations come back whose time has come."""
        for contact_id in self.live():
            until = self.people[contact_id].until
            if self.status(contact_id) == "snoozed" and until is not None and until <= now:
                self._wake(contact_id)

    def _open(self, contact_id: int, new_id: NewId) -> None:
        person = self.people[contact_id]
        person.current, person.until = new_id(), None
        self.conversations[person.current] = Conversation(contact_id)

    def _wake(self, contact_id: int) -> None:
        self._settle(contact_id, "open", None)

    def _settle(self, contact_id: int, status: str, until: datetime | None) -> None:
        person = self.people[contact_id]
        assert person.current is not None
        self.conversations[person.current].status, person.until = status, until
        self._note_event(contact_id)

    def _note_event(self, contact_id: int) -> None:
        self._add_event(contact_id, self.people[contact_id].current)
        self._note_news(contact_id)

    def _add_event(self, contact_id: int, conversation: int | None) -> None:
        self.event_count += 1
        self.rows["event", self.event_count] = (contact_id, conversation)

    def _note_news(self, contact_id: int) -> None:
        for each in self.into(contact_id):
            each.has_news = True

    # Merge

    def merge(  # noqa: PLR0917 - what a merge is asked with
        self, merge_id: int, kept: int, absorbed: int, chosen: Mapping[str, str | None], at: datetime, source: str
    ) -> None:
        """Note a merge of two live contacts."""
        mine, theirs = self.people[kept], self.people[absorbed]
        before = {kept: self._past(kept), absorbed: self._past(absorbed)}
        self._note_news(kept)
        self._merge_conversations(kept, absorbed)
        moved = {row for row, (owner, _) in self.rows.items() if owner == absorbed}
        moved_conversations = [number for number, each in self.conversations.items() if each.owner == absorbed]
        self._move(moved, moved_conversations, kept)
        self._merge_fields(merge_id, mine, theirs, chosen, Layer(None, source, at.timestamp()))
        keys = set(theirs.keys) | mine.default_keys()
        mine.keys |= {key: False for key in keys if key not in mine.keys}
        mine.tags |= {tag: False for tag in theirs.tags if tag not in mine.tags}
        theirs.keys, theirs.until, theirs.inside = {}, None, kept
        added = keys - before[kept].contact.keys.keys() | before[absorbed].contact.keys.keys()
        self.merges[merge_id] = Merge(kept, absorbed, at, before, moved, moved_conversations, added)
        self.unasked |= {pair - {absorbed} | {kept} for pair in self.unasked if absorbed in pair and kept not in pair}

    def _past(self, contact_id: int) -> Past:
        return Past(
            deepcopy(self.people[contact_id]),
            {row: place for row, place in self.rows.items() if place[0] == contact_id},
            {number: deepcopy(each) for number, each in self.conversations.items() if each.owner == contact_id},
        )

    def _merge_conversations(self, kept: int, absorbed: int) -> None:
        """The open one goes on, before a snoozed one, before a closed one; the kept contact's when they are alike."""
        mine, theirs = self.people[kept], self.people[absorbed]
        if theirs.current is None:
            return
        goes_on = mine.current is None or RANK[self.status(absorbed)] > RANK[self.status(kept)]
        loser = kept if goes_on else absorbed
        other = self.people[loser].current
        if other is not None and self.status(loser) != "closed":
            self.conversations[other].status = "closed"
            self._add_event(loser, other)
        if goes_on:
            mine.current, mine.until = theirs.current, theirs.until

    def _move(self, rows: set[Row], conversations: list[int], owner: int) -> None:
        self.rows |= {row: (owner, self.rows[row][1]) for row in rows}
        for number in conversations:
            self.conversations[number].owner = owner

    @staticmethod
    def _merge_fields(
        merge_id: int, mine: Contact, theirs: Contact, chosen: Mapping[str, str | None], told: Layer
    ) -> None:
        for name in sorted({*mine.fields, *theirs.fields, *chosen}):
            value, other = mine.value(name), theirs.value(name)
            after = chosen.get(name, other if value is None else value)
            if after != value:
                origin = (theirs.top(name) if after == other else None) or told
                mine.put(name, Layer(after, origin.source, origin.at, merge_id))

    # The way back

    def may_undo(self, merge_id: int, now: datetime) -> bool:
        """Return whether undoing a merge that was not taken apart must succeed."""
        merge = self.merges[merge_id]
        return self.may_unmerge(merge_id) and not merge.has_news and now - merge.at <= UNDO_SPAN

    def may_unmerge(self, merge_id: int) -> bool:
        """Return whether the absorbed contact of an active merge can be taken out."""
        return self.people[self.merges[merge_id].kept].inside is None

    def undo(self, merge_id: int) -> None:
        """Note an undo: both contacts and all that is theirs are as they were."""
        merge = self.merges[merge_id]
        for contact_id, past in merge.before.items():
            self.people[contact_id] = past.contact
            self.rows |= past.rows
            self.conversations |= past.conversations
        # The event that tells of a conversation that the merge closed belongs to whom the conversation belongs.
        late = {row for row in merge.moved if row not in merge.before[merge.absorbed].rows}
        self._move(late, [], merge.absorbed)
        self._end(merge, "undone")

    def unmerge(self, merge_id: int, new_id: NewId) -> None:
        """Note that the absorbed contact was taken out: with what it had brought, and nothing that came since."""
        merge = self.merges[merge_id]
        mine, theirs = self.people[merge.kept], self.people[merge.absorbed]
        self._move(merge.moved, merge.moved_conversations, merge.absorbed)
        for pile in mine.fields.values():
            pile[:] = [layer for layer in pile if layer.merge != merge_id]
        self._part_conversations(merge, new_id)
        self._end(merge, "unmerged")
        theirs.inside, theirs.keys = None, merge.before[merge.absorbed].contact.keys
        others = list(self.into(merge.kept))
        held_keys = mine.default_keys().union(*(each.keys for each in others))
        held_tags: set[str] = set().union(*(self.people[each.absorbed].tags for each in others))
        mine.keys = {key: is_own for key, is_own in mine.keys.items() if is_own or key in held_keys}
        mine.tags = {tag: is_own for tag, is_own in mine.tags.items() if is_own or tag in held_tags}

    def _part_conversations(self, merge: Merge, new_id: NewId) -> None:
        mine, back = self.people[merge.kept], merge.moved_conversations
        since = [row for row, (owner, number) in self.rows.items() if owner == merge.kept and number in back]
        if since:
            # What was said in the other's conversation since the merge goes on in one of its own.
            status = self.status(merge.kept) if mine.current in back else "closed"
            number = new_id()
            self.conversations[number] = Conversation(merge.kept, status)
            self.rows |= dict.fromkeys(since, (merge.kept, number))
            mine.current = number if mine.current in back else mine.current
        elif mine.current in back:
            self._go_back(merge)
        for number in back:
            self.conversations[number].status = "closed"

    def _go_back(self, merge: Merge) -> None:
        """Give the kept contact the conversation it had before, or its newest if that one has gone with another."""
        mine, past = self.people[merge.kept], merge.before[merge.kept]
        current = past.contact.current
        mine.until = None
        if current is not None and self.conversations[current].owner == merge.kept:
            mine.current, mine.until = current, past.contact.until
            self.conversations[current].status = past.conversations[current].status
        else:
            own = [number for number, each in self.conversations.items() if each.owner == merge.kept]
            mine.current = max(own, default=None)

    def _end(self, merge: Merge, state: str) -> None:
        merge.state = state
        self.unasked.add(frozenset((merge.kept, merge.absorbed)))
        self._note_news(merge.kept)
        self._note_news(merge.absorbed)
