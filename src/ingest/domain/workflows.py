"""Workflow definitions: what starts a workflow, its steps, and what must be true of both before it is kept.

A definition is JSON: {"trigger": {...}, "steps": [{"id", "kind", ..., "next"}], "once_per_contact", "exit_on"}. Steps
follow each other in the order of the list unless one says `next`; null ends the run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ingest.domain.fields import STANDARD
from ingest.domain.refusals import Invalid

MAX_STEPS = 100
MAX_WORKFLOWS = 100
MAX_JUMPS = 10
MAX_WAIT_SECONDS = 365 * 24 * 3600
MAX_TEXT = 4096
DEFAULT_RETRIES = 2
DEFAULT_TIMEOUT_SECONDS = 24 * 3600

TriggerKind = Literal["conversation_opened", "conversation_closed", "tag_updated", "field_updated", "manual"]
TRIGGERS = ("conversation_opened", "conversation_closed", "tag_updated", "field_updated", "manual")
ANSWERS = ("text", "number", "choice", "phone", "email")
# What an act on the contact causes starts nothing, whatever a workflow asks for.
SILENT_SOURCES = frozenset({"merge", "unmerge", "block", "delete", "import"})
EXITS = frozenset({"conversation_closed"})
WRITABLE_FIELDS = frozenset({"first_name", "last_name", "phone", "email", "country_code", "language"})


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts a workflow. Empty filters let everything through; tag names are lower-case."""

    kind: TriggerKind
    sources: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    action: str | None = None
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `next` is the id of the step that follows, None for the end; `options` depend on the kind."""

    id: str
    kind: str
    next: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition:
    """A valid workflow."""

    trigger: Trigger
    steps: Mapping[str, Step]
    first: str
    once_per_contact: bool = False
    exit_on: frozenset[str] = frozenset()

    @property
    def reads_tags(self) -> bool:
        """Whether a step looks at the contact's tags."""
        return any("tag" in step.options.get("condition", ()) for step in self.steps.values())


def read_definition(given: Mapping[str, Any]) -> Definition:
    """Return the definition. Raises Invalid naming what cannot be, such as `steps.2.seconds`."""
    _require(isinstance(given, Mapping), "definition", "an object")
    steps = given.get("steps")
    _require(isinstance(steps, list) and 1 <= len(steps) <= MAX_STEPS, "steps", f"a list of 1 to {MAX_STEPS} steps")
    exits = given.get("exit_on") or []
    _require(isinstance(exits, list) and set(map(str, exits)) <= EXITS, "exit_on", f"of {sorted(EXITS)}")
    read = _read_steps(steps or [])
    return Definition(
        _read_trigger(given.get("trigger")),
        read,
        next(iter(read)),
        bool(given.get("once_per_contact", False)),
        frozenset(map(str, exits)),
    )


def _require(holds: bool, where: str, wanted: str) -> None:
    if not holds:
        raise Invalid(f"{where} must be {wanted}", field=where)


def _words(given: Mapping[str, Any], name: str, where: str) -> frozenset[str]:
    value = given.get(name) or []
    _require(
        isinstance(value, list) and all(isinstance(each, str) for each in value), f"{where}.{name}", "a list of texts"
    )
    return frozenset(value)


def _read_trigger(given: Any) -> Trigger:
    _require(
        isinstance(given, Mapping) and given.get("kind") in TRIGGERS, "trigger.kind", f"one of {', '.join(TRIGGERS)}"
    )
    sources = _words(given, "sources", "trigger")
    _require(not sources & SILENT_SOURCES, "trigger.sources", f"without {', '.join(sorted(SILENT_SOURCES))}")
    action = given.get("action")
    _require(action in {None, "add", "remove"}, "trigger.action", "add or remove")
    tags = frozenset(each.strip().lower() for each in _words(given, "tags", "trigger"))
    fields = frozenset(STANDARD.get(each, each) for each in _words(given, "fields", "trigger"))
    return Trigger(given["kind"], sources, tags, action, fields)


def _read_steps(given: list[Any]) -> dict[str, Step]:
    ids = []
    for at, each in enumerate(given):
        _require(isinstance(each, Mapping), f"steps.{at}", "an object")
        step_id = each.get("id")
        _require(isinstance(step_id, str) and 1 <= len(step_id) <= 64, f"steps.{at}.id", "a text of 1 to 64 characters")
        _require(step_id not in ids, f"steps.{at}.id", "unique")
        ids.append(step_id)
    following = dict(zip(ids, [*ids[1:], None], strict=True))
    return {
        step_id: _read_step(at, step, following[step_id], ids)
        for at, (step_id, step) in enumerate(zip(ids, given, strict=True))
    }


def _read_step(at: int, given: Mapping[str, Any], following: str | None, ids: list[str]) -> Step:
    where = f"steps.{at}"
    read = KINDS.get(str(given.get("kind")))
    if read is None:
        raise Invalid(f"{where}.kind must be one of {', '.join(KINDS)}", field=f"{where}.kind")
    goal = given.get("next", following)
    targets = _Targets(where, frozenset(ids))
    targets.check("next", goal)
    return Step(str(given["id"]), str(given["kind"]), goal, read(given, targets))


