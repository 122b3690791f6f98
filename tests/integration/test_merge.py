"""Merge: two contacts become one, with nothing thrown away and nothing set off."""

# ruff: noqa: N802 - the names carry the lines of the specification

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from ingest.domain.actors import Actor
from ingest.domain.refusals import Conflict, Gone, Invalid, NotAllowed, NotFound
from ingest.pipeline.merge import MergeRequest, merge_contacts, preview_merge
from ingest.store.merges import list_absorbed, list_history
from tests.acts_load import load_contacts
from tests.acts_world import World

PHONE, OTHER_PHONE = "+60123456789", "+60129999999"


@pytest.fixture
def world(tx: Connection) -> World:
    return World(tx)


def merge(world: World, kept: int, absorbed: int, **more: Any) -> int:
    return merge_contacts(world.uow(), MergeRequest(world.workspace_id, kept, absorbed, **more)).merge_id


def owners(world: World, table: str) -> set[int]:
    return {row.contact_id for row in world.rows(f"select contact_id from {table}")}


def test_A60_A62_and_T35_everything_of_both_ends_up_in_the_kept_contact(world: World) -> None:
    kept, absorbed = world.make_contact(conversation="closed"), world.make_contact(channel=1, conversation="open")
    for contact_id in (kept, absorbed):
        world.make_message(contact_id)
        world.run(
            "insert into contact_event (workspace_id, contact_id, origin_contact_id, kind, source) "
            "values (:workspace_id, :id, :id, 'contact.created', 'channel')",
            id=contact_id,
        )
        world.run(
            "insert into comment (workspace_id, contact_id, origin_contact_id, source, text) "
            "values (:workspace_id, :id, :id, 'user', 'Call back')",
            id=contact_id,
        )
    children = ("message", "comment", "identity", "conversation")
    before = {table: world.scalar(f"select count(*) from {table}") for table in children}
    merge(world, kept, absorbed)
    for table in (*children, "contact_event"):
        assert owners(world, table) == {kept}, table
    assert {table: world.scalar(f"select count(*) from {table}") for table in children} == before
    assert world.scalar("select count(*) from message where origin_contact_id = :id", id=absorbed) == 1
    assert world.contact(absorbed).merged_into == kept


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [({}, PHONE), ({"phone": OTHER_PHONE}, OTHER_PHONE), ({"phone": "+60120000001"}, "+60120000001")],
)
def test_A59_B22_and_B23_the_chosen_value_wins_and_the_others_stay_as_secondary_keys(
    world: World, chosen: dict[str, str], expected: str
) -> None:
    kept, absorbed = world.make_contact(phone=PHONE), world.make_contact(phone=OTHER_PHONE, email="a@example.com")
    merge(world, kept, absorbed, chosen=chosen)
    row = world.contact(kept)
    assert (row.phone, row.email) == (expected, "a@example.com")
    keys = dict(
        tuple(each) for each in world.rows("select key, is_primary from contact_key where contact_id = :id", id=kept)
    )
    assert set(keys) == {"tel:" + PHONE, "tel:" + OTHER_PHONE, "tel:" + expected, "mailto:a@example.com"}
    assert {key for key, is_primary in keys.items() if is_primary} == {"tel:" + expected, "mailto:a@example.com"}
    assert world.rows("select key from contact_key where contact_id = :id", id=absorbed) == []


def test_B22_tags_are_united_and_the_assignee_and_date_added_are_the_kept_contacts(world: World) -> None:
    kept = world.make_contact(assignee_id=None)
    world.now += timedelta(days=1)
    absorbed = world.make_contact(assignee_id=4, lifecycle_id=9)
    world.make_tag("one", kept), world.make_tag("two", kept, absorbed), world.make_tag("three", absorbed)
    added_at = world.contact(kept).created_at
    merge(world, kept, absorbed)
    row = world.contact(kept)
    assert (row.assignee_id, row.lifecycle_id, row.created_at) == (None, 9, added_at)
    tags = world.rows(
        "select name from contact_tag join tag on tag.id = tag_id where contact_id = :id order by name", id=kept
    )
    assert [each.name for each in tags] == ["one", "three", "two"]


def test_B22_a_custom_field_that_only_one_side_has_is_kept(world: World) -> None:
    kept, absorbed = (
        world.make_contact(fields='{"1": "a", "2": "b"}'),
        world.make_contact(fields='{"2": "c", "3": "d"}'),
    )
    merge(world, kept, absorbed, chosen={"fields.2": "c"})
    assert world.contact(kept).fields == {"1": "a", "2": "c", "3": "d"}


