"""What every channel adapter promises, held against all recorded requests of all channels.

A channel takes part by having a folder in `tests/fixtures/channels/`; nothing is listed here.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ingest.channels import registry
from ingest.channels.base import Webhook
from ingest.errors import BadPayload, BadShape, BadSignature
from ingest.parse import to_json
from tests.recorded import Recording, recorded_codes, recordings

CODES = recorded_codes()
ALL = [each for code in CODES for each in recordings(code)]


def is_handshake(recording: Recording) -> bool:
    adapter = registry.get_adapter(recording.code)
    return adapter.handshake is not None and adapter.handshake(recording.hook) is not None


REQUESTS = [each for each in ALL if not is_handshake(each)]
PROVED = [each for each in REQUESTS if each.proof]


def every(recorded: Iterable[Recording]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recording", list(recorded), ids=str)


def verify(recording: Recording, **changes: Any) -> None:
    registry.get_adapter(recording.code).verify(replace(recording.hook, **changes))


def parsed(code: str, hook: Webhook) -> list[dict[str, Any]]:
    return [to_json(event) for event in registry.get_adapter(code).parse(hook)]


def test_every_channel_has_recorded_requests() -> None:
    assert set(registry.CODES) == set(CODES)


@every(REQUESTS)
def test_recorded_request_is_proved_and_read_as_expected(recording: Recording) -> None:
    adapter = registry.get_adapter(recording.code)
    adapter.verify(recording.hook)
    if adapter.check is not None:
        adapter.check(recording.hook)
    assert parsed(recording.code, recording.hook) == recording.events


@every(each for each in ALL if is_handshake(each))
def test_set_up_request_is_answered_and_holds_no_events(recording: Recording) -> None:
    handshake = registry.get_adapter(recording.code).handshake
    assert handshake is not None
    answer = handshake(recording.hook)
    assert answer is not None
    assert answer.status == 200
    assert recording.events == []


def proof_of(recording: Recording) -> str:
    """Return the proof that stands in the request. Fails where settings.json names a place without one."""
    hook, proof = recording.hook, recording.proof
    if "header" in proof:
        value = hook.header(proof["header"])
    elif "query" in proof:
        value = hook.query.get(proof["query"], "")
    else:
        value = dict(hook.form).get(proof["form"], "")
    assert value, "settings.json names a place without a proof"
    return value


def with_proof(recording: Recording, value: str | None) -> Webhook:
    """Return the request with another proof in the same place, or none."""
    hook, proof = recording.hook, recording.proof
    if "header" in proof:
        headers = {name: each for name, each in hook.headers.items() if name != proof["header"]}
        return replace(hook, headers=headers if value is None else {**headers, proof["header"]: value})
    if "query" in proof:
        parts = urlsplit(hook.url)
        return replace(hook, url=urlunsplit(parts._replace(query=_with(parts.query, proof["query"], value))))
    return replace(hook, body=_with(hook.body.decode(), proof["form"], value).encode())


def _with(fields: str, name: str, value: str | None) -> str:
    kept = [(each, old) for each, old in parse_qsl(fields, keep_blank_values=True) if each != name]
    return urlencode(kept if value is None else [*kept, (name, value)], errors="surrogateescape")


def wrong_proofs(proof: str) -> Iterator[str | None]:
    """Yield proofs that must fail: none, empty, other forms, the right length with one character changed."""
    yield from (None, "", " ", "0", "nonsense=" + proof, "x" * len(proof), proof[:-1], proof[len(proof) // 2 :])
    yield from ("\udcff" + proof[1:], "é" * len(proof), proof + "é")
    middle = len(proof) * 2 // 3
    yield proof[:middle] + ("0" if proof[middle] != "0" else "1") + proof[middle + 1 :]


@every(PROVED)
def test_missing_or_wrong_proof_is_refused(recording: Recording) -> None:
    """T61: unsigned or badly signed requests get in nowhere."""
    for wrong in wrong_proofs(proof_of(recording)):
        with pytest.raises(BadSignature):
            registry.get_adapter(recording.code).verify(with_proof(recording, wrong))


@every(each for each in PROVED if each.proof.get("covers_body"))
def test_body_changed_by_one_byte_is_refused(recording: Recording) -> None:
    body = recording.hook.body
    for position in (0, len(body) // 2, len(body) - 1):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        with pytest.raises(BadSignature):
            verify(recording, body=changed)


@every(each for each in PROVED if each.hook.secrets)
def test_without_a_configured_secret_nothing_gets_in(recording: Recording) -> None:
    """T61: no secret means refuse, not skip."""
    for secrets in ({}, dict.fromkeys(recording.hook.secrets, ("",))):
        with pytest.raises(BadSignature):
            verify(recording, secrets=secrets)


@every(each for each in PROVED if each.hook.secrets)
def test_old_secret_is_accepted_during_a_rotation(recording: Recording) -> None:
    secrets = recording.hook.secrets
    verify(recording, secrets={name: (f"new-{values[0]}", *values) for name, values in secrets.items()})


@every(REQUESTS)
def test_ids_are_the_same_each_time_and_in_any_order_of_items(recording: Recording) -> None:
    def ids(hook: Webhook) -> list[str]:
        return sorted(event["external_id"] for event in parsed(recording.code, hook))

    expected = ids(recording.hook)
    assert all(expected)
    assert ids(recording.hook) == expected
    if recording.batches:
        body = json.dumps(reordered(json.loads(recording.hook.body), recording.batches)).encode()
        assert ids(replace(recording.hook, body=body)) == expected


def reordered(value: Any, batches: tuple[str, ...]) -> Any:
    """Return the JSON value with each named array reversed."""
    if isinstance(value, list):
        return [reordered(each, batches) for each in value]
    if isinstance(value, dict):
        inner = {name: reordered(each, batches) for name, each in value.items()}
        return {
            name: each[::-1] if name in batches and isinstance(each, list) else each for name, each in inner.items()
        }
    return value


ODD_VALUES = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, 10**18, 10**40, -(10**40), 1e300),
        *("", " ", "null", "0", "x\0y", "\ud83d", "é" * 300),
        *([], {}, [None], [[]], [{}], {"": None}, {"id": {}}, [1, "a", {"b": []}]),
    ]
)


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Return a body cut off, with flipped bytes, with a JSON value replaced or taken away, or with another body's shape."""
    kinds = ["cut", "flip", "odd"]
    try:
        value = json.loads(body)
        kinds += ["replace"] * 4
    except ValueError:
        value = None
    match draw(st.sampled_from(kinds)):
        case "cut":
            return body[: draw(st.integers(0, len(body)))]
        case "flip":
            flipped = bytearray(body)
            for position in draw(st.lists(st.integers(0, max(0, len(body) - 1)), min_size=1, max_size=4)):
                if flipped:
                    flipped[position] ^= draw(st.integers(1, 255))
            return bytes(flipped)
        case "replace":
            for _ in range(draw(st.integers(1, 3))):
                value = altered(draw, value)
            return json.dumps(value).encode()
        case _:
            return draw(st.sampled_from([b"", b"{", b"[]", b"null", b"[" * 9000, b'{"a":' * 9000, b"\0", b"1" * 9000]))


