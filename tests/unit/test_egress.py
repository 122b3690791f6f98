"""What is fetched comes from the internet, whatever a URL, a resolver or a redirect says."""

from collections.abc import Iterator
from typing import Any

import httpcore2
import pytest

from ingest.egress import Forbidden, GuardedBackend, Terms, fetch, is_public
from ingest.errors import Transient

PICTURES = Terms({"image/png"}, max_bytes=1000)
PUBLIC, OTHER = "93.184.215.14", "151.101.1.69"


class Outside(httpcore2.NetworkBackend):
    """The internet: gives canned answers, and notes who was connected to under which name."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connected: list[str] = []
        self.streams: list[Stream] = []

    def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore2.NetworkStream:
        self.connected.append(host)
        self.streams.append(Stream(self.answers.pop(0)))
        return self.streams[-1]


class Stream(httpcore2.NetworkStream):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.written = b""
        self.name: str | None = None

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, **_: Any) -> httpcore2.NetworkStream:
        self.name = server_hostname
        return self

    def read(self, max_bytes: int, **_: Any) -> bytes:
        piece, self._answer = self._answer[:max_bytes], self._answer[max_bytes:]
        return piece

    def write(self, buffer: bytes, **_: Any) -> None:
        self.written += buffer

    def close(self) -> None:
        pass

    def get_extra_info(self, _info: str) -> Any:
        return None


def answer(body: bytes = b"\x89PNG", kind: str = "image/png", status: str = "200 OK", more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{more}\r\n"
    )
    return head.encode() + body


def redirect(to: str) -> bytes:
    return answer(b"", status="302 Found", more=f"location: {to}\r\n")


def guarded(outside: Outside, *addresses: str) -> GuardedBackend:
    return GuardedBackend(lambda _host: addresses or [PUBLIC], outside)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200"),
        *("0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "fe80::1%eth0"),
        *(
            "::ffff:10.0.0.1",
            "::ffff:93.184.215.14",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:0:a00:1::",
            "",
            "localhost",
        ),
    ],
)
def test_no_network_of_our_own_is_public(address: str) -> None:
    assert not is_public(address)
    outside = Outside(answer())
    with pytest.raises(Forbidden):
        fetch("https://media.example.com/1", PICTURES, backend=guarded(outside, PUBLIC, address))
    assert outside.connected == []


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_the_address_that_was_judged_is_the_one_connected_to_under_the_hosts_name() -> None:
    outside = Outside(answer(b"one"))
    rebinding: Iterator[list[str]] = iter([[PUBLIC], ["127.0.0.1"], ["169.254.169.254"]])
    found = fetch("https://rebind.example.com/1", PICTURES, backend=GuardedBackend(lambda _: next(rebinding), outside))
    assert (found.status, found.body) == (200, b"one")
    assert outside.connected == [PUBLIC]
    assert outside.streams[0].name == "rebind.example.com"


def test_a_name_that_turns_to_us_between_two_requests_is_refused() -> None:
    outside = Outside(redirect("https://rebind.example.com/2"), answer())
    rebinding: Iterator[list[str]] = iter([[PUBLIC], ["127.0.0.1"]])
    with pytest.raises(Forbidden):
        fetch("https://rebind.example.com/1", PICTURES, backend=GuardedBackend(lambda _: next(rebinding), outside))
    assert outside.connected == [PUBLIC]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://x/",
            "//example.com/",
            "",
            "https://",
        ),
        *("https://user:pass@example.com/", "https://example.com:8443/", "https://example.com:x/", "https://[::1/"),
    ],
)
def test_only_plain_https_is_fetched_also_after_a_redirect(url: str) -> None:
    outside = Outside(answer(), answer())
    if url:
        with pytest.raises(Forbidden):
            fetch(url, PICTURES, backend=guarded(outside))
        assert outside.connected == []
    if url.startswith(("http:", "ftp:", "file:", "gopher:", "https://user", "https://example.com:8")):
        outside = Outside(redirect(url), answer())
        with pytest.raises(Forbidden):
            fetch("https://media.example.com/1", PICTURES, backend=guarded(outside))
        assert outside.connected == [PUBLIC]


def test_three_redirects_are_followed_and_a_fourth_is_not() -> None:
    def chain(length: int) -> Outside:
        return Outside(*(redirect(f"/{number}") for number in range(length)), answer(b"end"))

    outside = chain(3)
    assert fetch("https://media.example.com/", PICTURES, backend=guarded(outside)).body == b"end"
    with pytest.raises(Forbidden, match="too often"):
        fetch("https://media.example.com/", PICTURES, backend=guarded(chain(4)))


def test_a_key_is_told_to_its_own_host_only() -> None:
    outside = Outside(redirect("https://elsewhere.example.net/x"), answer())
    fetch("https://media.example.com/", PICTURES, {"Authorization": "Bearer key"}, guarded(outside))
    assert b"Bearer key" in outside.streams[0].written
    assert b"Bearer key" not in outside.streams[1].written


def test_a_redirect_off_the_providers_hosts_is_refused() -> None:
    terms = Terms({"image/png"}, 1000, hosts={"media.example.com"})
    with pytest.raises(Forbidden, match="provider's"):
        fetch("https://media.example.com/", terms, backend=guarded(Outside(redirect("https://evil.example.net/"))))


@pytest.mark.parametrize(
    "given",
    [
        answer(b"x" * 1001),
        answer(b"<svg/>", kind="image/svg+xml"),
        answer(b"", kind=""),
        answer(more="content-encoding: gzip\r\n"),
    ],
)
def test_what_is_too_large_of_another_kind_or_compressed_is_refused(given: bytes) -> None:
    with pytest.raises(Forbidden):
        fetch("https://media.example.com/", PICTURES, backend=guarded(Outside(given)))


def test_a_body_without_a_length_is_bounded_too() -> None:
    endless = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n" + b"x" * 100_000
    with pytest.raises(Forbidden, match="larger"):
        fetch("https://media.example.com/", PICTURES, backend=guarded(Outside(endless)))


def test_an_answer_that_breaks_off_may_go_better_later() -> None:
    with pytest.raises(Transient):
        fetch("https://media.example.com/", PICTURES, backend=guarded(Outside(answer(b"x" * 50)[:-20])))


def test_socket_files_are_never_asked() -> None:
    with pytest.raises(Forbidden):
        GuardedBackend().connect_unix_socket("/var/run/docker.sock")
