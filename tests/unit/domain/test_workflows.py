"""Workflow definitions are refused by name of what is wrong; runs walk them as pure functions."""

# ruff: noqa: N802 - the names carry the lines of the specification

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.domain.refusals import Invalid
from ingest.domain.workflow_runs import Answer, Facts, Run, Wishes, start, take_answer, wake
from ingest.domain.workflows import Definition, read_definition

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def definition(*steps: dict[str, Any], **more: Any) -> Definition:
    return read_definition({"trigger": {"kind": "manual"}, "steps": list(steps), **more})


def facts(**more: Any) -> Facts:
    values: dict[str, Any] = {
        "contact_id": 1, "values": {}, "tags": set(), "status": "open", "channel_id": 5, "identity_id": 6,
        "is_opted_out": False, "last_message_id": 10,
    }  # fmt: skip
    return Facts(**{**values, **more})


MANUAL = {"kind": "manual"}
STOP = {"id": "a", "kind": "stop"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "steps"),
        ({"steps": []}, "steps"),
        ({"steps": [STOP]}, "trigger.kind"),
        ({"steps": [{"id": "a", "kind": "dance"}]}, "steps.0.kind"),
        ({"steps": [STOP, STOP]}, "steps.1.id"),
        ({"steps": [{**STOP, "next": "b"}]}, "steps.0.next"),
        ({"steps": [{"id": "a", "kind": "wait", "seconds": 0}]}, "steps.0.seconds"),
        ({"steps": [{"id": "a", "kind": "jump", "to": "a", "limit": 11}]}, "steps.0.limit"),
        ({"steps": [{"id": "a", "kind": "ask", "text": "?", "answer": "x"}]}, "steps.0.answer"),
        ({"steps": [{"id": "a", "kind": "ask", "text": "?", "answer": "choice"}]}, "steps.0.choices"),
        ({"steps": [{"id": "a", "kind": "update_field", "field": "status"}]}, "steps.0.field"),
        ({"steps": [STOP], "exit_on": ["rain"]}, "exit_on"),
        ({"steps": [STOP], "trigger": {"kind": "conversation_closed", "sources": ["merge"]}}, "trigger.sources"),
    ],
)
def test_B61_a_definition_that_cannot_be_is_refused_by_name(given: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        read_definition(given if field == "trigger.kind" else {"trigger": MANUAL, **given})
    assert refusal.value.field == field


def test_B62_a_workflow_has_at_most_a_hundred_steps() -> None:
    steps = [{"id": str(number), "kind": "stop"} for number in range(101)]
    definition(*steps[:100])
    with pytest.raises(Invalid):
        definition(*steps)


def test_B62_a_jump_is_taken_ten_times_and_then_the_next_step_follows() -> None:
    given = definition(
        {"id": "a", "kind": "add_tag", "tag": "x"},
        {"id": "b", "kind": "jump", "to": "a"},
        {"id": "c", "kind": "wait", "seconds": 5},
    )
    run, wishes = Run(1, 2, 1, 1), Wishes()
    start(run, given, facts(), wishes, NOW)
    assert (run.jumps, run.step_id, run.wake_at) == ({"b": 11}, "c", NOW + timedelta(seconds=5))


def test_steps_that_lead_in_a_circle_end_the_run() -> None:
    given = definition(
        {"id": "a", "kind": "add_tag", "tag": "x"}, {"id": "b", "kind": "remove_tag", "tag": "x", "next": "a"}
    )
    run = Run(1, 2, 1, 1)
    start(run, given, facts(), Wishes(), NOW)
    assert run.reason == "error"


def test_a_branch_sees_what_an_earlier_step_did() -> None:
    given = definition(
        {"id": "a", "kind": "add_tag", "tag": "VIP"},
        {"id": "b", "kind": "branch", "condition": {"tag": "vip"}, "else": "no"},
        {"id": "yes", "kind": "assign", "user_id": 7, "next": None},
        {"id": "no", "kind": "assign", "user_id": 8},
    )
    run, wishes = Run(1, 2, 1, 1), Wishes()
    start(run, given, facts(), wishes, NOW)
    assert (run.reason, wishes.assignees) == ("finished", {1: 7})


def test_B63_an_invalid_answer_is_asked_again_twice_and_then_fails() -> None:
    given = definition(
        {"id": "q", "kind": "ask", "text": "Phone?", "answer": "phone", "on_failure": "f", "next": None},
        {"id": "f", "kind": "add_tag", "tag": "no phone", "next": None},
    )
    run, wishes, known = Run(1, 2, 1, 1), Wishes(), facts()
    start(run, given, known, wishes, NOW)
    for number in range(3):
        assert run.waits_for == "answer"
        take_answer(run, given, Answer(11 + number, 1, "later"), known, wishes, now=NOW)
    assert (run.reason, len(wishes.questions), set(wishes.tags)) == ("finished", 3, {(1, "no phone")})


def test_B63_no_answer_within_a_day_takes_the_timeout_branch() -> None:
    given = definition(
        {"id": "q", "kind": "ask", "text": "Mail?", "answer": "email", "on_timeout": "t", "next": None},
        {"id": "t", "kind": "add_tag", "tag": "silent", "next": None},
    )
    run, wishes = Run(1, 2, 1, 1), Wishes()
    start(run, given, facts(), wishes, NOW)
    assert run.wake_at == NOW + timedelta(hours=24)
    wake(run, given, facts(), wishes, NOW)
    assert (run.reason, set(wishes.tags)) == ("finished", {(1, "silent")})


@pytest.mark.parametrize(
    ("answer", "words", "stored"),
    [
        ("phone", "+60 12-345 6789", "+60123456789"),
        ("phone", "012 345 6789", None),
        ("email", " Ada@Example.COM ", "Ada@Example.COM"),
        ("email", "ada at example", None),
        ("number", "3,5", "3.5"),
        ("number", "nan", None),
        ("number", "three", None),
        ("choice", "blue", "Blue"),
        ("choice", "1", "Red"),
        ("choice", "green", None),
        ("text", "  anything ", "anything"),
        ("text", "  ", None),
    ],
)
def test_A21_and_B63_answers_are_checked_and_normalised(answer: str, words: str, stored: str | None) -> None:
    given = definition(
        {
            "id": "q",
            "kind": "ask",
            "text": "?",
            "answer": answer,
            "choices": ["Red", "Blue"],
            "field": "last_name",
            "retries": 0,
        }
    )
    run, wishes, known = Run(1, 2, 1, 1), Wishes(), facts()
    start(run, given, known, wishes, NOW)
    take_answer(run, given, Answer(11, 1, words), known, wishes, now=NOW)
    assert wishes.fields.get(1) == (None if stored is None else {"last_name": stored})


def test_nothing_is_asked_of_a_contact_that_opted_out_or_has_no_channel() -> None:
    given = definition({"id": "q", "kind": "ask", "text": "?"})
    for known, reason in ((facts(is_opted_out=True), "opted_out"), (facts(channel_id=None), "error")):
        run, wishes = Run(1, 2, 1, 1), Wishes()
        start(run, given, known, wishes, NOW)
        assert (run.reason, wishes.questions) == (reason, [])
