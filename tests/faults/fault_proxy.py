"""A TCP proxy that misbehaves on demand: the network between two processes, in the hands of a test.

It listens on a loopback port and passes everything on to a TCP port or a unix socket. All controls may be changed while
it runs, from any thread:

    with FaultProxy("/run/valkey.sock") as proxy:
        connect_to(proxy.port)
        proxy.latency_seconds = 0.2                     # each way
        proxy.bytes_per_second = 64_000                 # each way and connection
        proxy.hold(), proxy.hold(to_server=False)       # a partition: bytes wait until heal()
        proxy.blackhole()                               # bytes vanish; connections that lost any stay dead after heal()
        proxy.half_open()                               # the server hangs up and no client hears of it
        proxy.reset()                                   # RST on every connection, once
        proxy.cut_after(4096)                           # RST on each connection once so many bytes came back on it
        proxy.drop_reply(b"COMMIT", times=1)            # that answer never arrives; its connection is reset
        proxy.on_request(b"HDEL", once)                 # calls once() when a request with these bytes has gone through
        proxy.on_reply(b"COMMIT", once)                 # the same for an answer
        proxy.heal()                                    # all of the above off
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Direction = Literal["to_server", "to_client"]
CHUNK_BYTES = 64 * 1024
LOOK_SECONDS = 0.01
# SO_LINGER with a time of zero: closing sends RST instead of FIN.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class Link:
    """One client's connection and its counterpart to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_dead: bool = False
    returned_bytes: int = 0
    tails: dict[Direction, bytes] = field(default_factory=lambda: {"to_server": b"", "to_client": b""})

    def reset(self) -> None:
        """End both connections with RST."""
        self.is_dead = True
        for writer in (self.client, self.server):
            found = writer.get_extra_info("socket")
            if found is not None and found.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()


@dataclass(slots=True)
class Rule:
    """Bytes to look for, and how many times more they count."""

    match: bytes
    times: int
    then: Callable[[], object] | None = None
    silent: bool = False
    direction: Direction = "to_client"