def test_B68_tags_of_a_merge_fire_no_trigger(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    world.make_tag("vip", absorbed)
    merge(world, kept, absorbed)
    assert world.jobs("react_to_tags") == []


@pytest.mark.parametrize(
    ("mine", "theirs", "expected", "closed"),
    [
        ("open", "open", ("open", "mine"), "theirs"),
        ("closed", "open", ("open", "theirs"), None),
        ("open", "closed", ("open", "mine"), None),
        ("snoozed", "open", ("open", "theirs"), "mine"),
        ("open", "snoozed", ("open", "mine"), "theirs"),
        ("closed", "snoozed", ("snoozed", "theirs"), None),
        ("closed", "closed", ("closed", "mine"), None),
        (None, "closed", ("closed", "theirs"), None),
        ("snoozed", None, ("snoozed", "mine"), None),
    ],
)
def test_B25_the_more_open_conversation_becomes_the_current_one(
    world: World, mine: str | None, theirs: str | None, expected: tuple[str, str], closed: str | None
) -> None:
    kept, absorbed = world.make_contact(conversation=mine), world.make_contact(conversation=theirs)
    ids = {"mine": world.contact(kept).conversation_id, "theirs": world.contact(absorbed).conversation_id, None: None}
    merge(world, kept, absorbed)
    row = world.contact(kept)
    assert (row.status, row.conversation_id) == (expected[0], ids[expected[1]])
    by_merge = world.rows("select id from conversation where closed_source = 'merge'")
    assert [each.id for each in by_merge] == ([ids[closed]] if closed else [])


def test_A63_a_conversation_closed_by_a_merge_starts_no_workflow(world: World) -> None:
    kept, absorbed = world.make_contact(conversation="open"), world.make_contact(conversation="open")
    merge(world, kept, absorbed)
    assert world.events(kept) == [("conversation.closed", "merge"), ("contact.merged", "api")]
    assert world.jobs("react_to_conversations") == []


def test_B26_runs_of_the_absorbed_contact_end_and_those_of_the_kept_one_go_on(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    mine, theirs = world.make_run(kept), world.make_run(absorbed)
    merge(world, kept, absorbed)
    runs = {row.id: (row.state, row.reason) for row in world.rows("select id, state, reason from workflow_run")}
    assert runs == {mine: ("active", None), theirs: ("ended", "merged")}


def test_B24_refusals(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    with pytest.raises(Invalid):
        merge(world, kept, kept)
    with pytest.raises(NotFound):
        merge(world, kept, 2**40)
    for blocked in (kept, absorbed):
        world.run("update contact set blocked_at = now() where id = :id", id=blocked)
        with pytest.raises(Conflict) as refusal:
            merge(world, kept, absorbed)
        assert (refusal.value.word, refusal.value.details) == ("blocked", {"contact_id": blocked})
        world.run("update contact set blocked_at = null")
    world.run("update contact set deletion_job_id = 1 where id = :id", id=absorbed)
    with pytest.raises(Gone):
        merge(world, kept, absorbed)


def test_B24_an_agent_merges_only_what_shares_a_key(world: World) -> None:
    kept, absorbed = world.make_contact(phone=PHONE), world.make_contact(phone=OTHER_PHONE)
    with pytest.raises(NotAllowed):
        merge(world, kept, absorbed, needs_shared_key=True)
    world.make_key(absorbed, "tel:" + PHONE, is_primary=False)
    merge(world, kept, absorbed, needs_shared_key=True)


def test_A67_any_two_may_be_merged_without_a_shared_key(world: World) -> None:
    merge(world, world.make_contact(phone=PHONE), world.make_contact(phone=OTHER_PHONE))


def test_contacts_of_another_workspace_are_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        merge(world, world.make_contact(), World(world.tx).make_contact())


def test_A68_and_B31_a_repeated_merge_returns_the_first_result(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    first = merge(world, kept, absorbed, idempotency_key="once")
    again = merge_contacts(world.uow(), MergeRequest(world.workspace_id, kept, absorbed))
    by_key = merge_contacts(world.uow(), MergeRequest(world.workspace_id, kept, absorbed, idempotency_key="once"))
    assert (again.merge_id, again.is_repeat, by_key.merge_id) == (first, True, first)
    assert world.scalar("select count(*) from merge_record") == 1
    with pytest.raises(Conflict):
        merge(world, kept, world.make_contact(), idempotency_key="once")


def test_B28_the_loser_of_two_crossing_merges_is_told_where_its_contact_went(world: World) -> None:
    one, other = world.make_contact(), world.make_contact()
    merge(world, one, other)
    with pytest.raises(Conflict) as refusal:
        merge(world, other, one)
    assert (refusal.value.word, refusal.value.details) == ("merged_into", {"merged_into": one})


def test_A57_and_A69_three_people_take_two_merges(world: World) -> None:
    one, two, three = (world.make_contact() for _ in range(3))
    merge(world, one, two)
    merge(world, one, three)
    assert owners(world, "identity") == {one}
    assert [row.id for row in list_absorbed(world.tx, world.workspace_id, one)] == [two, three]


def test_B18_the_pair_is_marked_merged_and_others_are_repointed(world: World) -> None:
    kept, absorbed, third, fourth = (world.make_contact() for _ in range(4))
    world.make_suggestion(kept, absorbed, ["tel:1"])
    world.make_suggestion(absorbed, third, ["tel:2"])
    world.make_suggestion(kept, third, ["tel:3"])
    dismissed = world.make_suggestion(absorbed, fourth, ["tel:4"])
    world.run(
        "update merge_suggestion set state = 'dismissed', reason = 'user', dismissed_keys = keys where id = :id",
        id=dismissed,
    )
    merge(world, kept, absorbed, actor=Actor("user", 7))
    found = {
        (row.low_contact_id, row.high_contact_id): (row.state, row.reason, row.keys)
        for row in world.rows("select * from merge_suggestion")
    }
    assert found == {
        (kept, absorbed): ("merged", None, ["tel:1"]),
        (absorbed, third): ("closed", "party_merged", ["tel:2"]),
        (kept, third): ("open", None, ["tel:2", "tel:3"]),
        (absorbed, fourth): ("dismissed", "user", ["tel:4"]),
        (kept, fourth): ("dismissed", "user", ["tel:4"]),
    }
    assert world.jobs("detect_duplicates") == [{"contact_ids": [kept]}]


def test_A65_and_B30_history_says_who_merged_what_when_and_what_was_chosen(world: World) -> None:
    kept, absorbed = world.make_contact(first_name="Ada"), world.make_contact(first_name="Eve")
    world.make_message(absorbed)
    merge_id = merge(world, kept, absorbed, actor=Actor("user", 7), chosen={"first_name": "Eve"})
    (record,) = list_history(world.tx, world.workspace_id, contact_id=absorbed)
    assert (record.id, record.actor_id, record.source, record.merged_at) == (merge_id, 7, "user", world.now)
    assert (record.kept["first_name"], record.absorbed["first_name"], record.chosen) == (
        "Ada",
        "Eve",
        {"first_name": "Eve"},
    )
    assert record.moved_counts == {"message": 1, "identity": 1}


def test_the_merged_contact_was_last_active_when_either_was(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    world.make_message(kept)
    world.make_message(absorbed, channel_id=world.channel_ids[1])
    newest = world.now
    merge(world, kept, absorbed)
    row = world.contact(kept)
    assert (row.last_message_at, row.last_incoming_at, row.last_channel_id) == (newest, newest, world.channel_ids[1])


def test_C14_a_preview_says_what_would_move_and_every_reason_against_it(world: World) -> None:
    kept = world.make_contact(phone=PHONE, first_name="Ada")
    absorbed = world.make_contact(phone=PHONE, first_name="Eve", blocked_at=world.now)
    world.make_message(absorbed)
    request = MergeRequest(world.workspace_id, kept, absorbed, chosen={"first_name": "Eve"})
    preview = preview_merge(world.uow(), request)
    assert preview.obstacles == (("blocked", absorbed),)
    assert preview.shared_keys == ("tel:" + PHONE,)
    assert preview.moving_counts == {"message": 1, "contact_event": 0, "conversation": 0, "comment": 0, "identity": 1}
    assert preview.plan is not None
    assert preview.plan.changes["first_name"].after == "Eve"
    world.run("update contact set blocked_at = null")
    assert preview_merge(world.uow(), request).obstacles == ()
    assert world.scalar("select count(*) from merge_record") == 0


def test_A61_the_merged_timeline_is_one_list_in_order_across_channels(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact(channel=1)
    words = ["one", "two", "three", "four"]
    for number, each in enumerate(words):
        world.make_message((kept, absorbed)[number % 2], each, channel_id=world.channel_ids[number % 2])
    merge(world, kept, absorbed)
    found = world.rows(
        "select text from message where contact_id = :id order by sent_at, accepted_at, sequence, id", id=kept
    )
    assert [row.text for row in found] == words


def test_B32_a_merge_takes_the_same_statements_for_one_row_as_for_hundreds(world: World) -> None:
    def statements(rows: int) -> int:
        kept, absorbed = load_contacts(world.tx, world.workspace_id, world.channel_ids[0], 2, rows, first=rows)
        count = 0

        def tell(*_: object) -> None:
            nonlocal count
            count += 1

        event.listen(world.tx, "before_cursor_execute", tell)
        merge(world, kept, absorbed)
        event.remove(world.tx, "before_cursor_execute", tell)
        return count

    assert statements(1) == statements(300)
