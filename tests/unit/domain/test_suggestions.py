"""A pair is suggested exactly as long as two contacts may be one person and nobody has said no."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.domain.contact_keys import ContactKey, match_key
from ingest.domain.suggestions import (
    MAX_SHARERS,
    CountedKey,
    Evidence,
    Pair,
    Party,
    PartyState,
    Scene,
    Suggestion,
    find_evidence,
    is_dismissed,
    link_key,
    pair_of,
    pairs_to_review,
    review,
)

PHONE, OTHER_PHONE = "tel:+447700900456", "tel:+447700900457"
EMAIL = "mailto:ada@example.com"
SHORT, LONG = "tel:+551187654321", "tel:+5511987654321"
PAIR = (1, 2)


def own(*keys: str) -> frozenset[ContactKey]:
    return frozenset(ContactKey(each, match_key(each)) for each in keys)


def scene(one: Party, other: Party, links: Iterable[str] = (), shared: Iterable[str] = ()) -> Scene:
    return Scene({one.id: one, other.id: other}, {PAIR: frozenset(links)} if links else {}, set(shared))


def after(before: Suggestion | None, one: Party, other: Party, **more: Iterable[str]) -> Suggestion | None:
    """Return the pair's row after a review, changed or not."""
    found = review([PAIR], {PAIR: before} if before else {}, scene(one, other, **more))
    assert len(found) <= 1
    return found[0] if found else before


ADA, BOB = Party(1, keys=own(PHONE)), Party(2, keys=own(PHONE))
OPEN = Suggestion(PAIR, "exact", (PHONE,))
DISMISSED = Suggestion(PAIR, "exact", (PHONE,), "dismissed", None, frozenset({PHONE}))


# --- evidence


def test_equal_key_is_exact_evidence_and_names_the_key() -> None:
    """A49, A51."""
    assert find_evidence(Party(1, keys=own(PHONE, EMAIL)), BOB) == Evidence("exact", (PHONE,))


def test_national_variants_are_probable_evidence_and_name_both_spellings() -> None:
    """B14, T06."""
    found = find_evidence(Party(1, keys=own(SHORT)), Party(2, keys=own(LONG)))
    assert found == Evidence("probable", (SHORT, LONG))


def test_equal_key_outweighs_a_variant() -> None:
    found = find_evidence(Party(1, keys=own(SHORT, EMAIL)), Party(2, keys=own(LONG, EMAIL)))
    assert found == Evidence("exact", (EMAIL, SHORT, LONG))


def test_identities_named_together_are_identity_evidence() -> None:
    """B4, T09: no key needed; with keys they come too."""
    assert find_evidence(Party(1), Party(2), {link_key(9, 7)}) == Evidence("identity", ("identity:7:9",))
    assert find_evidence(ADA, BOB, {link_key(7, 9)}) == Evidence("identity", ("identity:7:9", PHONE))


def test_shared_key_is_no_evidence() -> None:
    """B17."""
    assert find_evidence(ADA, BOB, shared_keys={PHONE}) is None


def test_contacts_without_keys_are_never_suggested() -> None:
    """A19, T07."""
    assert find_evidence(Party(1), Party(2)) is None


# --- which pairs are looked at


def test_pairs_of_a_key_are_those_with_a_contact_under_review() -> None:
    key = CountedKey(PHONE, 3, (1, 2, 3))
    assert pairs_to_review({2}, [key]) == {(1, 2), (2, 3)}


def test_key_of_more_than_ten_makes_no_pairs() -> None:
    """B17, T16: ten make 45 pairs, eleven none."""
    ten, eleven = (CountedKey(PHONE, count, tuple(range(count))) for count in (10, 11))
    assert len(pairs_to_review(set(range(10)), [ten])) == 45
    assert pairs_to_review(set(range(11)), [eleven]) == set()


def test_key_that_is_no_longer_shared_makes_all_its_pairs() -> None:
    """B17: the contact that left need not be among them."""
    key = CountedKey(PHONE, 10, tuple(range(10)), was_shared=True)
    assert len(pairs_to_review({99}, [key])) == 45


# --- states


def test_two_contacts_with_one_key_open_one_suggestion() -> None:
    """A49, A50."""
    assert review([PAIR], {}, scene(ADA, BOB)) == [OPEN]


def test_second_review_writes_nothing() -> None:
    """B19."""
    assert review([PAIR], {PAIR: OPEN}, scene(ADA, BOB)) == []


