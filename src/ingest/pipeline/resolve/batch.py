"""What a batch is made of while it is being resolved."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from ingest.domain.billing import cycle_start
from ingest.domain.events import InboundEvent, Sender
from ingest.domain.profiles import facts_hash
from ingest.store.channels import Endpoint, list_endpoints
from ingest.store.contacts import Activity, LockedContact
from ingest.store.dead_letters import NewDeadLetter
from ingest.store.identities import Address, FoundIdentity
from ingest.store.sealing import Sealer
from ingest.store.tallies import Outcome, Tally
from ingest.store.unit_of_work import Transaction
from ingest.store.workspaces import Workspace, get_workspaces

FRESH_SECONDS = 5.0


@dataclass(slots=True)
class Item:
    """An event with where it belongs. `identity` is filled in once its person is known.

    `may_claim` says that the sender's address is a phone number or a mail address.
    """

    event: InboundEvent
    workspace_id: int
    channel_id: int
    accepted_at: datetime
    sequence: int
    trace_id: str
    sent_at: datetime
    may_claim: bool = False
    identity: FoundIdentity | None = None

    _told: int | None = None

    @property
    def told(self) -> int:
        """The hash of what the sender says about itself, 0 for nothing; computed once."""
        if self._told is None:
            self._told = facts_hash(self.sender)
        return self._told

    @property
    def sender(self) -> Sender:
        """The person the item is about; only asked of items that have one."""
        sender = self.event.sender
        if sender is None:
            raise ValueError("item has no sender")
        return sender

    @property
    def address(self) -> Address:
        """The sender's address on its channel."""
        return self.channel_id, self.sender.external_id


@dataclass(slots=True)
class Batch:
    """All items of one claim, and what has been found out and decided about them."""

    items: list[Item] = field(default_factory=list)
    requests: int = 0
    dead: list[NewDeadLetter] = field(default_factory=list)
    tally: Tally = field(default_factory=Counter)
    contacts: dict[int, LockedContact] = field(default_factory=dict)
    born: dict[tuple[int, int], Activity] = field(default_factory=dict)
    """The (workspace, contact) pairs made for this batch, and the activity they were made with."""
    detect: dict[int, set[int]] = field(default_factory=dict)
    """Contacts whose keys changed, by workspace."""
    wrote: dict[int, set[int]] = field(default_factory=dict)
    """Contacts with new incoming messages that automation may answer, by workspace."""
    opened: dict[int, list[int]] = field(default_factory=dict)
    """Conversations that a contact opened, by workspace."""
    opted_out: dict[int, set[int]] = field(default_factory=dict)
    """Contacts that opted out, by workspace."""
    stored: list[tuple[datetime, datetime]] = field(default_factory=list)
    """When each stored message was accepted, and now: for the metrics."""

    def count(self, item: Item, outcome: str, reason: str = "") -> None:
        """Count what became of an item."""
        self.tally[Outcome(item.workspace_id, item.channel_id, outcome, reason)] += 1

    def contact_of(self, item: Item) -> LockedContact:
        """Return the locked contact of an item whose person is known."""
        if item.identity is None:
            raise ValueError("item has no identity yet")
        return self.contacts[item.identity.contact_id]


class Resolver:
    """What a resolve worker keeps between batches: settings, and short-lived memory of endpoints, workspaces, identities.

    The memory only saves statements. Endpoints and workspaces may be five seconds old; identities are hints that are
    looked up again under the contacts' locks.
    """

    MAX_HINTS = 200_000

    def __init__(self, sealer: Sealer, late_after_seconds: float = 900, salts: Sequence[bytes] = ()) -> None:
        self.late_after_seconds = late_after_seconds
        self.salts = salts
        self._sealer = sealer
        self._endpoints: dict[tuple[int, int], tuple[float, Endpoint]] = {}
        self._workspaces: dict[int, tuple[float, Workspace]] = {}
        self.hints: dict[Address, FoundIdentity] = {}
        self.own_conversations: set[int] = set()

    def endpoints(self, tx: Transaction, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], Endpoint]:
        """Return the endpoints of (channel id, 0) and (0, app id) pairs; those that are gone are absent."""
        now = time.monotonic()
        missing = {key for key in wanted if self._endpoints.get(key, (0.0, None))[0] < now}
        if missing:
            for key in missing:
                self._endpoints.pop(key, None)
            channel_ids = [channel_id for channel_id, _ in missing if channel_id]
            app_ids = [app_id for channel_id, app_id in missing if not channel_id]
            found = list_endpoints(tx, self._sealer, channel_ids, app_ids)
            self._endpoints.update({key: (now + FRESH_SECONDS, endpoint) for key, endpoint in found.items()})
        return {key: self._endpoints[key][1] for key in wanted if key in self._endpoints}

    def workspaces(self, tx: Transaction, wanted: set[int]) -> dict[int, Workspace]:
        """Return the workspaces."""
        now = time.monotonic()
        missing = {number for number in wanted if self._workspaces.get(number, (0.0, None))[0] < now}
        if missing:
            found = get_workspaces(tx, missing)
            self._workspaces.update({number: (now + FRESH_SECONDS, each) for number, each in found.items()})
        return {number: self._workspaces[number][1] for number in wanted}

    def remember(self, found: dict[Address, FoundIdentity]) -> None:
        """Keep identities as hints for the next batches."""
        if len(self.hints) + len(found) > self.MAX_HINTS:
            self.hints.clear()
        self.hints.update(found)

    def remember_own_conversations(self, numbers: Iterable[int]) -> None:
        """Keep conversations that contacts themselves opened, or that became theirs: they stay so."""
        if len(self.own_conversations) > self.MAX_HINTS:
            self.own_conversations.clear()
        self.own_conversations.update(numbers)


def cycle_of(workspace: Workspace, at: datetime) -> date:
    """Return the billing cycle of the workspace that the moment falls into."""
    return cycle_start(at, workspace.time_zone, workspace.cycle_day)


def addresses_of(items: Sequence[Item]) -> set[Address]:
    """Return every address the items name, aliases and former addresses included."""
    wanted: set[Address] = set()
    for item in items:
        wanted.add(item.address)
        event = item.event
        if item.sender.aliases or event.former:
            wanted.update((item.channel_id, alias) for alias in (*item.sender.aliases, *event.former) if alias)
    return wanted
