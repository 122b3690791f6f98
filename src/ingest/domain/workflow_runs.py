"""How a run goes from step to step: a pure function from where it stands to what it does and where it waits.

A run changes nothing itself. What its steps want is collected, for a whole batch of runs, and done by the pipeline.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ingest.domain.contact_keys import normalise_email
from ingest.domain.fields import read_phone
from ingest.domain.refusals import Invalid
from ingest.domain.workflows import Definition, Step

# Steps taken at a stretch: more can only be steps that lead in a circle.
MAX_STRETCH = 2_000


@dataclass(slots=True)
class Run:
    """A run as it stands. It is active until it has a reason for its end."""

    id: int
    workflow_id: int
    version: int
    contact_id: int
    step_id: str = ""
    waits_for: str | None = None
    wake_at: datetime | None = None
    wait_number: int = 0
    asked_after_message_id: int | None = None
    asked_on_channel_id: int | None = None
    tries: int = 0
    jumps: dict[str, int] = field(default_factory=dict)
    depth: int = 0
    reason: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.reason is None

    def end(self, reason: str) -> None:
        """End the run."""
        self.reason = reason
        self._stop_waiting()

    def wait(self, kind: str, wake_at: datetime) -> None:
        """Wait for a time or an answer; whatever was waited for before is void."""
        self.waits_for, self.wake_at = kind, wake_at
        self.wait_number += 1

    def go_on(self) -> None:
        """Stop waiting."""
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self.waits_for is not None:
            self.wait_number += 1
        self.waits_for = self.wake_at = None


@dataclass(slots=True)
class Facts:
    """What runs may know of their contact. Steps that change it change the facts, so that later steps see it."""

    contact_id: int
    values: dict[str, str | None]
    tags: set[str]
    status: str
    channel_id: int | None
    """The last interacted channel."""
    identity_id: int | None
    is_opted_out: bool
    last_message_id: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question to be sent."""

    run_id: int
    contact_id: int
    channel_id: int
    identity_id: int | None
    text: str


@dataclass(slots=True)
class Wishes:
    """What the steps of a batch of runs want, by contact: the last wish for a thing counts.

    `tags` are (contact, lower-case name) to (name, add or remove, depth); `fields` contact to values by name;
    `conversations` contact to (open or close, category, summary, depth).
    """

    tags: dict[tuple[int, str], tuple[str, str, int]] = field(default_factory=dict)
    fields: dict[int, dict[str, str | None]] = field(default_factory=dict)
    field_depths: dict[int, int] = field(default_factory=dict)
    assignees: dict[int, int | None] = field(default_factory=dict)
    conversations: dict[int, tuple[str, str | None, str | None, int]] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """An incoming message that may answer a question."""

    message_id: int
    contact_id: int
    text: str


def start(run: Run, definition: Definition, facts: Facts, wishes: Wishes, now: datetime) -> None:
    """Take the run from its first step to where it waits or ends."""
    _walk(run, definition, definition.first, facts, wishes, now=now)


def wake(run: Run, definition: Definition, facts: Facts, wishes: Wishes, now: datetime) -> None:
    """Go on after a wait: to the next step, or, where an answer was waited for, to the step for its absence."""
    step = definition.steps[run.step_id]
    goal = step.next if run.waits_for == "time" else step.options["on_timeout"]
    run.go_on()
    _walk(run, definition, goal, facts, wishes, now=now)


def take_answer(
    run: Run, definition: Definition, answer: Answer, facts: Facts, wishes: Wishes, *, now: datetime
) -> None:
    """Go on with an answer: valid, it is written to its field; invalid, the question is asked again, so many times."""
    step = definition.steps[run.step_id]
    value = read_answer(step, answer.text)
    if value is not None:
        if step.options["field"] is not None:
            _set_field(run, step.options["field"], value, facts, wishes)
        run.go_on()
        _walk(run, definition, step.next, facts, wishes, now=now)
    elif run.tries < step.options["retries"]:
        run.tries += 1
        run.asked_after_message_id = answer.message_id
        _send(run, step, facts, wishes, now)
    else:
        run.go_on()
        _walk(run, definition, step.options["on_failure"], facts, wishes, now=now)


