"""Merges and their way back, with anything in between, against a model of them in dictionaries."""

# ruff: noqa: N802 - the names carry the lines of the specification

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from ingest.domain.actors import Actor
from ingest.domain.fields import FieldChanges, read_changes
from ingest.domain.refusals import Conflict
from ingest.jobs.contact_types import EndSnooze
from ingest.jobs.types import DetectDuplicates
from ingest.pipeline import contacts_conversations as conversations
from ingest.pipeline.contacts import Editor, update_contact
from ingest.pipeline.contacts_comments import comment_on_contact
from ingest.pipeline.contacts_tags import tag_contacts, untag_contacts
from ingest.pipeline.detect import detect_duplicates
from ingest.pipeline.merge import MergeRequest, merge_contacts
from ingest.pipeline.resolve import Resolver
from ingest.pipeline.unmerge import undo_merge, unmerge_contact
from ingest.store.conversation_edits import Closing
from ingest.store.unit_of_work import UnitOfWork
from tests import builders
from tests.builders import NOON
from tests.model.merges import Layer, MergeModel
from tests.pipeline_world import SEALER, Pipeline

pytestmark = pytest.mark.database

USER = Actor("user", 7)
COUNTRIES = {"+6512345678": "SG", "+60123456789": "MY", "+60129999999": "MY"}
# Few values, so that contacts share them, and one that clears.
VALUES: dict[str, tuple[str | None, ...]] = {
    "first_name": ("Ada", "Bo", None),
    "last_name": ("Test", "Probe", None),
    "phone": (*COUNTRIES, None),
    "email": ("ada@example.com", "bo@example.com", None),
    "country_code": ("NL", "SG", None),
    "language": ("en", "nl", None),
    "fields.1": ("red", "blue", None),
    "fields.2": ("7", "8", None),
}
API_NAMES = {
    **{"first_name": "firstName", "last_name": "lastName", "country_code": "countryCode"},
    **{name: name for name in ("phone", "email", "language")},
}
TAGS = ("vip", "late")
THEIRS = "theirs"

Act = tuple[Any, ...]
"""What happens, by the name of a method of `Story`, and with what."""


def acts(chance: Random, kinds: Sequence[str], count: int) -> list[Act]:
    """Return so many acts of these kinds."""
    return [_act(chance, chance.choice(kinds)) for _ in range(count)]


def _act(chance: Random, kind: str) -> Act:
    who = chance.randrange(6)
    match kind:
        case "edit":
            name = chance.choice([*VALUES, "phone", "email"])
            return kind, who, name, chance.choice(VALUES[name])
        case "tag" | "untag":
            return kind, who, chance.choice(TAGS)
        case "wait":
            return kind, chance.choice([60, 700, 7200, 7200])
        case "merge":
            # For some fields a picked value; the other's is filled in where it says so.
            names = chance.sample(list(VALUES), chance.choice([0, 1, 3, 5]))
            return (
                kind,
                who,
                chance.randrange(6),
                {name: chance.choice([*VALUES[name], THEIRS, THEIRS]) for name in names},
            )
        case _:
            return kind, who


TALKS = ("message", "comment", "open", "close", "snooze")
BEFORE = (*["edit"] * 4, *["tag"] * 3, "close", "snooze")
BETWEEN = (*TALKS, *["merge"] * 6, *["unmerge"] * 3, *["undo"] * 2, *["edit"] * 3, "tag", "untag", "wait", "wait")


@st.composite
def stories_to_tell(draw: st.DrawFn) -> tuple[int, list[Act]]:
    """Return how many contacts there are, and what happens."""
    people, before, between = draw(st.integers(2, 6)), draw(st.integers(8, 14)), draw(st.integers(16, 26))
    chance = draw(st.randoms(use_true_random=True))
    return people, [*acts(chance, BEFORE, before), *acts(chance, BETWEEN, between)]