def altered(draw: st.DrawFn, value: Any) -> Any:
    """Return the JSON value with one value somewhere in it replaced, or its key taken away."""
    places = list(places_in(value))
    if not places:
        return draw(ODD_VALUES)
    path = draw(st.sampled_from(places))
    changed = json.loads(json.dumps(value))
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    if draw(st.booleans()):
        holder[path[-1]] = draw(ODD_VALUES)
    else:
        del holder[path[-1]]
    return changed


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for step, each in inner:
        yield (*path, step)
        yield from places_in(each, (*path, step))


@pytest.mark.parametrize("code", CODES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_damaged_body_is_refused_in_the_agreed_way_or_read_in_part(code: str, data: st.DataObject) -> None:
    adapter = registry.get_adapter(code)
    recording = data.draw(st.sampled_from([each for each in REQUESTS if each.code == code]))
    hook = replace(recording.hook, body=data.draw(damaged(recording.hook.body)))
    if adapter.handshake is not None:
        adapter.handshake(hook)
    with suppress(BadSignature):
        adapter.verify(hook)
    if adapter.check is not None:
        with suppress(BadShape):
            adapter.check(hook)
    try:
        events = parsed(code, hook)
    except BadPayload:
        return
    assert_can_be_stored(events)


def cpu_seconds(act: Callable[[], object]) -> float:
    """Return the processor time it took, the better of two: the collector may come by in one."""
    taken = []
    for _ in range(2):
        started = time.thread_time()
        with suppress(BadPayload, BadShape, BadSignature):
            act()
        taken.append(time.thread_time() - started)
        if taken[-1] < MOST_CPU_SECONDS:
            break
    return min(taken)


MOST_CPU_SECONDS = 0.05


@pytest.mark.parametrize("code", CODES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_body_keeps_a_process_busy(code: str, data: st.DataObject) -> None:
    adapter = registry.get_adapter(code)
    recording = data.draw(st.sampled_from([each for each in REQUESTS if each.code == code]))
    hook = replace(recording.hook, body=data.draw(damaged(recording.hook.body)))
    assert cpu_seconds(lambda: adapter.verify(hook)) < MOST_CPU_SECONDS
    assert cpu_seconds(lambda: adapter.parse(hook)) < MOST_CPU_SECONDS


@pytest.mark.parametrize("code", sorted({each.code for each in PROVED}))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_proof_but_the_right_one_is_taken(code: str, data: st.DataObject) -> None:
    """T61: whatever stands in the proof's place, without the key it is refused, and by no other error."""
    recording = data.draw(st.sampled_from([each for each in PROVED if each.code == code]))
    right = proof_of(recording)
    bit = data.draw(st.integers(0, 8 * len(right.encode()) - 1))
    flipped = bytearray(right.encode())
    flipped[bit // 8] ^= 1 << bit % 8
    wrong = data.draw(st.text(max_size=200) | st.just(flipped.decode("latin-1")))
    assume(same_proof(wrong) != same_proof(right))
    with pytest.raises(BadSignature):
        registry.get_adapter(code).verify(with_proof(recording, wrong))


def same_proof(proof: str) -> str:
    """Return the proof in one spelling: hex digits and words like `sha256` and `Basic` count in any case."""
    return proof.strip().casefold()


def assert_can_be_stored(events: list[dict[str, Any]]) -> None:
    text = json.dumps(events, ensure_ascii=False, allow_nan=False).encode().decode()
    assert "\\u0000" not in text
    for event in events:
        assert event["external_id"]
        if event["kind"] in ("message", "echo"):
            assert event["sender"]["external_id"]
            assert event["message"]
