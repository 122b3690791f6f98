"""The time that a call's body may take, and bodies that no decoder should be given."""

# ruff: noqa: N802 - the names carry the promises

import asyncio
import gzip
import json
import zlib
from collections.abc import MutableMapping
from typing import Any

import pytest
from fastapi import FastAPI

from ingest.web.api import app as api_app

from .space import ROOT, Space


async def call(api: FastAPI, path: str, token: str, pause: float) -> int:
    """Post a body of a byte now and then, without end, and return the answer's status."""
    statuses: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"authorization", f"Bearer {token}".encode()), (b"content-type", b"application/json")]
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"},
        **{"path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers, "root_path": ""},
    }
    async with asyncio.timeout(10):
        await api(scope, receive, send)
    return statuses[0]


@pytest.mark.parametrize("path", ["/contact/phone:+60123456789", "/import"])
@pytest.mark.parametrize("pause", [0.05, 60], ids=["dribbles", "never comes"])
def test_P8_a_body_that_takes_too_long_is_408(
    space: Space, api: FastAPI, monkeypatch: pytest.MonkeyPatch, path: str, pause: float
) -> None:
    monkeypatch.setattr(api_app, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(api_app, "UPLOAD_SECONDS", 0.3)
    assert asyncio.run(call(api, ROOT + path, space.token(), pause)) == 408


BOMBS = {
    "nested lists": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nested and cut off": b"[" * 900_000,
    "a deep field": b'{"firstName": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "keys": json.dumps({f"k{number}": 1 for number in range(80_000)}).encode(),
    "a long number": b'{"firstName": ' + b"9" * 100_000 + b"}",
    "a long fraction": b'{"firstName": 0.' + b"9" * 100_000 + b"}",
    "a large exponent": b'{"firstName": 1e400000}',
    "not a number": b'{"firstName": NaN}',
    "gzip": gzip.compress(b"0" * 50_000_000),
    "deflate": zlib.compress(b"0" * 50_000_000),
    "bytes": bytes(range(256)) * 100,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_M8_a_hostile_body_is_refused_and_never_an_error_of_ours(space: Space, bomb: str) -> None:
    headers = {"content-type": "application/json"}
    if bomb in ("gzip", "deflate"):
        headers["content-encoding"] = bomb
    for method, path in (
        ("POST", "/contact/phone:+60123456789"),
        ("POST", "/contact/list"),
        ("POST", "/segment"),
        ("PUT", "/space/rate_limit"),
        ("POST", "/import"),
    ):
        answer = space.owner.request(method, ROOT + path, content=BOMBS[bomb], headers=headers)
        assert 400 <= answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        assert answer.json()["message"]
    assert space.contact()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"firstName": "Ada"', "body: Expecting ',' delimiter, at character 19"),
        (b"Ada", "body: Expecting value, at character 0"),
        (b'{firstName: "Ada"}', "body: Expecting property name enclosed in double quotes, at character 1"),
    ],
)
def test_a_body_that_is_no_json_is_told_where_it_breaks(space: Space, body: bytes, message: str) -> None:
    url, headers = f"{ROOT}/contact/phone:+60123456789", {"content-type": "application/json"}
    answer = space.owner.post(url, content=body, headers=headers).json()
    assert (answer["message"], answer["field"]) == (message, "body")