PICTURE = text("""
    select
        (select json_object_agg(id, to_jsonb(contact)) from contact where workspace_id = :w) as contacts,
        (select json_agg(json_build_array(contact_id, key, is_primary) order by contact_id, key)
         from contact_key where workspace_id = :w) as keys,
        (select json_agg(json_build_array(contact_id, tag.name)) from contact_tag
         join tag on tag.id = tag_id and tag.workspace_id = :w where contact_tag.workspace_id = :w) as tags,
        (select json_object_agg(id, json_build_array(contact_id, status)) from conversation
         where workspace_id = :w) as conversations,
        (select json_agg(row) from (
            select json_build_array('message', external_id, contact_id, conversation_id) as row
            from message where workspace_id = :w
            union all select json_build_array('comment', text, contact_id, conversation_id)
            from comment where workspace_id = :w
            union all select json_build_array('identity', address, contact_id, null)
            from identity where workspace_id = :w) as rows) as rows,
        (select json_agg(json_build_array(low_contact_id, high_contact_id, state, reason)) from merge_suggestion
         where workspace_id = :w) as suggestions
""")


@dataclass
class Story:
    """Does what happens to the system and tells the model of it."""

    pipeline: Pipeline
    happened: Counter[str]
    model: MergeModel = field(default_factory=MergeModel)
    addresses: list[str] = field(default_factory=list)
    count: int = 0

    def begin(self, people: int) -> None:
        """Have so many contacts come to be by their first messages."""
        for number in range(people):
            address = f"person-{number}"
            self.addresses.append(address)
            self._deliver(address, f"first-{number}")
            contact_id = self.pipeline.contact_of("custom", address).id
            self.model.be_born(contact_id, address)
            self.model.receive(address, f"first-{number}", self.new_conversation)

    def play(self, acts: Sequence[Act]) -> None:
        """Let it all happen, and look after each."""
        for name, *given_ in acts:
            getattr(self, name)(*given_)
            self.check()

    def take_all_apart(self) -> None:
        """Unmerge what is merged, from the outside in, and look after each."""
        while active := self.model.active():
            self._unmerge(next(number for number in active if self.model.may_unmerge(number)))
            self.check()

    # What happens

    @property
    def editor(self) -> Editor:
        return Editor(self.pipeline.workspace_id, "user", USER.id)

    def uow(self) -> UnitOfWork:
        """Return a unit of work, a second later than the one before."""
        self.pipeline.sleep(1)
        return self.pipeline.uow()

    def new_conversation(self) -> int:
        """Return the id of the one conversation that the model has not heard of."""
        (number,) = {row.id for row in self.pipeline.rows("select id from conversation where workspace_id = :w")} - {
            *self.model.conversations
        }
        return int(number)

    def _pick(self, who: int) -> int:
        live = self.model.live()
        return live[who % len(live)]

    def _deliver(self, address: str, message_id: str) -> None:
        self.pipeline.sleep(1)
        self.pipeline.deliver("custom", builders.envelope_text(address, message_id, sent_at=self.pipeline.now))

    def message(self, who: int) -> None:
        self.count += 1
        address = self.addresses[who % len(self.addresses)]
        self._deliver(address, f"message-{self.count}")
        self.model.receive(address, f"message-{self.count}", self.new_conversation)

    def comment(self, who: int) -> None:
        self.count += 1
        contact_id = self._pick(who)
        comment_on_contact(self.uow(), self.editor, contact_id, f"comment-{self.count}")
        self.model.comment(contact_id, f"comment-{self.count}")

    def edit(self, who: int, name: str, value: str | None) -> None:
        contact_id = self._pick(who)
        custom = name.removeprefix("fields.") if name.startswith("fields.") else None
        changes = FieldChanges(custom={int(custom): value}) if custom else read_changes({API_NAMES[name]: value}, {})
        update_contact(self.uow(), self.editor, contact_id, changes)
        self.model.edit(contact_id, name, value, self.pipeline.now, COUNTRIES.get(value or ""))

    def tag(self, who: int, tag: str) -> None:
        contact_id = self._pick(who)
        tag_contacts(self.uow(), self.editor, [contact_id], [tag])
        self.model.tag(contact_id, tag)

    def untag(self, who: int, tag: str) -> None:
        contact_id = self._pick(who)
        untag_contacts(self.uow(), self.editor, [contact_id], [tag])
        self.model.untag(contact_id, tag)

    def open(self, who: int) -> None:
        contact_id = self._pick(who)
        conversations.open_conversation(self.uow(), self.editor, contact_id)
        self.model.open(contact_id, self.new_conversation)

    def close(self, who: int) -> None:
        contact_id = self._pick(who)
        conversations.close_conversations(self.uow(), self.editor, [contact_id], Closing("user", USER.id))
        self.model.close(contact_id)

    def snooze(self, who: int) -> None:
        contact_id = self._pick(who)
        until = self.pipeline.now + timedelta(hours=1)
        if self.model.status(contact_id) != "closed":
            conversations.snooze_conversation(self.uow(), self.editor, contact_id, until)
            self.model.snooze(contact_id, until)

    def wait(self, seconds: int) -> None:
        """Let time pass, and the jobs run that have come due."""
        self.pipeline.sleep(seconds)
        due = self.pipeline.rows(
            "delete from job where workspace_id = :w and name = 'end_snooze' and due_at <= :now returning args",
            now=self.pipeline.now,
        )
        for row in due:
            woken = conversations.end_snooze(self.uow(), EndSnooze(self.pipeline.workspace_id, **row.args))
            self.happened["woken"] += woken
        self.model.pass_time(self.pipeline.now)

    def merge(self, one: int, other: int, picks: dict[str, str | None]) -> None:
        kept, absorbed = self._pick(one), self._pick(other)
        grown = [each.kept for each in self.model.active().values() if self.model.people[each.kept].inside is None]
        # Often into one that has absorbed another, now and then such a one into another.
        if grown and one > 2:
            kept = grown[-1]
        elif grown and other > 1:
            absorbed = grown[-1]
        if kept == absorbed:
            absorbed = next((each for each in self.model.live() if each != kept), kept)
        if kept == absorbed:
            return
        theirs = self.model.people[absorbed]
        chosen = {name: theirs.value(name) if value == THEIRS else value for name, value in picks.items()}
        uow = self.uow()
        done = merge_contacts(uow, MergeRequest(self.pipeline.workspace_id, kept, absorbed, chosen, USER))
        self.model.merge(done.merge_id, kept, absorbed, chosen, uow.now, USER.source)
        self.happened["merged"] += 1

    def unmerge(self, which: int) -> None:
        active = self._active(which)
        if active:
            self._unmerge(active[which % len(active)])

    def _active(self, who: int) -> list[int]:
        """Return the merges that can be taken apart, oldest first; of two contacts, if there were none."""
        if not self.model.active():
            self.merge(who, who + 1, {})
            self.check()
        return list(self.model.active())

    def _unmerge(self, merge_id: int) -> None:
        merge, uow = self.model.merges[merge_id], self.uow()
        if self.model.may_unmerge(merge_id):
            unmerge_contact(uow, self.pipeline.workspace_id, merge.kept, merge.absorbed, USER)
            before = len(self.model.conversations)
            self.model.unmerge(merge_id, self.new_conversation)
            self.happened["continued"] += len(self.model.conversations) - before
            self._check_dismissed(merge.kept, merge.absorbed)
            self.happened["unmerged"] += 1
        else:
            with pytest.raises(Conflict):
                unmerge_contact(uow, self.pipeline.workspace_id, merge.kept, merge.absorbed, USER)
            self.happened["unmerge refused"] += 1

    def undo(self, which: int) -> None:
        # The last ones first: those before mostly have news.
        active = self._active(which)[::-1]
        if not active:
            return
        merge_id = active[which % len(active)]
        merge, uow = self.model.merges[merge_id], self.uow()
        if self.model.may_undo(merge_id, uow.now):
            undo_merge(uow, self.pipeline.workspace_id, merge_id, USER)
            self.model.undo(merge_id)
            self._check_dismissed(merge.kept, merge.absorbed)
            self.happened["undone"] += 1
        else:
            with pytest.raises(Conflict):
                undo_merge(uow, self.pipeline.workspace_id, merge_id, USER)
            self.happened["undo refused"] += 1

    # What has become of it

    def check(self) -> None:
        """Hold what is in the database against the model."""
        picture = self.pipeline.tx.execute(PICTURE, {"w": self.pipeline.workspace_id}).one()._mapping
        self._check_rows(picture)
        for contact_id, person in self.model.people.items():
            row = picture["contacts"][str(contact_id)]
            assert row["merged_into"] == person.inside, contact_id
            if person.inside is None:
                self._check_fields(row, contact_id)
                current = row["status"], row["conversation_id"]
                assert current == (self.model.status(contact_id), person.current), f"B25, B34: {contact_id}"
                assert (row["snoozed_until"] is not None) == (current[0] == "snoozed"), f"B58: {contact_id}"
        self._check_keys_and_tags(picture)

    def _check_rows(self, picture: Any) -> None:
        rows = {(table, name): (owner, number) for table, name, owner, number in picture["rows"]}
        expected = {row: place for row, place in self.model.rows.items() if row[0] != "event"}
        assert rows == expected, "A60, A72, A73, B34: not the rows that should be, or not where"
        found = {int(number): tuple(place) for number, place in picture["conversations"].items()}
        told = {number: (each.owner, each.status) for number, each in self.model.conversations.items()}
        assert found == told, "B25, B34: not the conversations that should be"
        active = Counter(owner for owner, status in found.values() if status != "closed")
        assert all(count == 1 for count in active.values()), "B25: more than one conversation goes on"

    def _check_fields(self, row: Any, contact_id: int) -> None:
        person = self.model.people[contact_id]
        for name in VALUES:
            value = row["fields"].get(name[7:]) if name.startswith("fields.") else row[name] or None
            told = row["provenance"].get(name)
            layer = told and Layer(value, told["source"], told["at"], told.get("merge_id"))
            assert value == person.value(name), f"A59, A62, B23, B34: {name} of {contact_id}"
            assert layer == person.top(name), f"B6, B34: who set {name} of {contact_id}"

    def _check_keys_and_tags(self, picture: Any) -> None:
        live = self.model.live()
        people = self.model.people
        tags = {(owner, tag) for owner, tag in picture["tags"] or () if owner in live}
        assert tags == {(owner, tag) for owner in live for tag in people[owner].tags}, "B22, B34: tags"
        keys = {(owner, key): is_primary for owner, key, is_primary in picture["keys"] or ()}
        expected = {
            (owner, key): key in person.default_keys() for owner, person in people.items() for key in person.keys
        }
        assert keys == expected, "A59, B22, B34: keys"

    def _check_dismissed(self, kept: int, absorbed: int) -> None:
        (pair,) = self.pipeline.rows(
            "select state, reason from merge_suggestion where workspace_id = :w and low_contact_id = :low "
            "and high_contact_id = :high",
            low=min(kept, absorbed),
            high=max(kept, absorbed),
        )
        assert tuple(pair) == ("dismissed", "unmerged"), "B18"

    def check_suggestions(self) -> None:
        """Have duplicates looked for, and hold the open suggestions against who shares a key."""
        live = self.model.live()
        detect_duplicates(self.uow(), [DetectDuplicates(self.pipeline.workspace_id, tuple(self.model.people))])
        suggestions = self.pipeline.tx.execute(PICTURE, {"w": self.pipeline.workspace_id}).one().suggestions or ()
        found = {frozenset((low, high)) for low, high, state, _ in suggestions if state == "open"}
        keys = {number: self.model.people[number].keys.keys() for number in live}
        alike = {frozenset((a, b)) for a in live for b in live if a != b and keys[a] & keys[b]}
        assert found <= alike, "B18: an open suggestion of an absorbed contact, or without a shared key"
        assert alike - self.model.unasked <= found, "A49, B18: no suggestion for contacts that share a key"
        self.happened["suggested"] += len(found)


