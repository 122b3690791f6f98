"""Block and unblock: what stops, in which order, and what comes back."""

# ruff: noqa: N802 - the names carry the lines of the specification

from datetime import timedelta

import pytest
from sqlalchemy import Connection

from ingest.domain.actors import Actor
from ingest.domain.blocks import BlockTerms
from ingest.domain.refusals import Invalid
from ingest.jobs.act_types import ContinueBulkAct, EndTimedBlock
from ingest.pipeline.block import (
    add_bulk_block,
    add_bulk_unblock,
    block_contacts,
    continue_bulk_act,
    end_timed_block,
    get_bulk_act,
    unblock_contacts,
)
from ingest.store.blocks import blocked_keys, count_evasions
from ingest.store.runs import Timer, set_timers
from tests.acts_world import World

PHONE = "+60123456789"


@pytest.fixture
def world(tx: Connection) -> World:
    return World(tx)


def test_A77_blocking_closes_the_conversation_then_marks_the_contact(world: World) -> None:
    contact_id = world.make_contact(conversation="open")
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms("spam"), Actor("user", 7))
    assert world.events(contact_id) == [("conversation.closed", "block"), ("contact.blocked", "user")]
    row = world.contact(contact_id)
    assert (row.status, row.blocked_at, row.block_reason) == ("closed", world.now, "spam")
    closed = world.rows(
        "select status, closed_source, closed_by from conversation where contact_id = :id", id=contact_id
    )
    assert [tuple(each) for each in closed] == [("closed", "block", 7)]


def test_T65_history_says_who_blocked_when_and_why(world: World) -> None:
    contact_id = world.make_contact()
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms("rude"), Actor("user", 7))
    told = world.rows("select actor_id, at, data from contact_event where contact_id = :id", id=contact_id)
    assert [tuple(each) for each in told] == [(7, world.now, {"reason": "rude"})]


def test_A80_and_T66_every_run_ends_and_its_timer_is_void(world: World) -> None:
    contact_id, bystander_id = world.make_contact(), world.make_contact()
    run_id, other_run_id = world.make_run(contact_id), world.make_run(bystander_id)
    wake_at = world.now + timedelta(days=1)
    set_timers(
        world.tx,
        world.workspace_id,
        [Timer(run_id, contact_id, 1, wake_at), Timer(other_run_id, bystander_id, 1, wake_at)],
    )
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms())
    runs = {row.id: (row.state, row.reason) for row in world.rows("select id, state, reason from workflow_run")}
    assert runs == {run_id: ("ended", "blocked"), other_run_id: ("active", None)}
    assert [job["run_id"] for job in world.jobs("wake_run")] == [other_run_id]


def test_B42_closing_by_block_starts_no_workflow_and_cancels_the_snooze(world: World) -> None:
    contact_id = world.make_contact(conversation="snoozed", snoozed_until=world.now + timedelta(hours=1))
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms())
    assert world.contact(contact_id).snoozed_until is None
    assert world.jobs("react_to_conversations") == []


def test_A55_and_B18_suggestions_close_on_block_and_are_looked_at_again_on_unblock(world: World) -> None:
    one, other = world.make_contact(phone=PHONE), world.make_contact(phone=PHONE)
    world.make_suggestion(one, other, ["tel:" + PHONE])
    block_contacts(world.uow(), world.workspace_id, [one], BlockTerms())
    found = world.rows("select state, reason from merge_suggestion")
    assert [tuple(each) for each in found] == [("closed", "party_blocked")]
    world.run("delete from job")
    unblock_contacts(world.uow(), world.workspace_id, [one])
    assert world.jobs("detect_duplicates") == [{"contact_ids": [one]}]


def test_A83_and_B43_unblock_leaves_the_contact_closed_and_everything_else_alone(world: World) -> None:
    contact_id = world.make_contact(conversation="open", first_name="Test", assignee_id=5)
    tag_id = world.make_tag("vip", contact_id)
    run_id = world.make_run(contact_id)
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms())
    assert unblock_contacts(world.uow(), world.workspace_id, [contact_id]).changed == (contact_id,)
    row = world.contact(contact_id)
    assert (row.status, row.blocked_at, row.blocked_until, row.block_reason) == ("closed", None, None, None)
    assert (row.first_name, row.assignee_id) == ("Test", 5)
    assert world.scalar("select tag_id from contact_tag where contact_id = :id", id=contact_id) == tag_id
    assert world.scalar("select state from workflow_run where id = :id", id=run_id) == "ended"
    assert world.events(contact_id)[-1] == ("contact.unblocked", "api")


def test_B43_block_and_unblock_repeated_have_no_effect(world: World) -> None:
    contact_id = world.make_contact()
    first = block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms())
    again = block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms())
    assert (first.changed, again.changed, again.unchanged) == ((contact_id,), (), (contact_id,))
    unblock_contacts(world.uow(), world.workspace_id, [contact_id])
    assert unblock_contacts(world.uow(), world.workspace_id, [contact_id]).changed == ()
    assert [kind for kind, _ in world.events(contact_id)] == ["contact.blocked", "contact.unblocked"]


