"""The HTTP connection of a web process: uvicorn's, with bounds on what a client may leave unfinished.

uvicorn with httptools leaves them open: a client that sends a header a minute, or headers without end, would hold a
connection and memory for ever; so would one that goes on with a body after it was answered (404, 413), a byte a second or
as fast as it can. How long and how large a body may be is decided where it is read.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
# How long a client that was answered may go on with its body. Hanging up at once could take the answer away from it.
LEFTOVER_SECONDS = 2.0
MAX_HEAD_BYTES = 64 * 1024
HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Hangs up on a connection whose request head is not complete after ten seconds, or is larger than 64 KiB.

    A connection that says nothing at all is closed after the same time. A head that comes in one piece costs nothing here.
    What comes of a body after its answer is thrown away, and after two seconds of that the connection is closed.
    """

    _is_in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _leftover_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was to come."""
        self._end_head()
        self._end_leftovers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in a piece, and see whether a head is still incomplete after it."""
        super().data_received(data)
        if self._is_in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(HEAD_TOO_LARGE)
                self.transport.close()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Go on to the body."""
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Go on to the next request."""
        self._end_leftovers()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request, or wait a moment for the rest of a body that nobody reads any more."""
        if self.cycle.response_complete and self.cycle.more_body:
            self._leftover_timer = self.loop.call_later(LEFTOVER_SECONDS, self._hang_up)
        super().on_response_complete()

    def _end_leftovers(self) -> None:
        if self._leftover_timer is not None:
            self._leftover_timer.cancel()
            self._leftover_timer = None

    def _end_head(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _hang_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def server_options(**more: Any) -> dict[str, Any]:
    """Return uvicorn's settings for the web process, those of the connection that tests share, with `more`."""
    return {
        "http": BoundedProtocol,
        "loop": "uvloop",
        "ws": "none",
        "interface": "asgi3",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "log_config": None,
        **more,
    }
