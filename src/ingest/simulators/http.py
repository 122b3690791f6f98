"""The least of HTTP/1.1 that a load generator needs: one kept-alive connection, one request at a time.

A general client spends more time on a request than the server under test. Source: RFC 9112.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from ingest.simulators.base import SimulatedRequest

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
REQUEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a URL's server is."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Return the origin of an http or https URL."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        return cls(parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80), tls)


def raw_request(url: str, request: SimulatedRequest) -> bytes:
    """Return the request's bytes on the wire."""
    parts = urlsplit(url)
    query = request.query or parts.query
    target = (parts.path or "/") + (f"?{query.removeprefix('?')}" if query else "")
    headers = {"host": parts.netloc, "content-length": str(len(request.body)), **request.headers}
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + request.body


class Connection(asyncio.Protocol):
    """A connection that opens itself when needed."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._received = b""

    async def send(self, raw: bytes) -> int:
        """Send a request and return the answer's status. Raises OSError or TimeoutError when there is none.

        After an error nobody knows whether the request was taken.
        """
        if self._transport is None or self._transport.is_closing():
            await self._open()
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        assert self._transport is not None  # noqa: S101 - _open has set it
        self._transport.write(raw)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self._answer
        except TimeoutError:
            self.close()
            raise
        finally:
            self._answer = None

    async def _open(self) -> None:
        context = ssl.create_default_context() if self._origin.tls else None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(REQUEST_SECONDS):
            await loop.create_connection(lambda: self, self._origin.host, self._origin.port, ssl=context)

    def close(self) -> None:
        """Close the connection; the next `send` opens it again."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio's callback)."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream has no other
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that is under way (asyncio's callback)."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server hung up before it answered"))

    def data_received(self, data: bytes) -> None:
        """Finish the request when its answer is complete (asyncio's callback)."""
        self._received += data
        status = complete_status(self._received)
        if status is None or self._answer is None or self._answer.done():
            return
        self._answer.set_result(status)
        if CLOSES.search(self._received):
            self.close()


def complete_status(received: bytes) -> int | None:
    """Return the status of an answer that has arrived whole, else None."""
    head_length = received.find(b"\r\n\r\n") + 4
    if head_length < 4:
        return None
    head = received[:head_length]
    if CHUNKED.search(head):
        whole = received.endswith(b"\r\n0\r\n\r\n")
    else:
        length = LENGTH.search(head)
        whole = len(received) - head_length >= (int(length.group(1)) if length else 0)
    return int(received[9:12]) if whole else None
