"""Undo and unmerge: everybody gets back exactly what was theirs, and what came later stays."""

# ruff: noqa: N802 - the names carry the lines of the specification

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from ingest.domain.actors import Actor
from ingest.domain.blocks import BlockTerms
from ingest.domain.fields import read_changes
from ingest.domain.refusals import Conflict, NotAllowed, NotFound
from ingest.jobs.contact_types import EndSnooze
from ingest.pipeline.block import block_contacts
from ingest.pipeline.contacts import Editor, update_contact
from ingest.pipeline.contacts_conversations import end_snooze
from ingest.pipeline.merge import MergeRequest, merge_contacts
from ingest.pipeline.unmerge import undo_merge, unmerge_contact
from tests.acts_world import World

PHONE, OTHER_PHONE, THIRD_PHONE = "+60123456789", "+60129999999", "+60128888888"
ME = Actor("user", 7)
# What must be the same after a merge and its undo.
ROWS = {
    "contact": "select id, first_name, last_name, phone, email, fields, provenance, assignee_id, status, conversation_id, "
    "snoozed_until, last_message_at, last_incoming_at, last_channel_id, merged_into from contact",
    "contact_key": "select contact_id, key, match_key, is_primary, is_verified, origin_contact_id from contact_key",
    "contact_tag": "select contact_id, tag_id, source, created_at from contact_tag",
    "identity": "select id, contact_id, origin_contact_id, address from identity",
    "conversation": "select id, contact_id, status, closed_at, closed_source from conversation",
    "message": "select id, contact_id, origin_contact_id, conversation_id from message",
}


@pytest.fixture
def world(tx: Connection) -> World:
    return World(tx)


def merge(world: World, kept: int, absorbed: int, **more: Any) -> int:
    return merge_contacts(world.uow(), MergeRequest(world.workspace_id, kept, absorbed, **more)).merge_id


def unmerge(world: World, kept: int, absorbed: int) -> int:
    return unmerge_contact(world.uow(), world.workspace_id, kept, absorbed).merge_id


def everything(world: World) -> dict[str, set[str]]:
    return {name: {str(tuple(row)) for row in world.rows(sql)} for name, sql in ROWS.items()}


def owner(world: World, table: str, row_id: int) -> int:
    return int(world.scalar(f"select contact_id from {table} where id = :id", id=row_id))


def tags(world: World, contact_id: int) -> set[int]:
    return {row.tag_id for row in world.rows("select tag_id from contact_tag where contact_id = :id", id=contact_id)}


def keys(world: World, contact_id: int) -> set[tuple[str, bool]]:
    found = world.rows("select key, is_primary from contact_key where contact_id = :id", id=contact_id)
    return {(row.key, row.is_primary) for row in found}


def test_A64_undo_leaves_everything_as_if_there_had_been_no_merge(world: World) -> None:
    kept = world.make_contact(conversation="snoozed", phone=PHONE, snoozed_until=world.now + timedelta(days=1))
    absorbed = world.make_contact(
        channel=1, conversation="open", phone=OTHER_PHONE, email="a@example.com", fields='{"1": "x"}'
    )
    world.make_message(kept), world.make_message(absorbed), world.make_tag("vip", absorbed)
    before = everything(world)
    merge_id = merge(world, kept, absorbed, actor=ME, chosen={"phone": OTHER_PHONE})
    assert everything(world) != before
    undone = undo_merge(world.uow(), world.workspace_id, merge_id, ME)
    assert (undone.kept_id, undone.absorbed_id, undone.is_repeat) == (kept, absorbed, False)
    assert everything(world) == before
    assert world.jobs("react_to_conversations") == []