def test_further_key_joins_the_list_and_a_removed_one_leaves_it() -> None:
    """B18."""
    both = Party(1, keys=own(PHONE, EMAIL)), Party(2, keys=own(PHONE, EMAIL))
    grown = after(OPEN, *both)
    assert grown == replace(OPEN, keys=(EMAIL, PHONE))
    assert after(grown, Party(1, keys=own(EMAIL)), both[1]) == replace(OPEN, keys=(EMAIL,))


def test_last_key_removed_closes_the_pair_and_its_return_reopens_it() -> None:
    """B18: the row keeps its keys, to say what it was about."""
    closed = after(OPEN, Party(1, keys=own(OTHER_PHONE)), BOB)
    assert closed == replace(OPEN, state="closed", reason="value_changed")
    assert after(closed, ADA, BOB) == OPEN


@pytest.mark.parametrize(
    ("state", "reason"), [("blocked", "party_blocked"), ("deleted", "party_deleted"), ("merged", "party_merged")]
)
@pytest.mark.parametrize("side", [0, 1])
def test_party_that_is_out_closes_the_pair(state: PartyState, reason: str, side: int) -> None:
    """B18, A55: on either side."""
    parties = [ADA, BOB]
    parties[side] = replace(parties[side], state=state, merged_into=99 if state == "merged" else None)
    assert after(OPEN, *parties) == replace(OPEN, state="closed", reason=reason)
    assert after(None, *parties) is None


def test_party_that_is_gone_closes_the_pair() -> None:
    assert review([], {PAIR: OPEN}, Scene({1: ADA})) == [replace(OPEN, state="closed", reason="party_deleted")]


def test_unblocked_party_reopens_the_pair_if_a_key_still_matches() -> None:
    """B18, B43."""
    closed = after(OPEN, replace(ADA, state="blocked"), BOB)
    assert after(closed, ADA, BOB) == OPEN
    assert after(closed, Party(1), BOB) == closed


def test_pair_merged_with_itself_is_merged() -> None:
    """B18."""
    assert after(OPEN, ADA, replace(BOB, state="merged", merged_into=1)) == replace(OPEN, state="merged")


def test_dismissed_pair_stays_dismissed_through_everything_but_a_new_key() -> None:
    """B18, T16."""
    assert after(DISMISSED, ADA, BOB) == DISMISSED
    assert after(DISMISSED, replace(ADA, state="blocked"), BOB) == DISMISSED
    assert after(DISMISSED, Party(1), BOB) == DISMISSED
    reopened = after(DISMISSED, Party(1, keys=own(PHONE, EMAIL)), Party(2, keys=own(PHONE, EMAIL)))
    assert reopened == Suggestion(PAIR, "exact", (EMAIL, PHONE), dismissed_keys=frozenset({PHONE}))


def test_pair_that_loses_its_new_key_is_dismissed_again() -> None:
    """B18: what is left is what a person has said no to."""
    reopened = Suggestion(PAIR, "exact", (EMAIL, PHONE), dismissed_keys=frozenset({PHONE}))
    assert after(reopened, ADA, BOB) == DISMISSED


def test_other_variant_of_a_dismissed_number_is_nothing_new() -> None:
    """B14, B18."""
    assert is_dismissed((SHORT,), frozenset({LONG}))
    assert not is_dismissed((SHORT, EMAIL), frozenset({LONG}))


def test_key_that_becomes_shared_closes_its_pairs_and_says_so() -> None:
    """B17."""
    closed = after(OPEN, ADA, BOB, shared=[PHONE])
    assert closed == replace(OPEN, state="closed", reason="shared_key")
    assert after(closed, ADA, BOB) == OPEN


# --- any history, against a model that compares everybody with everybody

CONTACTS = range(1, 13)
KEYS = (PHONE, SHORT, LONG)


@dataclass
class Store:
    """A workspace in memory: it answers a review's questions as the database does, and remembers what was written."""

    parties: dict[int, Party] = field(default_factory=lambda: {each: Party(each) for each in CONTACTS})
    links: dict[Pair, frozenset[str]] = field(default_factory=dict)
    rows: dict[Pair, Suggestion] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)
    dirty: set[int] = field(default_factory=set)

    def set_keys(self, contact_id: int, keys: frozenset[ContactKey]) -> None:
        old = self.parties[contact_id]
        self.stale |= {each.match_key for each in old.keys - keys} & self.shared
        self.parties[contact_id] = replace(old, keys=keys)
        self.dirty.add(contact_id)

    def holders(self, key: str) -> tuple[int, ...]:
        return tuple(
            each.id
            for each in self.parties.values()
            if each.state == "live" and key in {own_key.match_key for own_key in each.keys}
        )

    def detect(self, contact_ids: set[int]) -> None:
        touched = self.stale | {key.match_key for each in contact_ids for key in self.parties[each].keys}
        self.stale = set()
        counted = [
            CountedKey(key, len(ids), ids[: MAX_SHARERS + 1], key in self.shared)
            for key in sorted(touched)
            for ids in [self.holders(key)]
        ]
        risen = {
            holder for key in counted if key.is_shared and not key.was_shared for holder in self.holders(key.match_key)
        }
        pairs = pairs_to_review(contact_ids, counted) | {pair for pair in self.links if contact_ids & set(pair)}
        before = {
            pair: row
            for pair, row in self.rows.items()
            if pair in pairs or (row.state == "open" and (contact_ids & set(pair) or pair[0] in risen))
        }
        shared = self.shared - {key.match_key for key in counted} | {key.match_key for key in counted if key.is_shared}
        found = review(pairs, before, Scene(self.parties, self.links, shared))
        self.rows |= {each.pair: each for each in found}
        self.shared = shared
        self.dirty -= contact_ids


