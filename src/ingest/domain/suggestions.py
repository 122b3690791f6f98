"""Merge suggestions: which two contacts may be one person, and what becomes of a pair as the world changes.

A pair is suggested for the keys that both contacts have, or because the provider itself named both in one event. A key
of more than ten contacts is an office line or an info@ address: it suggests no pair, and is shown once as a shared key.

A suggestion is open, merged, dismissed or closed. A person's no holds for the keys that were on the pair, and for their
national variants; only evidence beyond them opens the pair again.

Everything here is about one workspace.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

from ingest.domain.contact_keys import ContactKey, match_key

MAX_SHARERS = 10
LINK_SCHEME = "identity:"

Pair = tuple[int, int]
"""The ids of two contacts, the lower first."""

Kind = Literal["exact", "probable", "identity"]
State = Literal["open", "merged", "dismissed", "closed"]
PartyState = Literal["live", "blocked", "merged", "deleted"]
# What closes a pair whose party is out of it, the final reason first.
PARTY_REASONS: Mapping[PartyState, str] = {
    "deleted": "party_deleted",
    "merged": "party_merged",
    "blocked": "party_blocked",
}
VALUE_CHANGED = "value_changed"
BECAME_SHARED = "shared_key"


@dataclass(frozen=True, slots=True)
class Party:
    """A contact as one side of a pair, with all of its keys. `merged_into` is the contact that absorbed it."""

    id: int
    state: PartyState = "live"
    keys: frozenset[ContactKey] = frozenset()
    merged_into: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why two contacts may be one: the strongest kind, and the keys that say so, in order.

    A key on both sides stands for itself; of a national variant both spellings are named, one of each side.
    """

    kind: Kind
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A pair's row. `dismissed_keys` are those that a person has said no to; `reason` says why it is not open."""

    pair: Pair
    kind: Kind
    keys: tuple[str, ...]
    state: State = "open"
    reason: str | None = None
    dismissed_keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CountedKey:
    """A match key with the live, unblocked contacts that have it.

    `contact_count` may stop short of the truth when it is far beyond ten; `contact_ids` are all of them, or the first
    eleven. `was_shared` says that the key was held to be shared until now.
    """

    match_key: str
    contact_count: int
    contact_ids: tuple[int, ...]
    was_shared: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether more contacts have the key than could be one person."""
        return self.contact_count > MAX_SHARERS


@dataclass(slots=True)
class Scene:
    """All that is known of the contacts under review, in one workspace.

    `links` are the pairs that the provider named together, with their link keys. `shared_keys` are match keys of more than
    ten contacts. A contact that is missing from `parties` is gone.
    """

    parties: dict[int, Party] = field(default_factory=dict)
    links: dict[Pair, frozenset[str]] = field(default_factory=dict)
    shared_keys: set[str] = field(default_factory=set)


def pair_of(one: int, other: int) -> Pair:
    """Return the two contacts as a pair."""
    return (one, other) if one < other else (other, one)


def link_key(one_identity: int, other_identity: int) -> str:
    """Return what stands among a suggestion's keys for two identities that the provider named together."""
    low, high = pair_of(one_identity, other_identity)
    return f"{LINK_SCHEME}{low}:{high}"


def pairs_to_review(contact_ids: AbstractSet[int], keys: Iterable[CountedKey]) -> set[Pair]:
    """Return the pairs that the keys make with these contacts, and all pairs of a key that is no longer shared."""
    return {
        pair_of(one, other)
        for key in keys
        if not key.is_shared
        for one, other in combinations(key.contact_ids, 2)
        if key.was_shared or one in contact_ids or other in contact_ids
    }


def find_evidence(
    one: Party, other: Party, links: AbstractSet[str] = frozenset(), shared_keys: AbstractSet[str] = frozenset()
) -> Evidence | None:
    """Return why the two may be one person, or None. Links outweigh equal keys, and these outweigh variants."""
    ours, theirs = _by_match_key(one.keys), _by_match_key(other.keys)
    matching = [each for each in ours.keys() & theirs.keys() if each not in shared_keys]
    equal = {key for each in matching for key in ours[each] & theirs[each]}
    variants = {key for each in matching if not ours[each] & theirs[each] for key in ours[each] | theirs[each]}
    found = (*sorted(links), *sorted(equal | variants))
    if not found:
        return None
    return Evidence("identity" if links else "exact" if equal else "probable", found)


def _by_match_key(keys: Iterable[ContactKey]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in keys:
        found.setdefault(each.match_key, set()).add(each.key)
    return found


def is_dismissed(keys: Iterable[str], dismissed_keys: AbstractSet[str]) -> bool:
    """Return whether a person has said no to all of the keys. Another variant of a number is nothing new."""
    return {match_key(each) for each in keys} <= {match_key(each) for each in dismissed_keys}


def review(pairs: Iterable[Pair], before: Mapping[Pair, Suggestion], scene: Scene) -> list[Suggestion]:
    """Return the suggestions that are to be written, as they are to be, by pair. A second review returns none."""
    decided = (review_pair(pair, before.get(pair), scene) for pair in sorted({*pairs, *before}))
    return [each for each in decided if each is not None]


def review_pair(pair: Pair, before: Suggestion | None, scene: Scene) -> Suggestion | None:
    """Return the pair's suggestion as it is to be, or None when nothing is to be written."""
    one, other = (scene.parties.get(each) or Party(each, "deleted") for each in pair)
    evidence = find_evidence(one, other, scene.links.get(pair, frozenset()), scene.shared_keys)
    dismissed = before.dismissed_keys if before else frozenset()
    after = before
    if one.state == other.state == "live" and evidence and not is_dismissed(evidence.keys, dismissed):
        after = Suggestion(pair, evidence.kind, evidence.keys, dismissed_keys=dismissed)
    elif before and before.state == "open":
        after = _end(before, one, other, evidence, scene)
    return None if after == before else after


def _end(before: Suggestion, one: Party, other: Party, evidence: Evidence | None, scene: Scene) -> Suggestion:
    """Return an open suggestion that can stay open no longer. It keeps its keys: they say what it was about."""
    if other.id == one.merged_into or one.id == other.merged_into:
        return replace(before, state="merged")
    for state, reason in PARTY_REASONS.items():
        if state in {one.state, other.state}:
            return replace(before, state="closed", reason=reason)
    if evidence:
        return replace(before, state="dismissed", kind=evidence.kind, keys=evidence.keys)
    is_shared = any(match_key(each) in scene.shared_keys for each in before.keys)
    return replace(before, state="closed", reason=BECAME_SHARED if is_shared else VALUE_CHANGED)
