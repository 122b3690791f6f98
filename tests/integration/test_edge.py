"""The edge, through a real server: what is answered, what is durable by then, and what happens when a store is away."""

# ruff: noqa: N802 - the names carry the lessons and promises

import asyncio
import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvicorn
from cryptography.fernet import Fernet
from sqlalchemy import make_url, text

from ingest.channels.base import Adapter, Webhook
from ingest.errors import BadSetting
from ingest.jobs.queues import RESOLVE
from ingest.pipeline.receive import Intake, prove
from ingest.runtime import Runtime
from ingest.settings import read_settings
from ingest.simulators.meta import signed
from ingest.store.channels import Endpoint, find_channel_endpoint
from ingest.store.spool import Spool
from ingest.web import webhooks
from ingest.web.endpoints import Endpoints
from ingest.web.http import server_options
from ingest.web.webhooks import Webhooks
from tests import builders
from tests.pipeline_world import Pipeline
from workers import handling, resolve

pytestmark = pytest.mark.database

ADA = "447700900451"
assert resolve.resolver_of


class Bells:
    """Rings for nobody."""

    def hush(self, queue: str) -> None:
        """Do nothing."""

    def ring(self, queues: Any) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Relay:
    """Stands between the edge and PostgreSQL's socket. While `is_deaf`, what the server says goes nowhere."""

    def __init__(self, directory: Path, server: Path) -> None:
        self.is_deaf = threading.Event()
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / server.name))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(str(self._server))
                for source, target, mute in ((client, upstream, False), (upstream, client, True)):
                    threading.Thread(target=self._copy, args=(source, target, mute), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, mute: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not (mute and self.is_deaf.is_set()):
                    target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        self._listener.close()


class Edge:
    """A web process's webhook path under uvicorn, in a thread, with a database and a spool of this test's own."""

    def __init__(
        self,
        database_url: str,
        directory: Path,
        spool_bytes: int = 10**8,
        body_seconds: float = 10,
        write_seconds: float = 10,
    ) -> None:
        self.database_url = database_url
        self.settings = read_settings(
            database_url=database_url,
            broker_url="redis://unused",
            secret_key=Fernet.generate_key().decode(),
            data_dir=directory,
            public_url="https://hooks.example.org",
        )
        self.runtime = Runtime(self.settings, "test")
        self.runtime.__dict__["publisher"] = Bells()
        self.spool = Spool(directory / "spool", spool_bytes)
        self.conninfo = self.runtime.conninfo
        self._body_seconds, self._write_seconds = body_seconds, write_seconds
        with self.runtime.begin() as tx:
            pipeline = Pipeline(tx, self.runtime.sealer)
            self.channels = {code: pipeline.channel(code) for code in ("whatsapp_cloud", "custom", "telegram")}
            self.workspace_id = pipeline.workspace_id

    # The server

    def start(self) -> None:
        """Start serving, and return when the port answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            else:
                return

    async def _serve(self) -> None:
        self.intake = Intake(self.conninfo, self.spool, Bells(), write_seconds=self._write_seconds)
        await self.intake.start()
        application = Webhooks(self.intake, Endpoints(self._find), self.settings.public_url, self._body_seconds)
        self._server = uvicorn.Server(
            uvicorn.Config(application, **server_options(port=self.port, lifespan="off", log_level="critical"))
        )
        await self._server.serve()
        await self.intake.stop()

    def _find(self, _kind: str, name: str) -> list[Endpoint]:
        with self.runtime.begin() as tx:
            found = find_channel_endpoint(tx, self.runtime.sealer, int(name))
        return [] if found is None else [found]

    def stop(self) -> None:
        """Stop as on SIGTERM."""
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    # Its clients

    def call(
        self, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            # A server that refuses a body before its end hangs up on the rest of it.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
        finally:
            connection.close()

    def whatsapp(self, body: object, secret: str = "app-secret") -> Reply:
        request = signed(body, {"app_secret": secret})
        return self.call(f"/webhooks/{self.channels['whatsapp_cloud']}", request.body, request.headers)

    def custom(self, body: object, token: str = "custom-token") -> Reply:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        return self.call(f"/webhooks/{self.channels['custom']}", builders.encode(body), headers)

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            yield client

    def head(self, length: str) -> bytes:
        path = f"/webhooks/{self.channels['whatsapp_cloud']}"
        return f"POST {path} HTTP/1.1\r\nhost: edge\r\n{length}\r\n\r\n".encode()

    # Its database

    def scalar(self, statement: str) -> Any:
        with self.runtime.begin() as tx:
            return tx.execute(text(statement)).scalar()

    def waiting(self) -> int:
        """Return how many requests wait in the database."""
        return int(self.scalar("select coalesce(sum(weight), 0) from job where body is not null"))

    def texts(self) -> list[str]:
        """Resolve what waits and return the messages' texts."""
        handling.drain(self.runtime, RESOLVE)
        with self.runtime.begin() as tx:
            return sorted(tx.scalars(text("select text from message")))

    @contextmanager
    def administrator(self) -> Iterator[psycopg.Connection[Any]]:
        url = make_url(self.database_url).set(drivername="postgresql", database="postgres")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            yield connection

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """Keep everybody out of the database meanwhile."""
        name = str(make_url(self.database_url).database)
        with self.administrator() as connection:
            connection.execute(f'alter database "{name}" allow_connections false'.encode())
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            try:
                yield
            finally:
                connection.execute(f'alter database "{name}" allow_connections true'.encode())
                self.runtime.engine.dispose()

    @contextmanager
    def writes_held(self) -> Iterator[None]:
        """Let every insert of a job wait meanwhile."""
        url = make_url(self.database_url).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
            connection.execute("lock table job in exclusive mode")
            yield


MakeEdge = Callable[..., Edge]


@pytest.fixture(scope="module")
def shared_database(make_database: Callable[[], str]) -> str:
    return make_database()


@pytest.fixture
def make_edge(shared_database: str, tmp_path: Path) -> Iterator[MakeEdge]:
    made: list[Edge] = []

    def make(**options: Any) -> Edge:
        edge = Edge(shared_database, tmp_path, **options)
        with edge.runtime.begin() as tx:
            tx.execute(text("delete from job"))
            tx.execute(text("truncate message cascade"))
        edge.start()
        made.append(edge)
        return edge

    yield make
    for edge in made:
        with suppress(RuntimeError):
            edge.stop()
        edge.runtime.engine.dispose()


@pytest.fixture
def edge(make_edge: MakeEdge) -> Edge:
    return make_edge()


def wrote(message_id: str = "m1", words: str = "hello") -> builders.JSON:
    return builders.whatsapp_text(ADA, message_id, words)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.02)


