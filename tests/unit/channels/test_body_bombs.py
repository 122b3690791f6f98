"""Small bodies that would become large, or keep a process busy, once they are read: refused, or read in bounded memory."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import json
import time
import tracemalloc
from urllib.parse import urlencode

import pytest

from ingest.channels import email_mailgun, email_ses
from ingest.channels.base import MAX_JSON_VALUES, Webhook, decode_json
from ingest.channels.mail_form import Form, read_form
from ingest.errors import BadPayload, BadSignature

MIB = 1024 * 1024


def form(body: bytes, content_type: str = "application/x-www-form-urlencoded") -> Form:
    return read_form(Webhook("POST", "https://x/", {"content-type": content_type}, body))


@pytest.mark.parametrize("unit", [b"[],", b'{"a":[]},', b'["["],', b"{},"])
def test_M8_json_of_millions_of_values_is_refused_before_it_is_decoded(unit: bytes) -> None:
    body = b"[" + unit * (8 * MIB // len(unit)) + b"1]"
    started = time.thread_time()
    with pytest.raises(BadPayload, match="250000 values"):
        decode_json(body)
    # Decoding them would take seconds and half a gigabyte.
    assert time.thread_time() - started < 2


def test_as_many_values_as_may_be_are_read_and_commas_in_text_are_none() -> None:
    most = [1] * MAX_JSON_VALUES
    assert decode_json(json.dumps(most)) == most
    with pytest.raises(BadPayload):
        decode_json(json.dumps([*most, 1]))
    text = 'a, b [ { \\ " , ' * 100_000
    assert decode_json(json.dumps({"text": text})) == {"text": text}


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_json_nests_32_deep_and_no_deeper_whatever_stands_in_its_strings(brackets: str) -> None:
    def nested(depth: int) -> str:
        open_, close = (brackets[0] + ('"]}":' if brackets == "{}" else ""), brackets[1])
        return open_ * depth + ('"]}]}"' if brackets == "[]" else "1") + close * depth

    decode_json(nested(32))
    with pytest.raises(BadPayload):
        decode_json(nested(33))
    with pytest.raises(BadPayload):
        decode_json(nested(100_000))
    # As many brackets as one likes, one after the other, are not deep.
    assert decode_json("[" + "[],[[]]," * 10_000 + "[]]")[1] == [[]]


def test_M8_a_form_full_of_escapes_is_read_in_a_few_times_its_size() -> None:
    body = urlencode({"body-plain": "è%+&=" * 50_000}).encode()
    tracemalloc.start()
    try:
        read = form(body).text("body-plain")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == "è%+&=" * 50_000
    assert peak < 8 * len(body)


@pytest.mark.parametrize("size", [*range(65_530, 65_545), 131_073])
def test_no_escape_is_cut_in_two_between_pieces(size: int) -> None:
    assert form(b"a=" + b"x" * size + b"%41%zz%e8%").fields == {"a": b"x" * size + b"A%zz\xe8%"}


def test_M8_a_form_of_many_parts_is_refused_though_all_have_one_name() -> None:
    part = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n"
    kind = "multipart/form-data; boundary=b"
    assert form(part * 1000 + b"--b--\r\n", kind).fields == {"a": b"x"}
    for parts in (part * 1001, b"--b\r\n\r\nx\r\n" * 1001):
        with pytest.raises(BadPayload, match="over 1000"):
            form(parts + b"--b--\r\n", kind)
    with pytest.raises(BadPayload, match="over 1000"):
        form(b"a=1&" * 1000 + b"a=1")


@pytest.mark.parametrize("adapter", [email_mailgun.ADAPTER, email_ses.ADAPTER], ids=lambda each: each.code)
def test_M8_a_notice_that_proves_itself_is_not_read_beyond_a_mebibyte(
    adapter: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_hook: Webhook) -> None:
        pytest.fail("decoded before it was proved")

    monkeypatch.setattr(Webhook, "json", read)
    body = b'{"signature": "' + b"x" * MIB + b'"}'
    hook = Webhook("POST", "https://x/", {"content-type": "application/json"}, body, {}, {"signing_key": ("k",)})
    with pytest.raises(BadSignature):
        adapter.verify(hook)  # type: ignore[attr-defined]
