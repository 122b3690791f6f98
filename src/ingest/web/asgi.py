"""The few pieces of ASGI that the raw webhook path needs: read a bounded body, send an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
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

    def get(self, name: str, default: Any = None) -> Any:
        """Return the header's value, or the default. Once or more a call: the inherited one raises and catches."""
        value = self._raw.get(name.encode("latin-1", "replace"))
        return default if value is None else value.decode("latin-1")

    def pick(self, names: frozenset[bytes]) -> dict[str, str]:
        """Return those of these names that are there."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._raw.items() if name in names}

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)


class BodyTooLarge(Exception):
    """The body is longer than the channel allows."""


class ClientGone(Exception):
    """The client hung up before the body was complete."""


class NoRoom(Exception):
    """Other large bodies fill the memory that there is for them."""


class Room:
    """The memory that large bodies share, in bytes. The first `free_bytes` of each body are free, so small ones always fit."""

    def __init__(self, size_bytes: int, free_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._free_bytes = free_bytes

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Give a function to be told how many bytes a body has so far, which raises NoRoom; what it took is given back."""
        taken = 0

        def hold(body_bytes: int) -> None:
            nonlocal taken
            wanted = max(body_bytes - self._free_bytes, 0) - taken
            if wanted > self._left_bytes:
                raise NoRoom
            self._left_bytes -= wanted
            taken += wanted

        try:
            yield hold
        finally:
            self._left_bytes += taken


def _hold_nothing(_body_bytes: int) -> None:
    """Take no part in any room."""


def json_answer(status: int, error: str, message: str) -> Answer:
    """Return an error in the shape that all our errors have."""
    body = f'{{"code":{status},"message":"{message}","error":"{error}"}}'.encode()
    return Answer(status, body, "application/json")


async def read_body(
    receive: Receive,
    headers: Mapping[str, str],
    limit: int,
    seconds: float = BODY_SECONDS,
    hold: Callable[[int], None] = _hold_nothing,
) -> bytes:
    """Return the body. Raises BodyTooLarge beyond `limit` bytes, TimeoutError after so many seconds, ClientGone.

    `hold` is told how much of it is there, and may raise.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge
    # The first piece is timed too: who sends a head and then nothing would otherwise hold a connection for ever.
    # By hand, because asyncio.timeout takes longer than all the rest of reading a body that is there already.
    loop = asyncio.get_running_loop()
    reading = asyncio.current_task()
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        if reading is not None:
            reading.cancel()

    timer = loop.call_later(seconds, give_up)
    try:
        return await _read_pieces(receive, limit, hold)
    except asyncio.CancelledError:
        if is_late and reading is not None and reading.uncancel() == 0:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


async def _read_pieces(receive: Receive, limit: int, hold: Callable[[int], None]) -> bytes:
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
        hold(total)
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