def submit_behind_one(edge: Edge, pool: ThreadPoolExecutor, count: int) -> list[Future[Reply]]:
    """Send one request, whose write is held, and so many others, which wait for it; return when all are there."""
    first = pool.submit(edge.whatsapp, wrote("first"))
    until(lambda: edge.intake.figures.groups == 1)
    others = [pool.submit(edge.whatsapp, wrote(f"m{number}")) for number in range(count)]
    until(lambda: len(edge.intake._waiting) == count)
    return [first, *others]


# What is taken


def test_T75_a_proved_request_is_durable_when_it_is_answered(edge: Edge) -> None:
    assert edge.whatsapp(wrote()).status == 200
    assert edge.waiting() == 1
    assert edge.scalar(f"select sum(count) from tally where workspace_id = {edge.workspace_id}") == 1
    assert edge.texts() == ["hello"]


def test_a_proved_request_that_cannot_be_read_is_taken_too(edge: Edge) -> None:
    assert edge.whatsapp({"object": "something new"}).status == 200
    assert edge.waiting() == 1


def test_credentials_end_at_the_edge(edge: Edge) -> None:
    assert edge.custom(builders.envelope_text("person-1", "m1")).status == 200
    assert edge.scalar("select position('custom-token'::bytea in body) from job") == 0


