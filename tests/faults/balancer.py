"""A balancer between providers and several web processes: a connection goes to the next one that takes it."""

import asyncio
import itertools
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Self


class Balancer:
    """Listens on a port of its own, in a thread, and passes bytes on: `with Balancer(ports) as balancer`."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._turns = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listener.getsockname()[1])
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(5)

    def is_up(self, number: int) -> bool:
        """Return whether the process of that number takes connections."""
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self._ports[number]), timeout=1).close()
            return True
        return False

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with await asyncio.start_server(self._pass_on, sock=self._listener):
            await self._ended.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, ours = await self._connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        first = next(self._turns)
        for offset in range(len(self._ports)):
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", self._ports[(first + offset) % len(self._ports)])
        raise ConnectionRefusedError("no process takes connections")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
