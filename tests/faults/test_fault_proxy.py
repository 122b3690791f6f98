"""The fault proxy does to a connection what each control says, and nothing else. Against a plain echo server."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.faults.fault_proxy import FaultProxy


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.server.received += data  # type: ignore[attr-defined]
                self.request.sendall(data)
        except OSError:
            return


class EchoServer(socketserver.ThreadingTCPServer):
    """An echo server on a port of its own, which remembers everything it got."""

    daemon_threads = True
    received = b""


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.server_address[1]) as proxy:
        yield proxy


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=2)


def ask(connection: socket.socket, data: bytes) -> bytes:
    """Return what comes back for the data."""
    connection.sendall(data)
    answer = b""
    while len(answer) < len(data) and (more := connection.recv(65536)):
        answer += more
    return answer


def says_nothing(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(2)
    return False


def test_without_faults_everything_passes_unchanged_and_hanging_up_does_too(proxy: FaultProxy) -> None:
    body = bytes(range(256)) * 2000
    with closing(connect(proxy)) as connection:
        sender = threading.Thread(target=connection.sendall, args=(body,))
        sender.start()
        answer = b""
        while len(answer) < len(body):
            answer += connection.recv(65536)
        sender.join()
        assert answer == body
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_latency_delays_each_way_and_a_rate_limits_the_bytes(proxy: FaultProxy) -> None:
    with closing(connect(proxy)) as connection:
        ask(connection, b"warm")
        proxy.latency_seconds = 0.1
        started = time.monotonic()
        assert ask(connection, b"x") == b"x"
        assert 0.2 <= time.monotonic() - started < 0.5
        proxy.heal()
        proxy.bytes_per_second = 50_000
        started = time.monotonic()
        ask(connection, b"x" * 20_000)
        assert 0.4 <= time.monotonic() - started < 1.5


def test_a_held_direction_delivers_when_it_is_healed(proxy: FaultProxy, server: EchoServer) -> None:
    with closing(connect(proxy)) as connection:
        proxy.hold(to_server=False)
        connection.sendall(b"one")
        assert says_nothing(connection)
        assert server.received == b"one"
        proxy.hold()
        connection.sendall(b"two")
        assert says_nothing(connection)
        assert server.received == b"one"
        proxy.heal()
        assert connection.recv(3) == b"one"
        assert connection.recv(3) == b"two"


def test_a_connection_that_lost_bytes_in_a_black_hole_stays_dead_and_new_ones_work(
    proxy: FaultProxy, server: EchoServer
) -> None:
    with closing(connect(proxy)) as old, closing(connect(proxy)) as idle:
        ask(old, b"a")
        ask(idle, b"b")
        proxy.blackhole()
        old.sendall(b"gone")
        assert says_nothing(old)
        proxy.heal()
        old.sendall(b"still gone")
        assert says_nothing(old)
        assert ask(idle, b"c") == b"c"
        with closing(connect(proxy)) as new:
            assert ask(new, b"d") == b"d"
    assert server.received == b"abcd"


def test_half_open_connections_hear_nothing_and_new_ones_work(proxy: FaultProxy) -> None:
    with closing(connect(proxy)) as old:
        ask(old, b"a")
        proxy.half_open()
        old.sendall(b"anybody there?")
        assert says_nothing(old)
        with closing(connect(proxy)) as new:
            assert ask(new, b"b") == b"b"


def test_reset_ends_every_connection_with_rst(proxy: FaultProxy) -> None:
    with closing(connect(proxy)) as one, closing(connect(proxy)) as other:
        ask(one, b"a")
        ask(other, b"a")
        assert proxy.reset() == 2
        for each in (one, other):
            with pytest.raises(ConnectionResetError):
                each.recv(1)


def test_a_connection_is_cut_after_so_many_bytes_as_often_as_told(proxy: FaultProxy) -> None:
    proxy.cut_after(10, times=1)
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"12345") == b"12345"
        connection.sendall(b"6789012")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"x" * 20) == b"x" * 20
    assert proxy.cut == 1


def test_only_the_reply_that_matches_is_dropped_though_the_server_did_the_work(
    proxy: FaultProxy, server: EchoServer
) -> None:
    proxy.drop_reply(b"COMMIT")
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"SELECT") == b"SELECT"
        connection.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"COMMIT") == b"COMMIT"
    assert (server.received, proxy.dropped) == (b"SELECTCOMMITCOMMIT", 1)


def test_a_request_is_noticed_once_and_only_after_it_was_passed_on(proxy: FaultProxy, server: EchoServer) -> None:
    noticed = threading.Event()
    proxy.on_request(b"HDEL", noticed.set)
    with closing(connect(proxy)) as connection:
        ask(connection, b"HGET")
        assert not noticed.is_set()
        connection.sendall(b"HD")
        time.sleep(0.05)
        connection.sendall(b"EL")
        assert noticed.wait(2)


def test_a_reply_is_noticed_and_a_partition_that_begins_with_it_lets_it_through(proxy: FaultProxy) -> None:
    proxy.on_reply(b"claimed", proxy.hold)
    with closing(connect(proxy)) as connection:
        ask(connection, b"claim")
        assert not proxy.is_holding
        assert ask(connection, b"claimed") == b"claimed"
        time.sleep(0.05)
        assert proxy.is_holding
        connection.sendall(b"more")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