def test_requests_that_come_while_one_is_written_share_a_commit(edge: Edge) -> None:
    with ThreadPoolExecutor(20) as pool:
        with edge.writes_held():
            answers = submit_behind_one(edge, pool, 19)
        assert {answer.result().status for answer in answers} == {200}
    until(lambda: edge.waiting() == 20)
    assert edge.scalar("select array_agg(weight order by id) from job") == [1, 19]


def test_an_idle_edge_writes_each_request_at_once(edge: Edge) -> None:
    for number in range(5):
        edge.whatsapp(wrote(f"m{number}"))
    assert edge.intake.figures.groups == 5


def test_a_large_body_never_shares_a_commit(edge: Edge) -> None:
    bodies = [wrote("small 1"), wrote("large", "x" * 300_000), wrote("small 2")]
    with ThreadPoolExecutor(4) as pool:
        with edge.writes_held():
            answers = [pool.submit(edge.whatsapp, wrote("first"))]
            until(lambda: edge.intake.figures.groups == 1)
            for body in bodies:
                waiting = len(edge.intake._waiting)
                answers.append(pool.submit(edge.whatsapp, body))
                until(lambda waiting=waiting: len(edge.intake._waiting) > waiting)
        assert {answer.result().status for answer in answers} == {200}
    assert edge.scalar("select array_agg(weight order by id) from job") == [1, 1, 1, 1]


def test_T33_twenty_deliveries_of_one_id_at_once_are_twenty_successes_and_one_row(edge: Edge) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(edge.whatsapp, [wrote()] * 20))
    assert [answer.status for answer in answers] == [200] * 20
    assert edge.texts() == ["hello"]


# What is refused


@pytest.mark.parametrize("secret", ["wrong", "", "app-secret "])
def test_T61_a_badly_signed_request_is_refused_and_leaves_nothing(edge: Edge, secret: str) -> None:
    assert edge.whatsapp(wrote(), secret=secret).status == 401
    assert edge.waiting() == 0


def test_T61_a_request_without_signature_is_refused(edge: Edge) -> None:
    path = f"/webhooks/{edge.channels['whatsapp_cloud']}"
    assert edge.call(path, builders.encode(wrote())).status == 401
    assert edge.waiting() == 0


def test_T61_a_signature_over_other_bytes_is_refused(edge: Edge) -> None:
    request = signed(wrote(), {"app_secret": "app-secret"})
    path = f"/webhooks/{edge.channels['whatsapp_cloud']}"
    assert edge.call(path, request.body.replace(b"hello", b"hullo"), request.headers).status == 401


def test_T61_a_channel_without_a_secret_takes_nothing(edge: Edge) -> None:
    with edge.runtime.begin() as tx:
        tx.execute(text("update channel set secrets = null where id = :id"), {"id": edge.channels["whatsapp_cloud"]})
    assert edge.whatsapp(wrote()).status == 401
    assert edge.waiting() == 0


@pytest.mark.parametrize("path", ["/webhooks/999999999", "/webhooks/abc", "/webhooks/", "/webhooks/1' or 1=1"])
def test_an_unknown_channel_is_404(edge: Edge, path: str) -> None:
    answer = edge.call(path.replace(" ", "%20"), b"{}")
    assert (answer.status, json.loads(answer.body)["error"]) == (404, "unknown_channel")


def test_B70_a_body_of_our_own_format_with_a_wrong_shape_is_400_and_names_the_field(edge: Edge) -> None:
    answer = edge.custom({"v": 1, "events": [{"type": "message"}]})
    assert (answer.status, json.loads(answer.body)["message"][:12]) == (400, "events[0].id")
    assert edge.waiting() == 0


def test_a_method_that_nobody_uses_is_405(edge: Edge) -> None:
    assert edge.call(f"/webhooks/{edge.channels['whatsapp_cloud']}", method="PUT").status == 405


def test_the_providers_set_up_call_is_answered_with_its_challenge(edge: Edge) -> None:
    path = f"/webhooks/{edge.channels['whatsapp_cloud']}?hub.mode=subscribe&hub.challenge=4711&hub.verify_token="
    answer = edge.call(path + "verify-me", method="GET")
    assert (answer.status, answer.body) == (200, b"4711")
    assert edge.call(path + "wrong", method="GET").status == 403
    assert edge.waiting() == 0