@dataclass(frozen=True, slots=True)
class _Targets:
    """Where a step may lead: the ids of all steps. `where` names the step in refusals."""

    where: str
    ids: frozenset[str]

    def check(self, name: str, value: Any) -> Any:
        _require(value is None or value in self.ids, f"{self.where}.{name}", "a step's id or null")
        return value

    def number(self, given: Mapping[str, Any], name: str, default: int | None, bounds: tuple[int, int]) -> int:
        value = given.get(name, default)
        holds = isinstance(value, int) and not isinstance(value, bool) and bounds[0] <= value <= bounds[1]
        _require(holds, f"{self.where}.{name}", f"a whole number from {bounds[0]} to {bounds[1]}")
        return int(value or 0)

    def text(self, given: Mapping[str, Any], name: str, most: int) -> str:
        value = given.get(name)
        _require(
            isinstance(value, str) and 1 <= len(value.strip()) <= most,
            f"{self.where}.{name}",
            f"1 to {most} characters",
        )
        return str(value).strip()

    def field(self, given: Mapping[str, Any], name: str) -> str:
        value = str(given.get(name))
        value = STANDARD.get(value, value)
        is_custom = value.startswith("fields.") and value.removeprefix("fields.").isdigit()
        _require(value in WRITABLE_FIELDS or is_custom, f"{self.where}.{name}", "a contact field, or fields.<id>")
        return value


def _wait(given: Mapping[str, Any], targets: _Targets) -> dict[str, Any]:
    return {"seconds": targets.number(given, "seconds", None, (1, MAX_WAIT_SECONDS))}


def _branch(given: Mapping[str, Any], targets: _Targets) -> dict[str, Any]:
    condition = given.get("condition")
    where = f"{targets.where}.condition"
    _require(isinstance(condition, Mapping) and len(condition) > 0, where, "an object")
    condition = dict(condition or {})
    if "tag" in condition:
        _require(isinstance(condition["tag"], str), f"{where}.tag", "a tag's name")
        read: dict[str, Any] = {"tag": condition["tag"].strip().lower()}
    else:
        operator = condition.get("operator", "equals")
        _require(operator in {"equals", "exists"}, f"{where}.operator", "equals or exists")
        name = condition.get("field")
        if name != "status":
            name = targets.field(condition, "field")
        read = {"field": name, "operator": operator, "value": condition.get("value")}
    return {"condition": read, "else": targets.check("else", given.get("else"))}


def _tag(given: Mapping[str, Any], targets: _Targets) -> dict[str, Any]:
    return {"tag": targets.text(given, "tag", 255)}


def _update_field(given: Mapping[str, Any], targets: _Targets) -> dict[str, Any]:
    value = given.get("value")
    _require(value is None or isinstance(value, str), f"{targets.where}.value", "a text or null")
    return {"field": targets.field(given, "field"), "value": value or None}


def _assign(given: Mapping[str, Any], targets: _Targets) -> dict[str, Any]:
    user_id = given.get("user_id")
    _require(
        user_id is None or (isinstance(user_id, int) and user_id > 0), f"{targets.where}.user_id", "a user's id or null"
    )
    return {"user_id": user_id}


def _close(given: Mapping[str, Any], targets: _Targets) -> dict[str, Any]:
    return {
        name: targets.text(given, name, most) if given.get(name) else None
        for name, most in (("category", 128), ("summary", 512))
    }


def _ask(given: Mapping[str, Any], targets: _Targets) -> dict[str, Any]:
    answer = given.get("answer", "text")
    _require(answer in ANSWERS, f"{targets.where}.answer", f"one of {', '.join(ANSWERS)}")
    choices = given.get("choices") or []
    is_list = isinstance(choices, list) and all(isinstance(each, str) and each.strip() for each in choices)
    _require(is_list and (answer != "choice" or 1 <= len(choices) <= 10), f"{targets.where}.choices", "1 to 10 texts")
    default = answer if answer in {"phone", "email"} else None
    name = given.get("field", default)
    return {
        "text": targets.text(given, "text", MAX_TEXT),
        "answer": answer,
        "choices": [each.strip() for each in choices],
        "field": targets.field({"field": name}, "field") if name is not None else None,
        "retries": targets.number(given, "retries", DEFAULT_RETRIES, (0, 10)),
        "timeout_seconds": targets.number(given, "timeout_seconds", DEFAULT_TIMEOUT_SECONDS, (1, MAX_WAIT_SECONDS)),
        "on_failure": targets.check("on_failure", given.get("on_failure")),
        "on_timeout": targets.check("on_timeout", given.get("on_timeout")),
    }


def _jump(given: Mapping[str, Any], targets: _Targets) -> dict[str, Any]:
    goal = given.get("to")
    _require(goal in targets.ids, f"{targets.where}.to", "a step's id")
    return {"to": goal, "limit": targets.number(given, "limit", MAX_JUMPS, (1, MAX_JUMPS))}


def _nothing(_given: Mapping[str, Any], _targets: _Targets) -> dict[str, Any]:
    return {}


KINDS: Mapping[str, Callable[[Mapping[str, Any], _Targets], dict[str, Any]]] = {
    "wait": _wait,
    "branch": _branch,
    "add_tag": _tag,
    "remove_tag": _tag,
    "update_field": _update_field,
    "assign": _assign,
    "open_conversation": _nothing,
    "close_conversation": _close,
    "ask": _ask,
    "jump": _jump,
    "stop": _nothing,
}
