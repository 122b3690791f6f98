"""The head of a request is bounded in bytes and in time, and so is what follows its answer, on a real socket."""

# ruff: noqa: N802 - the names carry the promises

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from ingest.web import http
from ingest.web.asgi import Receive, Scope, Send
from ingest.web.http import server_options

REQUEST = b"GET / HTTP/1.1\r\nhost: edge\r\n\r\n"


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(http, "LEFTOVER_SECONDS", 0.4)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(answer, **server_options(lifespan="off", log_level="critical")))
        serving = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        serving.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        serving.join(10)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def answered(client: socket.socket) -> bool:
    """Return whether a whole answer came, and not more."""
    heard = b""
    while not heard.endswith(b"ok"):
        heard += client.recv(4096)
    return heard.startswith(b"HTTP/1.1 200 OK")


def hung_up(client: socket.socket) -> bool:
    """Return whether the server closed the connection without a word."""
    try:
        return client.recv(4096) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("begun", [b"", b"PO", b"POST / HTTP/1.1\r\nhost: edge\r\nx-slow: 1"])
def test_P8_a_head_that_does_not_end_is_hung_up_on(port: int, begun: bytes) -> None:
    with connect(port) as client:
        client.sendall(begun)
        started = time.monotonic()
        assert hung_up(client)
        assert 0.3 < time.monotonic() - started < 3


def test_P8_a_head_that_comes_byte_by_byte_is_hung_up_on(port: int) -> None:
    with connect(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nx-slow: ")
        client.settimeout(0.05)
        for _ in range(60):
            try:
                client.sendall(b"a")
                heard = client.recv(4096)
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                heard = b""
            assert heard == b""
            return
        pytest.fail("still open after three seconds")


def test_P8_the_second_head_of_a_connection_is_bounded_too(port: int) -> None:
    with connect(port) as client:
        client.sendall(REQUEST)
        assert answered(client)
        client.sendall(REQUEST[:-2])
        assert hung_up(client)


def test_P8_a_head_without_end_is_refused_at_64_KiB(port: int) -> None:
    with connect(port) as client:
        client.sendall(REQUEST[:-2])
        heard = b""
        try:
            for number in range(2000):
                client.sendall(b"x-%d: " % number + b"a" * 1000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            heard = client.recv(4096)
        except ConnectionResetError:
            heard = b" 431 "
        assert b" 431 " in heard


def test_a_head_in_pieces_is_answered_and_the_connection_lives_on(port: int) -> None:
    with connect(port) as client:
        for _ in range(2):
            for piece in (REQUEST[:9], REQUEST[9:20], REQUEST[20:]):
                client.sendall(piece)
                time.sleep(0.1)
            assert answered(client)
        time.sleep(0.8)
        client.sendall(REQUEST)
        assert answered(client)


def leftovers_end_after(client: socket.socket, piece: bytes) -> float:
    """Go on sending after the answer, and return the seconds until the server has hung up."""
    started = time.monotonic()
    client.settimeout(0.02)
    while time.monotonic() - started < 5:
        try:
            client.sendall(piece)
            if client.recv(4096) == b"":
                break
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            break
    return time.monotonic() - started


@pytest.mark.parametrize("framing", ["content-length: 1000000000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("size", [1, 65536], ids=["byte by byte", "as fast as it can"])
def test_P8_whoever_goes_on_with_a_body_after_its_answer_is_hung_up_on(port: int, framing: str, size: int) -> None:
    piece = b"x" * size if "length" in framing else b"%x\r\n" % size + b"x" * size + b"\r\n"
    with connect(port) as client:
        client.sendall(f"POST / HTTP/1.1\r\nhost: edge\r\n{framing}\r\n\r\n".encode() + piece)
        assert answered(client)
        assert 0.2 < leftovers_end_after(client, piece) < 3


def test_a_body_that_ends_soon_after_its_answer_costs_no_connection(port: int) -> None:
    with connect(port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: edge\r\ncontent-length: 10\r\n\r\nhalf ")
        assert answered(client)
        client.sendall(b"a day")
        time.sleep(0.8)
        client.sendall(REQUEST)
        assert answered(client)