# Size and time


def test_M8_a_body_over_the_limit_is_413_before_it_is_read(edge: Edge) -> None:
    with edge.connection() as client:
        client.sendall(edge.head(f"content-length: {100 * 1024**2}"))
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_M8_a_body_without_a_declared_length_is_413_as_soon_as_it_is_too_long(edge: Edge) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with edge.connection() as client:
        client.sendall(edge.head("transfer-encoding: chunked"))
        with suppress(ConnectionError):
            for _ in range(80):
                client.sendall(chunk)
        assert client.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("length", [0, 1], ids=["one byte under", "at the limit"])
def test_M8_a_body_up_to_the_limit_is_read(edge: Edge, length: int) -> None:
    # Proved or not shows that it was read to its end.
    body = b"x" * (3 * 1024**2 - 1 + length)
    assert edge.call(f"/webhooks/{edge.channels['whatsapp_cloud']}", body).status == 401
    assert edge.call(f"/webhooks/{edge.channels['whatsapp_cloud']}", body + b"xx").status == 413


def test_M8_a_body_that_never_comes_is_408(make_edge: MakeEdge) -> None:
    edge = make_edge(body_seconds=0.3)
    with edge.connection() as client:
        client.sendall(edge.head("content-length: 100"))
        assert client.recv(100).startswith(b"HTTP/1.1 408")


def test_M8_a_body_that_dribbles_in_is_408(make_edge: MakeEdge) -> None:
    edge = make_edge(body_seconds=0.3)
    with edge.connection() as client:
        client.sendall(edge.head("content-length: 100"))
        with suppress(ConnectionError):
            for _ in range(10):
                client.sendall(b"x")
                time.sleep(0.05)
        assert client.recv(100).startswith(b"HTTP/1.1 408")


def test_P8_large_bodies_share_what_memory_there_is_and_small_ones_always_fit(
    make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "LARGE_BODIES_BYTES", 1024**2)
    edge = make_edge()
    path, large = f"/webhooks/{edge.channels['whatsapp_cloud']}", b"x" * 1024**2
    with edge.connection() as holding:
        # All but its last byte: it takes three quarters of the room, beside what every body has for nothing.
        holding.sendall(edge.head(f"content-length: {len(large)}") + large[:-1])
        until(lambda: edge.call(path, large).status == 503)
        assert edge.call(path, large).headers["retry-after"] == "5"
        assert edge.call(path, b"x" * 256 * 1024).status == 401
        assert edge.whatsapp(wrote()).status == 200
    # Whoever hangs up gives back what it held.
    until(lambda: edge.call(path, large).status == 401)