def read_answer(step: Step, text: str) -> str | None:
    """Return the answer as it is stored, or None for one that is not valid."""
    words = text.strip()
    match step.options["answer"]:
        case "phone":
            return _read_phone(words)
        case "email":
            email = normalise_email(words)
            return email.address if email is not None else None
        case "number":
            return _read_number(words)
        case "choice":
            return _read_choice(words, step.options["choices"])
        case _:
            return words[:1024] or None


def _read_phone(words: str) -> str | None:
    try:
        return read_phone(words).e164
    except Invalid:
        return None


def _read_number(words: str) -> str | None:
    plain = words.replace(",", ".")
    try:
        return plain if plain.isascii() and float(plain) == float(plain) and len(plain) <= 40 else None
    except ValueError:
        return None


def _read_choice(words: str, choices: list[str]) -> str | None:
    for position, choice in enumerate(choices, start=1):
        if words.casefold() in {choice.casefold(), str(position)}:
            return choice
    return None


def _walk(run: Run, definition: Definition, goal: str | None, facts: Facts, wishes: Wishes, *, now: datetime) -> None:
    for _ in range(MAX_STRETCH):
        if goal is None:
            run.end("finished")
            return
        step = definition.steps[goal]
        run.step_id = step.id
        if step.kind in {"wait", "ask"}:
            _pause(run, step, facts, wishes, now)
            return
        goal = _take(run, step, facts, wishes)
        if not run.is_active:
            return
    run.end("error")


def _pause(run: Run, step: Step, facts: Facts, wishes: Wishes, now: datetime) -> None:
    if step.kind == "wait":
        run.wait("time", now + timedelta(seconds=step.options["seconds"]))
    else:
        run.tries = 0
        run.asked_after_message_id = facts.last_message_id
        _send(run, step, facts, wishes, now)


def _send(run: Run, step: Step, facts: Facts, wishes: Wishes, now: datetime) -> None:
    if facts.channel_id is None:
        run.end("error")
        return
    if facts.is_opted_out:
        run.end("opted_out")
        return
    run.asked_on_channel_id = facts.channel_id
    run.wait("answer", now + timedelta(seconds=step.options["timeout_seconds"]))
    wishes.questions.append(Question(run.id, run.contact_id, facts.channel_id, facts.identity_id, step.options["text"]))


def _take(run: Run, step: Step, facts: Facts, wishes: Wishes) -> str | None:
    """Take a step that does not wait; return the id of the one that follows."""
    match step.kind:
        case "branch":
            return step.next if _holds(step.options["condition"], facts) else step.options["else"]
        case "jump":
            run.jumps[step.id] = run.jumps.get(step.id, 0) + 1
            return str(step.options["to"]) if run.jumps[step.id] <= step.options["limit"] else step.next
        case "stop":
            run.end("finished")
        case "add_tag" | "remove_tag":
            _set_tag(run, step, facts, wishes)
        case "update_field":
            _set_field(run, step.options["field"], step.options["value"], facts, wishes)
        case "assign":
            wishes.assignees[run.contact_id] = step.options["user_id"]
        case _:
            _set_conversation(run, step, facts, wishes)
    return step.next


def _holds(condition: Mapping[str, Any], facts: Facts) -> bool:
    if "tag" in condition:
        return condition["tag"] in facts.tags
    value = facts.status if condition["field"] == "status" else facts.values.get(condition["field"])
    if condition["operator"] == "exists":
        return bool(value)
    return (value or "").casefold() == str(condition["value"] or "").casefold()


def _set_tag(run: Run, step: Step, facts: Facts, wishes: Wishes) -> None:
    name = step.options["tag"].lower()
    action = step.kind.removesuffix("_tag")
    (facts.tags.add if action == "add" else facts.tags.discard)(name)
    wishes.tags[run.contact_id, name] = (step.options["tag"], action, run.depth)


def _set_field(run: Run, name: str, value: str | None, facts: Facts, wishes: Wishes) -> None:
    facts.values[name] = value
    wishes.fields.setdefault(run.contact_id, {})[name] = value
    wishes.field_depths[run.contact_id] = max(run.depth, wishes.field_depths.get(run.contact_id, 0))


def _set_conversation(run: Run, step: Step, facts: Facts, wishes: Wishes) -> None:
    if step.kind == "open_conversation":
        facts.status = "open"
        wishes.conversations[run.contact_id] = ("open", None, None, run.depth)
    else:
        facts.status = "closed"
        closing = step.options["category"], step.options["summary"]
        wishes.conversations[run.contact_id] = ("close", *closing, run.depth)
