"""Every log call in the source has a constant `noun.past_verb` and only keys whose values are shown."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.logs import EVENT_NAME, may_be_shown

ROOT = Path(__file__).parents[2]
METHODS = {"debug", "info", "warning", "error", "critical", "exception"}
SHOWN_OTHERWISE = {"exc_info"}


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id in {"log", "logger"}:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


CALLS = list(log_calls())


def test_there_are_log_calls_to_look_at() -> None:
    assert len(CALLS) > 0


@pytest.mark.parametrize(("place", "call"), CALLS, ids=[place for place, _call in CALLS])
def test_log_call_says_what_happened_in_words_and_keys_of_ours(place: str, call: ast.Call) -> None:
    assert len(call.args) == 1, f"{place}: facts go into keys"
    event = call.args[0]
    assert isinstance(event, ast.Constant), f"{place}: the event is a constant"
    assert EVENT_NAME.fullmatch(str(event.value)), f"{place}: {event.value!r} is not noun.past_verb"
    keys = {str(each.arg) for each in call.keywords} - SHOWN_OTHERWISE
    unknown = {key for key in keys if not may_be_shown(key)}
    assert not unknown, f"{place}: add {unknown} to the keys in ingest/logs.py if they can hold nothing personal"
