"""Workflow runs: started once, taken further under the lock, stopped for good."""

# ruff: noqa: N802 - the names carry the lines of the specification

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from ingest.domain.actors import Actor
from ingest.domain.blocks import BlockTerms
from ingest.domain.refusals import Conflict, Invalid, NotFound
from ingest.jobs.act_types import ReactToFields, ReactToTags, StartRuns, WakeRun
from ingest.jobs.types import ReactToConversations, ReactToMessages, StopRuns
from ingest.pipeline import react
from ingest.pipeline.block import block_contacts, unblock_contacts
from ingest.pipeline.delete import DeletionRequest, accept_deletion
from ingest.pipeline.merge import MergeRequest, merge_contacts
from ingest.pipeline.resume import resume_acts
from ingest.pipeline.workflows import (
    change_workflow,
    create_workflow,
    publish_workflow,
    stop_run,
    stop_runs_of_contact,
    unpublish_workflow,
)
from tests.acts_world import World

ASK = {"id": "q", "kind": "ask", "text": "Your phone?", "answer": "phone"}


@pytest.fixture
def world(tx: Connection) -> World:
    return World(tx)


def make_workflow(world: World, *steps: dict[str, Any], name: str = "Flow", trigger: Any = None, **more: Any) -> int:
    definition = {"trigger": trigger or {"kind": "manual"}, "steps": list(steps), **more}
    workflow_id = create_workflow(world.uow(), world.workspace_id, name, definition)
    publish_workflow(world.uow(), world.workspace_id, workflow_id)
    return workflow_id


def make_person(world: World, **more: Any) -> int:
    contact_id = world.make_contact(conversation="open", **more)
    world.make_message(contact_id)
    return contact_id


def start(world: World, workflow_id: int, *contact_ids: int) -> int:
    return react.start_workflow(world.uow(), StartRuns(world.workspace_id, workflow_id, contact_ids))


def answer(world: World, contact_id: int, words: str, **more: Any) -> int:
    world.make_message(contact_id, words, **more)
    return react.react_to_messages(world.uow(), [ReactToMessages(world.workspace_id, (contact_id,))])


def wake(world: World, seconds: float = 1) -> int:
    """Wake every run whose timer is due after that time."""
    uow = world.uow(seconds)
    due = world.rows("select id, args from job where name = 'wake_run' and due_at <= :now", now=uow.now)
    woken = react.wake_runs(uow, [WakeRun(world.workspace_id, **row.args) for row in due])
    world.run("delete from job where id = any(:ids)", ids=[row.id for row in due])
    return woken


def runs(world: World) -> list[tuple[int, str, str | None]]:
    return [tuple(row) for row in world.rows("select contact_id, state, reason from workflow_run order by id")]


def questions(world: World) -> int:
    return int(world.scalar("select count(*) from message where traffic = 'outgoing' and status = 'queued'"))


def test_A21_A22_and_B63_an_answer_becomes_a_phone_and_duplicates_are_looked_for(world: World) -> None:
    telegram = make_person(world, channel=1)
    workflow_id = make_workflow(world, ASK)
    assert start(world, workflow_id, telegram) == 1
    (question,) = world.rows(
        "select text, source, status, channel_id, conversation_id from message where traffic = 'outgoing'"
    )
    assert (question.text, question.source, question.status) == ("Your phone?", "workflow", "queued")
    assert question.conversation_id == world.contact(telegram).conversation_id
    world.run("delete from job")
    assert answer(world, telegram, "+60 12-345 6789") == 1
    row = world.contact(telegram)
    assert (row.phone, row.provenance["phone"]["source"]) == ("+60123456789", "workflow")
    assert world.scalar("select key from contact_key where contact_id = :id", id=telegram) == "tel:+60123456789"
    assert world.jobs("detect_duplicates") == [{"contact_ids": [telegram]}]
    assert runs(world) == [(telegram, "ended", "finished")]
    assert world.jobs("wake_run") == []