def test_merged_deleted_and_foreign_contacts_count_as_missing(world: World) -> None:
    kept = world.make_contact()
    absorbed, deleted = world.make_contact(merged_into=kept), world.make_contact(deletion_job_id=1)
    foreign = World(world.tx).make_contact()
    asked = [absorbed, deleted, foreign, 2**40]
    assert block_contacts(world.uow(), world.workspace_id, asked, BlockTerms()).missing == tuple(sorted(asked))
    assert world.scalar("select count(*) from contact where blocked_at is not null") == 0


def test_C12_a_timed_block_ends_by_itself(world: World) -> None:
    contact_id = world.make_contact()
    until = world.now + timedelta(hours=1)
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms(until=until))
    job = EndTimedBlock(world.workspace_id, contact_id)
    assert world.rows("select due_at from job where name = 'end_timed_block'")[0].due_at == until
    assert end_timed_block(world.uow(), job) is False
    assert end_timed_block(world.uow(3600), job) is True
    assert world.contact(contact_id).blocked_at is None


def test_C12_the_end_of_an_earlier_timed_block_does_not_lift_a_later_one(world: World) -> None:
    contact_id = world.make_contact()
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms(until=world.now + timedelta(hours=1)))
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms(until=None))
    assert end_timed_block(world.uow(7200), EndTimedBlock(world.workspace_id, contact_id)) is False
    assert world.contact(contact_id).blocked_at is not None


@pytest.mark.parametrize("terms", [BlockTerms("x" * 256), BlockTerms(until=World.now)])
def test_a_block_that_cannot_be_is_refused(world: World, terms: BlockTerms) -> None:
    with pytest.raises(Invalid):
        block_contacts(world.uow(), world.workspace_id, [world.make_contact()], terms)


def test_C12_and_C19_bulk_block_tells_its_progress_and_what_it_skipped(world: World) -> None:
    ids = [world.make_contact(channel=None) for _ in range(3)]
    block_contacts(world.uow(), world.workspace_id, ids[:1], BlockTerms())
    act_id = add_bulk_block(world.uow(), world.workspace_id, [*ids, 2**40], BlockTerms("spam"), Actor("user", 7))
    job = ContinueBulkAct(world.workspace_id, act_id)
    assert world.jobs("continue_bulk_act") == [{"bulk_act_id": act_id}]
    assert continue_bulk_act(world.uow(), job) == "completed"
    act = get_bulk_act(world.uow(), world.workspace_id, act_id)
    assert (act.state, act.done_count, act.changed_count, act.skipped_ids) == ("completed", 4, 2, [ids[0], 2**40])
    assert continue_bulk_act(world.uow(), job) == "completed"
    undo = ContinueBulkAct(world.workspace_id, add_bulk_unblock(world.uow(), world.workspace_id, ids))
    continue_bulk_act(world.uow(), undo)
    assert world.scalar("select count(*) from contact where blocked_at is not null") == 0


def test_a_bulk_act_goes_on_batch_by_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.pipeline.block.BULK_BATCH", 2)
    ids = [world.make_contact(channel=None) for _ in range(5)]
    job = ContinueBulkAct(world.workspace_id, add_bulk_block(world.uow(), world.workspace_id, ids, BlockTerms()))
    assert [continue_bulk_act(world.uow(), job) for _ in range(3)] == ["running", "running", "completed"]
    assert len(world.jobs("continue_bulk_act")) == 3
    assert world.scalar("select count(*) from contact where blocked_at is not null") == 5


def test_B39_and_C13_block_by_key_is_off_until_switched_on(world: World) -> None:
    blocked = world.make_contact(phone=PHONE)
    block_contacts(world.uow(), world.workspace_id, [blocked], BlockTerms())
    wanted = {(world.workspace_id, "tel:" + PHONE), (world.workspace_id, "tel:+60111111111")}
    assert blocked_keys(world.tx, wanted) == set()
    world.run("""update workspace set settings = '{"block_by_key": true}' where id = :workspace_id""")
    assert blocked_keys(world.tx, wanted) == {(world.workspace_id, "tel:" + PHONE)}


def test_C13_the_switch_says_beforehand_what_it_would_have_caught(world: World) -> None:
    blocked, earlier = world.make_contact(phone=PHONE), world.make_contact(phone=PHONE)
    block_contacts(world.uow(), world.workspace_id, [blocked], BlockTerms())
    assert count_evasions(world.tx, world.workspace_id) == 0
    world.now += timedelta(minutes=1)
    world.make_contact(channel=1, phone=PHONE)
    assert count_evasions(world.tx, world.workspace_id) == 1
    assert world.contact(earlier).blocked_at is None