class FaultProxy:
    """Passes connections on to `upstream`, a loopback TCP port or a unix socket's path. Runs in a thread of its own."""

    def __init__(self, upstream: int | str, name: str = "") -> None:
        self.upstream = upstream
        self.name = name
        self.port = 0
        self.latency_seconds = 0.0
        self.bytes_per_second: float | None = None
        self.dropped = 0
        self.cut = 0
        self._held: set[Direction] = set()
        self._black: set[Direction] = set()
        self._cut_bytes: int | None = None
        self._cut_times: int | None = None
        self._drop: Rule | None = None
        self._watch: Rule | None = None
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {name}", daemon=True)
        self._server: asyncio.Server | None = None

    # Life

    def start(self) -> None:
        """Listen. `port` is known afterwards."""
        self._thread.start()
        self._do(self._listen())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, backlog=1024)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Reset everything and end."""
        if self._thread.is_alive():
            self._do(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
        self._loop.close()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._reset_all()
        # The transports' own call-backs.
        await asyncio.sleep(0.01)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    # Controls

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def hold(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Keep bytes back, in one direction or both, until `heal`: a partition, after which TCP delivers what it has."""
        self._held = _directions(to_server, to_client)

    def blackhole(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Have bytes vanish, in one direction or both. A connection that lost any never works again."""
        self._black = _directions(to_server, to_client)

    def half_open(self) -> None:
        """Hang up on the server without telling the clients. New connections work."""
        self._do(self._halve())

    async def _halve(self) -> None:
        for link in self._links:
            link.is_dead = True
            link.server.transport.abort()

    def reset(self) -> int:
        """End all connections with RST and return how many there were. New ones work."""
        return int(self._do(self._reset_links()))

    async def _reset_links(self) -> int:
        return self._reset_all()

    def _reset_all(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    def cut_after(self, count: int, times: int | None = None) -> None:
        """Reset each connection once so many bytes have come back on it, `times` connections or all."""
        self._cut_times, self._cut_bytes = times, count

    def drop_reply(self, match: bytes, times: int = 1, *, silent: bool = False) -> None:
        """Drop the next replies that contain these bytes, and reset their connections; `silent` leaves them open and dead."""
        self._drop = Rule(match, times, silent=silent)

    def on_request(self, match: bytes, then: Callable[[], object], times: int = 1) -> None:
        """Call `then`, in the proxy's thread, right after a request with these bytes was passed on."""
        self._watch = Rule(match, times, then, direction="to_server")

    def on_reply(self, match: bytes, then: Callable[[], object], times: int = 1) -> None:
        """Call `then`, in the proxy's thread, right after a reply with these bytes was passed on."""
        self._watch = Rule(match, times, then)

    @property
    def is_holding(self) -> bool:
        """Whether bytes are kept back."""
        return bool(self._held)

    def heal(self) -> None:
        """Turn all faults off. What was held is delivered; what is dead stays dead."""
        self.latency_seconds, self.bytes_per_second = 0.0, None
        self._held, self._black = set(), set()
        self._cut_bytes = self._cut_times = self._drop = self._watch = None

    # Passing on

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        # Whoever connects into a partition waits for its first answer, as with a SYN that gets lost.
        if isinstance(self.upstream, str):
            server_reader, server = await asyncio.open_unix_connection(self.upstream)
        else:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self.upstream)
        link = Link(client, server)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, client_reader, server, "to_server"),
                self._pump(link, server_reader, client, "to_client"),
            )
        except OSError:
            link.reset()
        finally:
            self._links.discard(link)
            server.transport.abort()

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        """Read ahead, so that latency delays bytes without making them fewer."""
        arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        passing = asyncio.create_task(self._deliver(link, arrived, writer, direction))
        try:
            while True:
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = await reader.read(CHUNK_BYTES)
                await arrived.put((self._loop.time() + self.latency_seconds, data))
                if not data:
                    await passing
                    return
        finally:
            passing.cancel()

    async def _deliver(
        self,
        link: Link,
        arrived: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        direction: Direction,
    ) -> None:
        while True:
            due, data = await arrived.get()
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            while direction in self._held and not link.is_dead:  # noqa: ASYNC110 - set from other threads
                await asyncio.sleep(LOOK_SECONDS)
            if not data:
                await self._end(link, writer, direction)
                return
            if direction in self._black:
                link.is_dead = True
            if not link.is_dead and self._may_pass(link, data, direction):
                await self._write(link, writer, data)
                self._notice(link, data, direction)

    async def _end(self, link: Link, writer: asyncio.StreamWriter, direction: Direction) -> None:
        """Pass a hang-up on, unless the connection is dead: then only the client's own counts, and nobody hears of it."""
        if link.is_dead and direction == "to_client":
            return
        with contextlib.suppress(OSError, RuntimeError):
            if writer.can_write_eof():
                writer.write_eof()
        if direction == "to_client" or link.is_dead:
            await asyncio.sleep(0)
            writer.close()
        if direction == "to_server":
            # The server has nothing more to say to one who left.
            link.server.close()

    def _may_pass(self, link: Link, data: bytes, direction: Direction) -> bool:
        """Return whether the data may go on; reset the connection where a rule says so."""
        if direction == "to_server":
            return True
        link.returned_bytes += len(data)
        drop = self._drop
        if drop is not None and drop.times > 0 and self._contains(link, data, direction, drop.match):
            drop.times -= 1
            self.dropped += 1
            if drop.silent:
                link.is_dead = True
            else:
                link.reset()
            return False
        if self._cut_bytes is not None and link.returned_bytes > self._cut_bytes and self._cut_times != 0:
            if self._cut_times is not None:
                self._cut_times -= 1
            self.cut += 1
            link.reset()
            return False
        return True

    async def _write(self, link: Link, writer: asyncio.StreamWriter, data: bytes) -> None:
        rate = self.bytes_per_second
        size = len(data) if rate is None else max(1, int(rate / 20))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)
            if link.is_dead:
                return
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    def _notice(self, link: Link, data: bytes, direction: Direction) -> None:
        watch = self._watch
        if watch is None or direction != watch.direction or watch.times <= 0 or watch.then is None:
            return
        if self._contains(link, data, direction, watch.match):
            watch.times -= 1
            watch.then()

    @staticmethod
    def _contains(link: Link, data: bytes, direction: Direction, match: bytes) -> bool:
        """Return whether the bytes are in the data, or across its border with what came before."""
        seen = link.tails[direction] + data
        link.tails[direction] = seen[-(len(match) - 1) :] if len(match) > 1 else b""
        return match in seen


def _directions(to_server: bool, to_client: bool) -> set[Direction]:
    chosen: set[Direction] = set()
    if to_server:
        chosen.add("to_server")
    if to_client:
        chosen.add("to_client")
    return chosen