def test_P8_nobody_waits_for_the_proof_of_a_large_body(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    proving, is_over = threading.Event(), threading.Event()

    def prove_slowly(adapter: Adapter, hook: Webhook) -> None:
        if len(hook.body) > 256 * 1024:
            proving.set()
            assert is_over.wait(20)
        prove(adapter, hook)

    monkeypatch.setattr(webhooks, "prove", prove_slowly)
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(edge.call, f"/webhooks/{edge.channels['whatsapp_cloud']}", b"x" * 300_000)
        assert proving.wait(10)
        assert edge.whatsapp(wrote()).status == 200
        is_over.set()
        assert large.result().status == 401


# Clients that hang up


def test_a_client_that_hangs_up_neither_cancels_the_write_nor_repeats_it(edge: Edge) -> None:
    request = signed(wrote("m1", "hung up"), {"app_secret": "app-secret"})
    proof = "".join(f"\r\n{name}: {value}" for name, value in request.headers.items())
    with edge.writes_held():
        with edge.connection() as client:
            client.sendall(edge.head(f"content-length: {len(request.body)}{proof}") + request.body)
            until(lambda: edge.intake.figures.groups == 1)
        time.sleep(0.2)
    until(lambda: edge.waiting() == 1)
    assert edge.whatsapp(wrote("m2", "stayed")).status == 200
    assert edge.texts() == ["hung up", "stayed"]
    assert edge.intake.figures.spooled == 0


def test_a_client_that_hangs_up_within_its_body_leaves_nothing(edge: Edge) -> None:
    with edge.connection() as client:
        client.sendall(edge.head("content-length: 1000") + b"half of it")
    assert edge.whatsapp(wrote()).status == 200
    assert edge.waiting() == 1


# A store is away


def test_2_1_while_the_database_is_away_requests_are_spooled_and_taken_and_later_replayed(edge: Edge) -> None:
    assert edge.whatsapp(wrote("before", "before")).status == 200
    with edge.database_away():
        answers = [edge.whatsapp(wrote(f"m{number}", f"away {number}")) for number in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        assert edge.spool.size_bytes() > 0
    until(lambda: edge.waiting() == 6)
    assert edge.spool.size_bytes() == 0
    assert edge.whatsapp(wrote("after", "after")).status == 200
    assert edge.texts() == [*("after", *(f"away {number}" for number in range(5))), "before"]


def test_P8_with_neither_store_the_answer_is_503_and_when_to_come_back(make_edge: MakeEdge) -> None:
    edge = make_edge(spool_bytes=10)
    assert edge.whatsapp(wrote("m1")).status == 200
    with edge.database_away():
        answer = edge.whatsapp(wrote("m2"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    until(lambda: not edge.intake.is_database_away)
    assert edge.whatsapp(wrote("m3")).status == 200
    assert edge.waiting() == 2


def test_P8_a_channel_nobody_can_look_up_is_503_and_not_404(edge: Edge) -> None:
    with edge.database_away():
        assert edge.whatsapp(wrote()).status == 503


def test_D7_a_commit_of_unknown_outcome_is_spooled_as_well_and_stored_once(make_edge: MakeEdge) -> None:
    edge = make_edge(write_seconds=0.5)
    url = make_url(edge.database_url)
    server = Path(str(url.query["host"])) / f".s.PGSQL.{url.query.get('port') or url.port or 5432}"
    with tempfile.TemporaryDirectory() as short_path:
        relay = Relay(Path(short_path), server)
        edge.stop()
        through = make_url(edge.runtime.conninfo).update_query_dict({"host": short_path})
        edge.conninfo = through.render_as_string(hide_password=False)
        edge.start()
        assert edge.whatsapp(wrote("m1", "before")).status == 200
        relay.is_deaf.set()
        # The server commits, and nobody learns of it.
        assert edge.whatsapp(wrote("m2", "unknown")).status == 200
        assert (edge.waiting(), edge.intake.figures.spooled) == (2, 1)
        relay.is_deaf.clear()
        until(lambda: edge.waiting() == 3)
        relay.close()
    assert edge.texts() == ["before", "unknown"]


def test_K1_what_a_stopped_edge_left_in_the_spool_is_replayed_by_the_next(make_edge: MakeEdge) -> None:
    edge = make_edge()
    assert edge.whatsapp(wrote("m1", "before")).status == 200
    with edge.database_away():
        assert edge.whatsapp(wrote("m2", "spooled")).status == 200
        edge.stop()
    assert (edge.waiting(), edge.spool.size_bytes() > 0) == (1, True)
    edge.spool = Spool(edge.spool.directory, 10**8)
    edge.start()
    until(lambda: edge.waiting() == 2)
    assert edge.texts() == ["before", "spooled"]


def test_a_stopping_edge_writes_what_it_has_taken_in(edge: Edge) -> None:
    with ThreadPoolExecutor(10) as pool:
        with edge.writes_held():
            answers = submit_behind_one(edge, pool, 9)
        edge.stop()
        taken = sum(answer.result().status == 200 for answer in answers)
    assert edge.waiting() == taken == 10


def test_T77_an_edge_whose_spool_cannot_be_written_does_not_start(tmp_path: Path) -> None:
    blocked = tmp_path / "in the way"
    blocked.write_text("")
    intake = Intake("host=/nowhere", Spool(blocked / "spool", 10**6), Bells())
    with pytest.raises(BadSetting):
        asyncio.run(intake.start())
