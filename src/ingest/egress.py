"""The only door out: fetch what a provider's URL points to, and nothing on our side of the wall.

A URL in somebody's message may name a machine of ours. So: https on port 443 only, the name is resolved once and the very
address that was judged is connected to (the certificate is still checked for the name), every redirect is judged anew, and
size, kind and time are bounded. No module but this one may open a connection to the outside.

Source: OWASP, "Server-Side Request Forgery Prevention"; IANA's registries of special-purpose addresses, as `ipaddress` has
them.
"""

import ipaddress
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpcore2

from ingest.errors import Permanent, Transient

MAX_REDIRECTS = 3
HTTPS_PORT = 443
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Addresses that carry another one inside, by which a private one could be meant.
CARRIERS = tuple(ipaddress.IPv6Network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))

Resolve = Callable[[str], Iterable[str]]


class Forbidden(Permanent):
    """The URL, or what it leads to, is not for us to fetch."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be fetched: content types without parameters, at most so many bytes, within so many seconds altogether.

    `hosts`, where given, are the only ones that may be asked, redirects included.
    """

    content_types: Collection[str]
    max_bytes: int
    seconds: float = 20.0
    hosts: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came back."""

    status: int
    content_type: str
    body: bytes


def resolve(host: str) -> list[str]:
    """Return the host's addresses. Raises Transient when nobody can tell."""
    try:
        found = socket.getaddrinfo(host, HTTPS_PORT, type=socket.SOCK_STREAM)
    except OSError as unknown:
        raise Transient("the host's address cannot be looked up") from unknown
    return [str(each[4][0]) for each in found]


def is_public(address: str) -> bool:
    """Return whether an address is a machine on the internet, and no network's, machine's or cloud's own."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        # With a zone, for instance.
        return False
    if isinstance(found, ipaddress.IPv6Address) and (
        found.ipv4_mapped is not None or any(found in carrier for carrier in CARRIERS)
    ):
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


class GuardedBackend(httpcore2.NetworkBackend):
    """Connects to public addresses only: each name is resolved here, once a connection, and by nobody after the check."""

    def __init__(self, look_up: Resolve = resolve, inner: httpcore2.NetworkBackend | None = None) -> None:
        self._look_up = look_up
        self._inner = inner or httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Return a connection. Raises Forbidden when any of the host's addresses is not public."""
        addresses = list(self._look_up(host))
        if port != HTTPS_PORT or not addresses or not all(is_public(each) for each in addresses):
            raise Forbidden("the host is not a public one")
        return self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Refuse: a socket file is a server of ours."""
        raise Forbidden("socket files are not fetched from")


def fetch(
    url: str, terms: Terms, headers: Mapping[str, str] | None = None, backend: httpcore2.NetworkBackend | None = None
) -> Fetched:
    """Return what is at the URL, after at most three redirects. `headers` go to the first host alone: they may be a key.

    Raises Forbidden for what must not be fetched, Transient for what may go better later.
    """
    ends_at = time.monotonic() + terms.seconds
    first = _judge(url, terms)
    with httpcore2.ConnectionPool(network_backend=backend or GuardedBackend(), http2=False, retries=0) as pool:
        for _ in range(MAX_REDIRECTS + 1):
            host = _judge(url, terms)
            answer, location = _ask(pool, url, headers if host == first else None, terms, ends_at)
            if location is None:
                return answer
            url = urljoin(url, location)
    raise Forbidden("it redirects too often")


def _judge(url: str, terms: Terms) -> str:
    """Return the URL's host. Raises Forbidden for a URL that must not be asked."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Forbidden("the URL cannot be read") from None
    if parts.scheme != "https" or not host or parts.username is not None or port not in {None, HTTPS_PORT}:
        raise Forbidden("only https URLs without user and port are fetched")
    if terms.hosts is not None and host not in terms.hosts:
        raise Forbidden("the host is not one of the provider's")
    return host


def _ask(
    pool: httpcore2.ConnectionPool, url: str, headers: Mapping[str, str] | None, terms: Terms, ends_at: float
) -> tuple[Fetched, str | None]:
    left = max(0.1, ends_at - time.monotonic())
    timeouts = {name: min(left, 5.0) for name in ("connect", "read", "write", "pool")}
    # Compressed bodies are not asked for and not unpacked.
    given = {"Accept-Encoding": "identity", **(headers or {})}
    try:
        with pool.stream("GET", url, headers=list(given.items()), extensions={"timeout": timeouts}) as answer:
            found = {name.lower(): value.decode("latin-1") for name, value in answer.headers}
            if answer.status in REDIRECTS and b"location" in found:
                return Fetched(answer.status, "", b""), found[b"location"]
            return _read(answer, found, terms, ends_at), None
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as away:
        raise Transient(f"it could not be fetched: {type(away).__name__}") from away


def _read(answer: httpcore2.Response, found: Mapping[bytes, str], terms: Terms, ends_at: float) -> Fetched:
    content_type = found.get(b"content-type", "").partition(";")[0].strip().lower()
    if answer.status == 200 and content_type not in terms.content_types:
        raise Forbidden("it is not of a kind that is wanted")
    if found.get(b"content-encoding", "identity") != "identity":
        raise Forbidden("it is compressed")
    pieces: list[bytes] = []
    size = 0
    for piece in answer.iter_stream():
        size += len(piece)
        if size > terms.max_bytes:
            raise Forbidden("it is larger than is wanted")
        if time.monotonic() > ends_at:
            raise Transient("it took too long")
        pieces.append(piece)
    return Fetched(answer.status, content_type, b"".join(pieces))