def test_B64_a_message_answers_the_newest_question_only(world: World) -> None:
    contact_id = make_person(world)
    older = make_workflow(world, {**ASK, "answer": "text", "field": "first_name"}, name="Older")
    newer = make_workflow(world, {**ASK, "answer": "text", "field": "last_name"}, name="Newer")
    start(world, older, contact_id)
    start(world, newer, contact_id)
    answer(world, contact_id, "Lovelace")
    answer(world, contact_id, "Ada")
    row = world.contact(contact_id)
    assert (row.first_name, row.last_name) == ("Ada", "Lovelace")


def test_B64_messages_are_read_in_order_and_none_answers_a_later_question(world: World) -> None:
    contact_id = make_person(world)
    first = {"id": "a", "kind": "ask", "text": "First?", "field": "first_name"}
    last = {"id": "b", "kind": "ask", "text": "Last?", "field": "last_name"}
    start(world, make_workflow(world, first, last), contact_id)
    world.make_message(contact_id, "Ada")
    answer(world, contact_id, "Hello?")
    row = world.contact(contact_id)
    assert (row.first_name, row.last_name) == ("Ada", None)
    answer(world, contact_id, "Lovelace")
    assert world.contact(contact_id).last_name == "Lovelace"


def test_B64_a_repeated_job_takes_no_message_twice(world: World) -> None:
    contact_id = make_person(world)
    start(world, make_workflow(world, ASK), contact_id)
    assert answer(world, contact_id, "no") == 1
    again = [ReactToMessages(world.workspace_id, (contact_id,))] * 2
    assert react.react_to_messages(world.uow(), again) == 0
    assert world.scalar("select tries from workflow_run") == 1


@pytest.mark.parametrize("kind", ["is_late", "is_automatic"])
def test_late_and_automatic_messages_answer_nothing(world: World, kind: str) -> None:
    contact_id = make_person(world)
    start(world, make_workflow(world, ASK), contact_id)
    assert answer(world, contact_id, "+60123456789", **{kind: True}) == 0


def test_B65_one_active_run_a_workflow_and_contact(world: World) -> None:
    contact_id = make_person(world)
    one, other = make_workflow(world, ASK, name="One"), make_workflow(world, ASK, name="Other")
    assert [start(world, each, contact_id) for each in (one, one, other)] == [1, 0, 1]


def test_B65_a_run_keeps_to_the_version_it_started_with(world: World) -> None:
    contact_id = make_person(world)
    workflow_id = make_workflow(
        world, {"id": "w", "kind": "wait", "seconds": 60}, {"id": "t", "kind": "add_tag", "tag": "old"}
    )
    start(world, workflow_id, contact_id)
    changed = {"trigger": {"kind": "manual"}, "steps": [{"id": "x", "kind": "stop"}]}
    change_workflow(world.uow(), world.workspace_id, workflow_id, changed)
    publish_workflow(world.uow(), world.workspace_id, workflow_id)
    assert wake(world, 61) == 1
    assert [row.name for row in world.rows("select name from tag")] == ["old"]


def test_B61_once_per_contact_excludes_whoever_was_ever_enrolled(world: World) -> None:
    contact_id, other = make_person(world), make_person(world)
    steps = [{"id": "x", "kind": "stop"}]
    workflow_id = make_workflow(world, *steps)
    start(world, workflow_id, contact_id)
    once = {"trigger": {"kind": "manual"}, "steps": steps, "once_per_contact": True}
    change_workflow(world.uow(), world.workspace_id, workflow_id, once)
    publish_workflow(world.uow(), world.workspace_id, workflow_id)
    assert start(world, workflow_id, contact_id) == 0
    merge_contacts(world.uow(), MergeRequest(world.workspace_id, other, contact_id))
    assert start(world, workflow_id, other) == 0