def test_B21_undo_is_for_ten_minutes_and_only_as_long_as_nothing_is_new(world: World) -> None:
    kept, absorbed = world.make_contact(conversation="open"), world.make_contact()
    late = merge(world, kept, absorbed, actor=ME)
    with pytest.raises(Conflict) as refusal:
        undo_merge(world.uow(seconds=601), world.workspace_id, late, ME)
    assert refusal.value.word == "undo_expired"
    other = world.make_contact()
    with_news = merge(world, kept, other, actor=ME)
    world.make_message(kept)
    with pytest.raises(Conflict):
        undo_merge(world.uow(), world.workspace_id, with_news, ME)


def test_B21_an_edit_after_the_merge_counts_as_news(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    merge_id = merge(world, kept, absorbed, actor=ME)
    world.run("update contact set first_name = 'New', updated_at = :now where id = :id", id=kept, now=world.uow().now)
    with pytest.raises(Conflict):
        undo_merge(world.uow(), world.workspace_id, merge_id, ME)


def test_A11_agents_undo_only_their_own_merge(world: World) -> None:
    merge_id = merge(world, world.make_contact(), world.make_contact(), actor=ME)
    for stranger in (Actor("user", 8), Actor("api")):
        with pytest.raises(NotAllowed):
            undo_merge(world.uow(), world.workspace_id, merge_id, stranger)
    undo_merge(world.uow(), world.workspace_id, merge_id, Actor("user", 8), may_undo_any=True)


def test_A75_a_repeated_undo_or_unmerge_returns_the_first_result(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    first = merge(world, kept, absorbed, actor=ME)
    undo_merge(world.uow(), world.workspace_id, first, ME)
    assert undo_merge(world.uow(), world.workspace_id, first, ME).is_repeat
    second = merge(world, kept, absorbed)
    assert unmerge(world, kept, absorbed) == second
    assert unmerge_contact(world.uow(), world.workspace_id, kept, absorbed).is_repeat
    assert [kind for kind, _ in world.events(absorbed)] == ["contact.unmerged", "contact.unmerged"]


def test_A72_A73_A74_and_B34_what_came_before_goes_back_and_what_came_after_stays(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact(channel=1, conversation="open")
    theirs = world.make_message(absorbed)
    conversation_id = world.contact(absorbed).conversation_id
    identity_id = world.scalar("select id from identity where contact_id = :id", id=absorbed)
    merge(world, kept, absorbed)
    later = world.make_message(kept, channel_id=world.channel_ids[1])
    new_identity_id = world.make_identity(kept)
    unmerge(world, kept, absorbed)
    assert [owner(world, "message", each) for each in (theirs, later)] == [absorbed, kept]
    assert [owner(world, "identity", each) for each in (identity_id, new_identity_id)] == [absorbed, kept]
    gone, stayed = world.contact(absorbed), world.contact(kept)
    assert (gone.status, gone.conversation_id, gone.merged_into) == ("closed", conversation_id, None)
    assert (stayed.status, stayed.last_message_at) == (
        "open",
        world.scalar("select sent_at from message where id = :id", id=later),
    )
    assert world.scalar("select conversation_id from message where id = :id", id=later) == stayed.conversation_id
    assert world.scalar("select contact_id from conversation where id = :id", id=stayed.conversation_id) == kept
    assert stayed.conversation_id != conversation_id


def test_B34_an_identity_removed_meanwhile_stays_removed(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    merge(world, kept, absorbed)
    world.run("delete from identity where origin_contact_id = :id", id=absorbed)
    unmerge(world, kept, absorbed)
    assert world.rows("select id from identity where contact_id = :id", id=absorbed) == []


def test_B34_a_field_somebody_changed_since_keeps_its_new_value(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact(first_name="Eve", last_name="Test")
    merge(world, kept, absorbed)
    world.run(
        "update contact set last_name = 'Typed', provenance = provenance || "
        """'{"last_name": {"source": "user"}}' where id = :id""",
        id=kept,
    )
    unmerge(world, kept, absorbed)
    row = world.contact(kept)
    assert (row.first_name, row.last_name) == ("", "Typed")


def test_B34_a_value_that_somebody_typed_again_is_theirs_and_stays(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact(first_name="Eve")
    merge(world, kept, absorbed)
    world.run("""update contact set provenance = '{"first_name": {"source": "user"}}' where id = :id""", id=kept)
    unmerge(world, kept, absorbed)
    assert world.contact(kept).first_name == "Eve"


def test_B34_another_merge_counts_as_a_change_and_leaves_no_trace_of_the_first(world: World) -> None:
    kept = world.make_contact(phone=PHONE)
    second, third = world.make_contact(phone=OTHER_PHONE), world.make_contact(phone=THIRD_PHONE)
    merge(world, kept, second, chosen={"phone": OTHER_PHONE})
    merge(world, kept, third, chosen={"phone": THIRD_PHONE})
    unmerge(world, kept, second)
    assert world.contact(kept).phone == THIRD_PHONE
    unmerge(world, kept, third)
    assert world.contact(kept).phone == PHONE


def test_B34_tags_and_keys_that_only_the_absorbed_one_brought_go_with_it(world: World) -> None:
    kept, absorbed = world.make_contact(phone=PHONE), world.make_contact(phone=OTHER_PHONE)
    own, brought, readded = (
        world.make_tag("own", kept),
        world.make_tag("brought", absorbed),
        world.make_tag("again", absorbed),
    )
    merge(world, kept, absorbed)
    world.run("delete from contact_tag where contact_id = :id and tag_id = :tag", id=kept, tag=readded)
    world.make_tag("again", kept)
    unmerge(world, kept, absorbed)
    assert tags(world, kept) == {own, readded}
    assert tags(world, absorbed) == {brought, readded}
    assert {tuple(row) for row in world.rows("select contact_id, key, is_primary from contact_key")} == {
        (kept, "tel:" + PHONE, True),
        (absorbed, "tel:" + OTHER_PHONE, True),
    }


def test_B33_what_two_merges_brought_goes_only_with_the_last_of_them(world: World) -> None:
    kept, second, third = world.make_contact(), world.make_contact(phone=PHONE), world.make_contact(phone=PHONE)
    tag_id = world.make_tag("vip", second, third)
    merge(world, kept, second, chosen={"phone": None})
    merge(world, kept, third, chosen={"phone": None})
    unmerge(world, kept, second)
    assert tags(world, kept) == {tag_id}
    assert world.scalar("select count(*) from contact_key where contact_id = :id", id=kept) == 1
    unmerge(world, kept, third)
    assert tags(world, kept) == set()
    assert world.scalar("select count(*) from contact_key where contact_id = :id", id=kept) == 0


def test_B34_a_key_that_a_later_merge_picked_goes_with_the_last_of_the_two(world: World) -> None:
    kept = world.make_contact(phone=PHONE)
    second, third = world.make_contact(phone=OTHER_PHONE), world.make_contact()
    merge(world, kept, second)
    merge(world, kept, third, chosen={"phone": OTHER_PHONE})
    unmerge(world, kept, second)
    assert keys(world, kept) == {("tel:" + PHONE, False), ("tel:" + OTHER_PHONE, True)}
    unmerge(world, kept, third)
    assert keys(world, kept) == {("tel:" + PHONE, True)}


def test_B34_a_number_that_was_typed_stays_findable_while_another_merge_covers_it(world: World) -> None:
    kept, second, third = world.make_contact(), world.make_contact(phone=PHONE), world.make_contact(phone=OTHER_PHONE)
    merge(world, kept, second, chosen={"phone": None})
    editor = Editor(world.workspace_id, "user", 7)
    update_contact(world.uow(), editor, kept, read_changes({"phone": PHONE}, {}))
    merge(world, kept, third, chosen={"phone": OTHER_PHONE})
    unmerge(world, kept, second)
    assert keys(world, kept) == {("tel:" + PHONE, False), ("tel:" + OTHER_PHONE, True)}
    unmerge(world, kept, third)
    assert (world.contact(kept).phone, keys(world, kept)) == (PHONE, {("tel:" + PHONE, True)})


def test_B34_a_conversation_that_has_gone_with_another_contact_does_not_come_back(world: World) -> None:
    kept, second, third = world.make_contact(), *(world.make_contact(conversation="snoozed") for _ in range(2))
    world.run("update conversation set status = 'open' where contact_id = :id", id=third)
    world.run("update contact set status = 'open' where id = :id", id=third)
    merge(world, kept, second)
    merge(world, kept, third)
    unmerge(world, kept, second)
    unmerge(world, kept, third)
    row = world.contact(kept)
    (own,) = world.rows("select id, status from conversation where contact_id = :id", id=kept)
    assert (row.conversation_id, row.status, own.status) == (own.id, "closed", "closed")


def test_B25_and_B58_a_snoozed_conversation_wakes_with_whoever_has_it(world: World) -> None:
    until = world.now + timedelta(hours=1)
    kept = world.make_contact(conversation="closed")
    absorbed = world.make_contact(conversation="snoozed", snoozed_until=until)
    merge_id = merge(world, kept, absorbed, actor=ME)
    assert world.timers() == [(kept, until)]
    undo_merge(world.uow(), world.workspace_id, merge_id, ME)
    assert world.timers() == [(kept, until), (absorbed, until)]


def test_B58_a_conversation_that_comes_back_snoozed_wakes_though_its_time_had_come_meanwhile(world: World) -> None:
    until = world.now + timedelta(hours=1)
    kept = world.make_contact(conversation="snoozed", snoozed_until=until)
    absorbed = world.make_contact(conversation="open")
    merge(world, kept, absorbed)
    world.now += timedelta(hours=2)
    unmerge(world, kept, absorbed)
    assert (world.contact(kept).status, world.timers()) == ("snoozed", [(kept, until)])
    assert end_snooze(world.uow(), EndSnooze(world.workspace_id, kept))
    assert world.contact(kept).status == "open"


def test_B33_a_nested_one_comes_out_with_the_one_that_holds_it(world: World) -> None:
    outer, middle, inner = (world.make_contact() for _ in range(3))
    message_id = world.make_message(inner)
    merge(world, middle, inner)
    merge(world, outer, middle)
    with pytest.raises(Conflict) as refusal:
        unmerge(world, outer, inner)
    assert (refusal.value.word, refusal.value.details) == ("nested_merge", {"take_out_first": middle})
    with pytest.raises(Conflict):
        unmerge(world, middle, inner)
    unmerge(world, outer, middle)
    assert owner(world, "message", message_id) == middle
    assert world.contact(inner).merged_into == middle
    unmerge(world, middle, inner)
    assert owner(world, "message", message_id) == inner


def test_B35_a_blocked_contact_is_unblocked_first(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    merge(world, kept, absorbed)
    block_contacts(world.uow(), world.workspace_id, [kept], BlockTerms())
    with pytest.raises(Conflict) as refusal:
        unmerge(world, kept, absorbed)
    assert refusal.value.word == "blocked"


def test_contacts_that_were_never_merged_are_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        unmerge(world, world.make_contact(), world.make_contact())


def test_B18_after_an_unmerge_the_pair_is_dismissed_with_its_keys(world: World) -> None:
    kept, absorbed = world.make_contact(phone=PHONE), world.make_contact(phone=PHONE)
    merge(world, kept, absorbed)
    unmerge(world, kept, absorbed)
    (pair,) = world.rows("select state, reason, dismissed_keys from merge_suggestion")
    assert tuple(pair) == ("dismissed", "unmerged", ["tel:" + PHONE])
    assert world.jobs("detect_duplicates")[-1] == {"contact_ids": [kept, absorbed]}


def test_B26_runs_are_not_resumed(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    run_id = world.make_run(absorbed)
    merge_id = merge(world, kept, absorbed, actor=ME)
    undo_merge(world.uow(), world.workspace_id, merge_id, ME)
    assert world.scalar("select state from workflow_run where id = :id", id=run_id) == "ended"


def test_T85_merge_unmerge_merge_is_stable(world: World) -> None:
    kept, absorbed = world.make_contact(phone=PHONE), world.make_contact(phone=OTHER_PHONE, first_name="Eve")
    world.make_message(absorbed)
    merge(world, kept, absorbed)
    once = {name: rows for name, rows in everything(world).items() if name != "contact"}
    unmerge(world, kept, absorbed)
    merge(world, kept, absorbed)
    assert {name: rows for name, rows in everything(world).items() if name != "contact"} == once


class Model:
    """Who owns what, as plain dictionaries: the merges as a stack of moved sets."""

    def __init__(self) -> None:
        self.owner: dict[tuple[str, int], int] = {}
        self.inside: dict[int, int] = {}
        self.moved: dict[int, set[tuple[str, int]]] = {}

    def merge(self, kept: int, absorbed: int) -> None:
        self.moved[absorbed] = {item for item, owner in self.owner.items() if owner == absorbed}
        self.inside[absorbed] = kept
        self.owner |= dict.fromkeys(self.moved[absorbed], kept)

    def unmerge(self, absorbed: int) -> None:
        del self.inside[absorbed]
        self.owner |= dict.fromkeys(self.moved.pop(absorbed), absorbed)


@pytest.mark.parametrize("seed", range(12))
def test_B33_and_B34_any_order_of_merges_and_unmerges_agrees_with_a_plain_model(world: World, seed: int) -> None:
    dice, model = random.Random(seed), Model()
    phones = [f"+6012000000{number}" for number in range(6)]
    people = [world.make_contact(channel=number % 2, phone=phone) for number, phone in enumerate(phones)]
    for contact_id in people:
        world.make_tag(f"tag-{contact_id % 3}", contact_id)
        model.owner["identity", world.scalar("select id from identity where contact_id = :id", id=contact_id)] = (
            contact_id
        )
    start = {
        name: rows for name, rows in everything(world).items() if name in {"contact_key", "contact_tag", "identity"}
    }
    for _ in range(25):
        live = [each for each in people if each not in model.inside]
        removable = [each for each, kept in model.inside.items() if kept not in model.inside]
        act = dice.choice(["message", "merge", "merge", "unmerge"])
        if act == "merge" and len(live) > 1:
            kept, absorbed = dice.sample(live, 2)
            merge(world, kept, absorbed)
            model.merge(kept, absorbed)
        elif act == "unmerge" and removable:
            absorbed = dice.choice(removable)
            unmerge(world, model.inside[absorbed], absorbed)
            model.unmerge(absorbed)
        else:
            contact_id = dice.choice(live)
            if world.contact(contact_id).status != "open":
                model.owner["conversation", world.make_conversation(contact_id)] = contact_id
            model.owner["message", world.make_message(contact_id)] = contact_id
        # A conversation that an unmerge had to make belongs to whoever wrote on.
        for row in world.rows("select id, contact_id from conversation where opened_source = 'merge'"):
            model.owner.setdefault(("conversation", row.id), row.contact_id)
        for table in ("message", "identity", "conversation"):
            stored = {row.id: row.contact_id for row in world.rows(f"select id, contact_id from {table}")}
            assert stored == {item: owner for (name, item), owner in model.owner.items() if name == table}, (
                seed,
                table,
            )
    while model.inside:
        absorbed = next(each for each, kept in model.inside.items() if kept not in model.inside)
        unmerge(world, model.inside[absorbed], absorbed)
        model.unmerge(absorbed)
    now = everything(world)
    assert {name: now[name] for name in start} == start
    fields = {row.id: row.phone for row in world.rows("select id, phone from contact")}
    assert fields == dict(zip(people, phones, strict=True))
    crossed = world.scalar(
        "select count(*) from message join conversation on conversation.id = message.conversation_id "
        "where message.contact_id <> conversation.contact_id"
    )
    assert crossed == 0
