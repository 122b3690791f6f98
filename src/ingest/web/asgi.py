"""The few pieces of ASGI that the raw webhook path needs: read a bounded body, send an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from ingest.channels.base import Answer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_SECONDS = 10.0


class Headers(Mapping[str, str]):
    """A request's headers, decoded when they are looked at: most never are. Of a repeated one, the last counts."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = dict(raw)

    def __getitem__(self, name: str) -> str:
        return self._raw[name.encode("latin-1", "replace")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)


class BodyTooLarge(Exception):
    """The body is longer than the channel allows."""


class ClientGone(Exception):
    """The client hung up before the body was complete."""


def json_answer(status: int, error: str, message: str) -> Answer:
    """Return an error in the shape that all our errors have."""
    body = f'{{"code":{status},"message":"{message}","error":"{error}"}}'.encode()
    return Answer(status, body, "application/json")


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """Return the body. Raises BodyTooLarge beyond `limit` bytes, TimeoutError after so many seconds, ClientGone."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge
    # The first piece is timed too: who sends a head and then nothing would otherwise hold a connection for ever.
    async with asyncio.timeout(seconds):
        return await _read_pieces(receive, limit)


async def _read_pieces(receive: Receive, limit: int) -> bytes:
    pieces: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = bytes(message.get("body", b""))
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return b"".join(pieces)


async def send_answer(send: Send, answer: Answer, *extra: tuple[bytes, bytes]) -> None:
    """Send the whole answer."""
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