@pytest.mark.parametrize(
    ("trigger", "job", "starts"),
    [
        ({"kind": "conversation_opened"}, ("conversation_opened", "contact"), True),
        ({"kind": "conversation_opened", "sources": ["user"]}, ("conversation_opened", "contact"), False),
        ({"kind": "conversation_closed", "sources": ["user"]}, ("conversation_closed", "user"), True),
        ({"kind": "conversation_closed"}, ("conversation_opened", "contact"), False),
        ({"kind": "conversation_opened"}, ("conversation_opened", "workflow"), False),
        ({"kind": "conversation_closed"}, ("conversation_closed", "merge"), False),
        ({"kind": "conversation_closed"}, ("conversation_closed", "block"), False),
    ],
)
def test_B61_and_B68_conversations_start_workflows_by_source(
    world: World, trigger: dict[str, Any], job: tuple[str, str], starts: bool
) -> None:
    contact_id = make_person(world)
    make_workflow(world, ASK, trigger=trigger)
    given = ReactToConversations(world.workspace_id, *job, (world.contact(contact_id).conversation_id,))
    assert react.react_to_conversations(world.uow(), [given]) == int(starts)


def test_A32_and_B61_tags_start_workflows(world: World) -> None:
    contact_id = make_person(world)
    tag_id = world.make_tag("VIP", contact_id)
    make_workflow(world, ASK, trigger={"kind": "tag_updated", "tags": ["vip"], "action": "remove"})
    assert react.react_to_tags(world.uow(), [ReactToTags(world.workspace_id, tag_id, "add", (contact_id,))]) == 0
    assert react.react_to_tags(world.uow(), [ReactToTags(world.workspace_id, tag_id, "remove", (contact_id,))]) == 1


def test_B61_fields_start_workflows(world: World) -> None:
    contact_id = make_person(world)
    make_workflow(world, ASK, trigger={"kind": "field_updated", "fields": ["lastName"]})
    for fields, started in ((("first_name",), 0), (("first_name", "last_name"), 1)):
        assert react.react_to_fields(world.uow(), [ReactToFields(world.workspace_id, fields, (contact_id,))]) == started


def test_workflows_that_set_each_other_off_come_to_an_end(world: World) -> None:
    contact_id = make_person(world)
    for name, other in (("a", "b"), ("b", "a")):
        steps = [{"id": "r", "kind": "remove_tag", "tag": name}, {"id": "x", "kind": "add_tag", "tag": other}]
        make_workflow(world, *steps, name=name, trigger={"kind": "tag_updated", "tags": [name], "action": "add"})
    tag_id = world.make_tag("a", contact_id)
    pending = [ReactToTags(world.workspace_id, tag_id, "add", (contact_id,))]
    for _ in range(40):
        if not pending:
            break
        world.run("delete from job")
        react.react_to_tags(world.uow(), pending)
        pending = [ReactToTags(world.workspace_id, **job) for job in world.jobs("react_to_tags")]
    assert pending == []


def test_workflows_that_open_and_close_a_conversation_in_a_circle_come_to_an_end(world: World) -> None:
    contact_id = make_person(world)
    for name, trigger, step in (("reopen", "closed", "open_conversation"), ("shut", "opened", "close_conversation")):
        started_by = {"kind": f"conversation_{trigger}", "sources": ["user", "workflow"]}
        make_workflow(world, {"id": "x", "kind": step}, name=name, trigger=started_by)
    conversation_id = world.contact(contact_id).conversation_id
    world.run("update conversation set status = 'closed' where id = :id", id=conversation_id)
    world.run("update contact set status = 'closed' where id = :id", id=contact_id)
    pending = [ReactToConversations(world.workspace_id, "conversation_closed", "user", (conversation_id,))]
    rounds = 0
    while pending and rounds < 40:
        rounds += 1
        world.run("delete from job")
        react.react_to_conversations(world.uow(), pending)
        pending = [ReactToConversations(world.workspace_id, **job) for job in world.jobs("react_to_conversations")]
    assert pending == []
    assert [tuple(row) for row in world.rows("select depth from workflow_run order by id")] == [
        (each,) for each in range(react.MAX_DEPTH + 1)
    ]