class Stories:
    """A workspace in which stories are played, and taken back again."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.happened: Counter[str] = Counter()
        pipeline.channel("custom")

    @contextmanager
    def fresh(self) -> Iterator[Story]:
        """Give the workspace without contacts; nothing of what happens stays."""
        with self.pipeline.tx.begin_nested() as savepoint:
            self.pipeline.resolver = Resolver(SEALER)
            self.pipeline.now = NOON
            yield Story(self.pipeline, self.happened)
            savepoint.rollback()


@pytest.fixture(scope="module")
def stories(engine: Engine) -> Iterator[Stories]:
    with engine.connect() as connection, connection.begin() as transaction:
        yield Stories(Pipeline(connection))
        transaction.rollback()


PROPERTY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)


EVENTS = {"merged", "unmerged", "unmerge refused", "undone", "undo refused", "suggested", "woken", "continued"}


def test_A60_A62_A64_A72_A73_B22_B25_B33_and_B34_any_story_of_merges_ends_as_the_model_says(stories: Stories) -> None:
    @settings(PROPERTY, max_examples=40)
    @given(stories_to_tell())
    def tell(what: tuple[int, list[Act]]) -> None:
        with stories.fresh() as story:
            story.begin(what[0])
            note(f"contacts {list(story.model.people)}; {what[1]}")
            story.play(what[1])
            story.check_suggestions()
            story.take_all_apart()
            story.check_suggestions()

    tell()
    # Stories in which nothing happens would agree too.
    assert set(+stories.happened) >= EVENTS
