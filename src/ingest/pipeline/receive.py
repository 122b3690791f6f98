"""Step `receive`: prove the request, make it durable in a grouped commit, ring the queue, answer.

Requests that arrive while a commit is under way wait for the next one and share it: alone, a request commits at once;
under load, up to 500 share one. While PostgreSQL is away, or takes longer than a second, the group goes to the spool
instead, and from there into PostgreSQL when it is back. Only when neither takes it, the answer is 503.

A group whose commit has an unknown outcome may end up both in the database and in the spool: unique message ids make
the second one a duplicate.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import psycopg
import structlog

from ingest.channels.base import Adapter, Webhook
from ingest.errors import Rejected, Transient
from ingest.jobs import queues
from ingest.jobs.publisher import Publisher
from ingest.pipeline.waiting import MAX_GROUP_BYTES, Waiter, Waiting
from ingest.store.durability import keep_commits
from ingest.store.intake import IntakeRow, RawRequest, add_intake_rows, encode_rows
from ingest.store.spool import Spool, SpoolFile

log = structlog.get_logger()

MAX_REPLAYED_ROWS = 100
CONNECT_SECONDS = 2
WRITE_SECONDS = 1.0
DRAIN_SECONDS = 10.0
RETRY_SECONDS = 0.5

# What parsing needs of a request's headers. Everything else, credentials above all, ends at the edge.
KEPT_HEADERS = frozenset({"content-type", "x-envelope-to", "x-envelope-from", "x-authenticated-mail"})

T = TypeVar("T")

_row_encoder = msgspec.msgpack.Encoder()
_row_decoder = msgspec.msgpack.Decoder(IntakeRow)


class Unavailable(Transient):
    """Neither the database nor the spool takes the request: answer 503, so that the provider repeats it."""


def prove(adapter: Adapter, hook: Webhook) -> None:
    """Raise BadSignature unless the request is the provider's, BadShape where it breaks a format of our own."""
    adapter.verify(hook)
    if adapter.check is not None:
        adapter.check(hook)


@dataclass(slots=True)
class IntakeFigures:
    """What the intake has done since it started, for the metrics."""

    committed: int = 0
    spooled: int = 0
    refused: int = 0
    groups: int = 0
    replayed: int = 0