def test_steps_change_the_contact_and_its_conversation(world: World) -> None:
    contact_id = make_person(world)
    world.make_tag("old", contact_id)
    workflow_id = make_workflow(
        world,
        {"id": "1", "kind": "add_tag", "tag": "new"},
        {"id": "2", "kind": "remove_tag", "tag": "old"},
        {"id": "3", "kind": "update_field", "field": "language", "value": "de"},
        {"id": "4", "kind": "assign", "user_id": 7},
        {"id": "5", "kind": "close_conversation", "category": "done"},
    )
    start(world, workflow_id, contact_id)
    row = world.contact(contact_id)
    assert (row.language, row.assignee_id, row.status) == ("de", 7, "closed")
    closed = world.rows("select category, closed_source from conversation where contact_id = :id", id=contact_id)
    assert [tuple(each) for each in closed] == [("done", "workflow")]
    tags = world.rows("select name from contact_tag join tag on tag.id = tag_id where contact_id = :id", id=contact_id)
    assert [each.name for each in tags] == ["new"]


def test_B66_the_exit_condition_ends_a_run_and_closing_alone_does_not(world: World) -> None:
    contact_id = make_person(world)
    leaves = make_workflow(world, ASK, name="Leaves", exit_on=["conversation_closed"])
    stays = make_workflow(world, ASK, name="Stays")
    start(world, leaves, contact_id)
    start(world, stays, contact_id)
    closed = ReactToConversations(
        world.workspace_id, "conversation_closed", "user", (world.contact(contact_id).conversation_id,)
    )
    react.react_to_conversations(world.uow(), [closed])
    assert [row[1:] for row in runs(world)] == [("ended", "exit_condition"), ("active", None)]


def test_B66_unpublishing_ends_the_runs(world: World) -> None:
    contact_id = make_person(world)
    workflow_id = make_workflow(world, ASK)
    start(world, workflow_id, contact_id)
    assert unpublish_workflow(world.uow(), world.workspace_id, workflow_id) == 1
    assert runs(world) == [(contact_id, "ended", "workflow_unpublished")]
    assert start(world, workflow_id, contact_id) == 0


def test_B66_and_C5_a_run_can_be_stopped_for_one_contact(world: World) -> None:
    one, other = make_person(world), make_person(world)
    start(world, make_workflow(world, ASK), one, other)
    run_id = world.scalar("select id from workflow_run where contact_id = :id", id=one)
    assert stop_run(world.uow(), world.workspace_id, one, run_id, Actor("user", 7)) is True
    assert stop_run(world.uow(), world.workspace_id, one, run_id) is False
    with pytest.raises(NotFound):
        stop_run(world.uow(), world.workspace_id, other, run_id)
    assert runs(world) == [(one, "ended", "manual"), (other, "active", None)]
    assert stop_runs_of_contact(world.uow(), world.workspace_id, other) == 1


def test_T69_an_opt_out_ends_the_runs_that_wait_there(world: World) -> None:
    contact_id = make_person(world)
    start(world, make_workflow(world, ASK), contact_id)
    assert react.stop_opted_out(world.uow(), [StopRuns(world.workspace_id, (contact_id,))]) == 0
    world.run("update identity set opted_out_at = now() where contact_id = :id", id=contact_id)
    assert react.stop_opted_out(world.uow(), [StopRuns(world.workspace_id, (contact_id,))]) == 1
    assert runs(world) == [(contact_id, "ended", "opted_out")]


def test_B62_a_workspace_has_at_most_a_hundred_workflows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.pipeline.workflows.MAX_WORKFLOWS", 2)
    make_workflow(world, ASK, name="1")
    with pytest.raises(Conflict):
        make_workflow(world, ASK, name="1")
    make_workflow(world, ASK, name="2")
    with pytest.raises(Conflict):
        make_workflow(world, ASK, name="3")
    with pytest.raises(Invalid):
        create_workflow(world.uow(), world.workspace_id, " ", {"trigger": {"kind": "manual"}, "steps": [ASK]})


def state_of(world: World, *contact_ids: int) -> Any:
    return world.rows("select * from workflow_run"), questions(world), [world.contact(each) for each in contact_ids]