def expected(store: Store) -> dict[Pair, Evidence]:
    """Return the pairs that should be open, by comparing everybody with everybody."""
    keys = {key.match_key for party in store.parties.values() for key in party.keys}
    shared = {key for key in keys if len(store.holders(key)) > MAX_SHARERS}
    live = [each for each in store.parties.values() if each.state == "live"]
    found = {}
    for one, other in combinations(live, 2):
        pair = pair_of(one.id, other.id)
        evidence = find_evidence(one, other, store.links.get(pair, frozenset()), shared)
        row = store.rows.get(pair)
        if evidence and not (row and is_dismissed(evidence.keys, row.dismissed_keys)):
            found[pair] = evidence
    return found


FEW = st.sets(st.sampled_from(CONTACTS), min_size=1, max_size=2)
# Nearly all of them, so that keys rise above ten contacts and come down again.
SOME = FEW | FEW.map(lambda few: set(CONTACTS) - few)
ACTS = st.one_of(
    st.tuples(st.just("give"), SOME, st.sampled_from(KEYS)),
    st.tuples(st.just("take"), SOME, st.sampled_from(KEYS)),
    st.tuples(st.just("block"), SOME, st.just("blocked")),
    st.tuples(st.just("unblock"), SOME, st.just("live")),
    st.tuples(st.just("link"), st.sets(st.sampled_from(CONTACTS), min_size=2, max_size=2), st.just("")),
    st.tuples(st.just("dismiss"), SOME, st.just("")),
)


def act(store: Store, kind: str, contact_ids: set[int], value: str) -> None:
    for each in sorted(contact_ids):
        party = store.parties[each]
        if kind == "give":
            store.set_keys(each, party.keys | own(value))
        elif kind == "take":
            store.set_keys(each, party.keys - own(value))
        elif kind in {"block", "unblock"}:
            store.parties[each] = replace(party, state="blocked" if kind == "block" else "live")
            store.dirty.add(each)
    if kind == "link":
        low, high = sorted(contact_ids)
        store.links[low, high] = frozenset({link_key(low, high)})
        store.dirty |= contact_ids
    if kind == "dismiss":
        for pair, row in store.rows.items():
            if row.state == "open" and contact_ids >= set(pair):
                store.rows[pair] = replace(row, state="dismissed", dismissed_keys=row.dismissed_keys | set(row.keys))


def test_eleventh_contact_of_a_key_closes_the_pairs_of_the_other_ten_and_its_leaving_reopens_them() -> None:
    """B17: though only the eleventh is looked at."""
    store = Store()
    for each in range(1, 12):
        act(store, "give", {each}, PHONE)
        store.detect({each})
        assert sum(row.state == "open" for row in store.rows.values()) == (each * (each - 1) / 2 if each < 11 else 0)
    act(store, "take", {11}, PHONE)
    store.detect({11})
    assert sum(row.state == "open" for row in store.rows.values()) == 45


@settings(max_examples=300)
@given(st.lists(st.tuples(ACTS, SOME), max_size=20))
def test_any_history_ends_with_what_comparing_everybody_gives(
    history: list[tuple[tuple[str, set[int], str], set[int]]],
) -> None:
    """B17, B18, B19: whatever happened, in whatever portions detection ran."""
    store = Store()
    for (kind, contact_ids, value), detected in history:
        act(store, kind, contact_ids, value)
        store.detect(store.dirty & detected)
    store.detect(set(store.dirty))
    is_open = {pair: Evidence(row.kind, row.keys) for pair, row in store.rows.items() if row.state == "open"}
    assert is_open == expected(store)
    assert store.shared == {key for key in {match_key(each) for each in KEYS} if len(store.holders(key)) > MAX_SHARERS}