class Intake:
    """Makes requests durable in groups. Lives in one event loop; owns one database connection and the spool.

    A group that the database does not take within `write_seconds` goes to the spool.
    """

    def __init__(
        self,
        conninfo: str,
        spool: Spool,
        publisher: Publisher,
        *,
        on_group: Callable[[int, float], None] = lambda size, seconds: None,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        self._conninfo = conninfo
        self._spool = spool
        self._publisher = publisher
        self._on_group = on_group
        self._write_seconds = write_seconds
        self._waiting = Waiting()
        self._arrived = asyncio.Event()
        self._connection: psycopg.AsyncConnection[object] | None = None
        self._abandoned: set[asyncio.Task[psycopg.AsyncConnection[object]]] = set()
        self._is_database_away = False
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closing = False
        # A thread of its own: while the database hangs, whoever asks it something holds the shared ones.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self.figures = IntakeFigures()

    async def start(self) -> None:
        """Check the spool and start writing. Raises BadSetting when the spool cannot be written."""
        self._spool.check()
        self._tasks = [asyncio.create_task(self._write_groups()), asyncio.create_task(self._drain_spool())]

    async def stop(self) -> None:
        """Write what is waiting, then stop. Requests that come later are refused."""
        self._is_closing = True
        self._arrived.set()
        writer, drainer = self._tasks
        drainer.cancel()
        await asyncio.wait([writer], timeout=DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._disconnect()
        self._spool.release()
        self._disk.shutdown(wait=False)

    async def accept(self, request: RawRequest) -> None:
        """Return once the request is durable. Raises Unavailable when it cannot be made so.

        A caller that is cancelled meanwhile, because its client hung up, neither stops nor repeats the write.
        """
        if self._is_closing or not self._waiting.has_room(request.workspace_id):
            self.figures.refused += 1
            raise Unavailable("too much is waiting to be written")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(request, done)
        self._arrived.set()
        await done

    def can_spool(self) -> bool:
        """Return whether the spool takes records, for the readiness probe."""
        try:
            self._spool.check()
            return self._spool.size_bytes() < self._spool.max_bytes
        except Rejected:
            return False

    @property
    def is_database_away(self) -> bool:
        """Whether the last write found no database."""
        return self._is_database_away

    async def _write_groups(self) -> None:
        while not (self._is_closing and not self._waiting):
            await self._arrived.wait()
            group = self._take_group()
            if group:
                await self._write_group(group)

    def _take_group(self) -> list[Waiter]:
        group = self._waiting.take_group()
        if not self._waiting and not self._is_closing:
            self._arrived.clear()
        return group

    async def _write_group(self, group: Sequence[Waiter]) -> None:
        started = asyncio.get_running_loop().time()
        refusal: Unavailable | None = None
        try:
            await self._make_durable(encode_rows([request for request, _ in group]), len(group))
        except Unavailable as refused:
            refusal = refused
        except Exception as unforeseen:
            # Whatever it is, nobody may wait for ever, and the next group may fare better.
            log.exception("group.failed", requests=len(group))
            refusal = Unavailable(type(unforeseen).__name__)
        if refusal is not None:
            self.figures.refused += len(group)
        for _, done in group:
            if done.done():
                continue
            if refusal is None:
                done.set_result(None)
            else:
                done.set_exception(refusal)
        self._on_group(len(group), asyncio.get_running_loop().time() - started)

    async def _make_durable(self, rows: list[IntakeRow], size: int) -> None:
        self.figures.groups += 1
        if not self._is_database_away and await self._commit(rows):
            self.figures.committed += size
            return
        try:
            records = [_row_encoder.encode(row) for row in rows]
            await self._on_disk(lambda: self._spool.append(records))
        except Transient as full:
            raise Unavailable(str(full)) from full
        self.figures.spooled += size

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    async def _commit(self, rows: list[IntakeRow]) -> bool:
        """Return whether the rows are committed. False may also mean that nobody knows."""
        connection, self._connection = self._connection, None
        seconds = self._write_seconds + (CONNECT_SECONDS if connection is None else 0)
        writing = asyncio.create_task(self._add(connection, rows))
        await asyncio.wait({writing}, timeout=seconds)
        if not writing.done():
            self._abandon(writing)
            return self._is_lost(TimeoutError())
        try:
            self._connection = writing.result()
        except (psycopg.Error, TimeoutError, OSError) as away:
            return self._is_lost(away)
        self._publisher.ring([queues.RESOLVE])
        return True

    def _is_lost(self, away: Exception) -> bool:
        self._is_database_away = True
        log.warning("database.lost", error=type(away).__name__)
        return False

    async def _add(
        self, connection: psycopg.AsyncConnection[object] | None, rows: list[IntakeRow]
    ) -> psycopg.AsyncConnection[object]:
        """Commit the rows and return the connection, which is closed where that fails."""
        if connection is None:
            connection = await self._connect("ingest-web-intake")
        try:
            await add_intake_rows(connection, rows)
        except BaseException:
            with contextlib.suppress(psycopg.Error, TimeoutError, OSError):
                await connection.close()
            raise
        return connection

    async def _connect(self, name: str) -> psycopg.AsyncConnection[object]:
        connection: psycopg.AsyncConnection[object] = await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name=name
        )
        try:
            await keep_commits(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _abandon(self, writing: asyncio.Task[psycopg.AsyncConnection[object]]) -> None:
        """Have a write end in its own time: psycopg asks the server to cancel it, and waits ten seconds for an answer."""
        writing.cancel()
        self._abandoned.add(writing)
        writing.add_done_callback(self._forget)

    def _forget(self, writing: asyncio.Task[psycopg.AsyncConnection[object]]) -> None:
        self._abandoned.discard(writing)
        if not writing.cancelled():
            # Nobody else asks how it ended.
            writing.exception()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # A hung server must not hold us: closing only drops our end of the socket.
            with contextlib.suppress(psycopg.Error, TimeoutError, OSError):
                await connection.close()

    async def _drain_spool(self) -> None:
        """Bring the spool's records into the database whenever it answers; look for other processes' leftovers too."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self._replay()
            except (psycopg.Error, TimeoutError, OSError) as away:
                log.info("spool.waited", error=type(away).__name__)
            except Exception:
                log.exception("spool.failed")

    async def _replay(self) -> None:
        if not self._is_database_away and not await self._on_disk(self._spool.size_bytes):
            return
        async with asyncio.timeout(CONNECT_SECONDS + DRAIN_SECONDS):
            connection = await self._connect("ingest-web-spool")
        try:
            # The database answers: new requests go there again, so that the spool's files can only become fewer.
            self._is_database_away = False
            await self._on_disk(self._spool.release)
            for file in self._spool.adopt(_read_row):
                await self._replay_file(connection, file)
        finally:
            await connection.close()

    async def _replay_file(self, connection: psycopg.AsyncConnection[object], file: SpoolFile[IntakeRow]) -> None:
        for rows in _in_commits(file.records):
            async with asyncio.timeout(DRAIN_SECONDS):
                await add_intake_rows(connection, rows)
        replayed = sum(row.weight for row in file.records)
        self.figures.replayed += replayed
        self._publisher.ring([queues.RESOLVE])
        log.info("spool.replayed", requests=replayed, damaged_bytes=len(file.damaged))


def _in_commits(rows: Sequence[IntakeRow]) -> Iterator[list[IntakeRow]]:
    """Give the rows in groups that go into one commit each: a backlog written one by one takes long to come in."""
    group: list[IntakeRow] = []
    size = 0
    for row in rows:
        if group and (len(group) == MAX_REPLAYED_ROWS or size + len(row.body) > MAX_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row.body)
    if group:
        yield group


def _read_row(record: bytes) -> IntakeRow | None:
    """Return the row of a spool record, None where another release wrote it in a way we cannot read."""
    try:
        return _row_decoder.decode(record)
    except msgspec.MsgspecError:
        return None