ENDS: dict[str, Callable[[World, int, int], object]] = {
    "blocked": lambda world, me, _: block_contacts(world.uow(), world.workspace_id, [me], BlockTerms()),
    "merged": lambda world, me, other: merge_contacts(world.uow(), MergeRequest(world.workspace_id, other, me)),
    "deleted": lambda world, me, _: accept_deletion(world.uow(), DeletionRequest(world.workspace_id, [me])),
}


@pytest.mark.parametrize("reason", ENDS)
@pytest.mark.parametrize("seed", range(6))
def test_B67_T63_and_T66_no_step_happens_after_a_block_merge_or_deletion(world: World, reason: str, seed: int) -> None:
    """At whatever point of the run the act comes, nothing happens afterwards, and late timers and answers find it ended."""
    dice = random.Random(f"{reason}{seed}")
    contact_id, other = make_person(world), make_person(world)
    workflow_id = make_workflow(
        world,
        {"id": "1", "kind": "wait", "seconds": 60},
        {"id": "2", "kind": "ask", "text": "?", "field": "last_name"},
        {"id": "3", "kind": "wait", "seconds": 60},
        {"id": "4", "kind": "ask", "text": "?", "answer": "phone"},
        {"id": "5", "kind": "add_tag", "tag": "end"},
        {"id": "6", "kind": "wait", "seconds": 60},
    )
    start(world, workflow_id, contact_id)
    for _ in range(dice.randrange(5)):
        if dice.random() < 0.5:
            wake(world, 61)
        else:
            answer(world, contact_id, dice.choice(["+60123456789", "Ada"]))
    late = [WakeRun(world.workspace_id, **job) for job in world.jobs("wake_run")]
    assert runs(world)[0][1] == "active"
    ENDS[reason](world, contact_id, other)
    assert runs(world)[0][1:] == ("ended", reason)
    assert world.jobs("wake_run") == []
    before = state_of(world, contact_id, other)
    for _ in range(3):
        assert react.wake_runs(world.uow(90_000), late) == 0
        owner = other if reason == "merged" else contact_id
        world.run(
            "insert into message (workspace_id, contact_id, origin_contact_id, channel_id, external_hash, traffic, source, "
            "kind, text, sent_at, accepted_at) values (:workspace_id, :id, :id, :channel, gen_random_uuid(), 'incoming', "
            "'contact', 'text', '+60123456789', :now, :now)",
            id=owner,
            channel=world.channel_ids[0],
            now=world.now,
        )
        react.react_to_messages(world.uow(), [ReactToMessages(world.workspace_id, (contact_id, other))])
    assert state_of(world, contact_id, other) == before


def test_A79_and_B43_a_blocked_contact_starts_nothing_and_nothing_resumes_on_unblock(world: World) -> None:
    contact_id = make_person(world)
    workflow_id = make_workflow(world, ASK)
    start(world, workflow_id, contact_id)
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms())
    assert start(world, workflow_id, contact_id) == 0
    unblock_contacts(world.uow(), world.workspace_id, [contact_id])
    assert runs(world) == [(contact_id, "ended", "blocked")]


def test_a_timer_of_an_earlier_wait_does_nothing(world: World) -> None:
    contact_id = make_person(world)
    start(world, make_workflow(world, ASK, {"id": "w", "kind": "wait", "seconds": 60}), contact_id)
    (early,) = [WakeRun(world.workspace_id, **job) for job in world.jobs("wake_run")]
    answer(world, contact_id, "+60123456789")
    assert react.wake_runs(world.uow(timedelta(days=2).total_seconds()), [early]) == 0
    assert world.scalar("select step_id from workflow_run") == "w"
    assert wake(world) == 1


def test_a_waiting_run_whose_timer_was_set_aside_gets_a_new_one(world: World) -> None:
    contact_id = make_person(world)
    start(world, make_workflow(world, {"id": "w", "kind": "wait", "seconds": 60}), contact_id)
    world.run("delete from job")
    assert resume_acts(world.uow(60)) == 0
    assert resume_acts(world.uow(120)) == 1
    assert wake(world) == 1
    assert runs(world) == [(contact_id, "ended", "finished")]
