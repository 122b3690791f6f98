"""A captured HTTP/1.1 request, as bytes, taken apart and put together: method, target, headers and body.

For requests kept in files: recorded fixtures, captures of a proxy, raw bytes of a dead letter. Live traffic never
comes this way. Source: RFC 9112. Line ends may be LF alone, because editors save them so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ingest.errors import Rejected

REQUEST_LINE = re.compile(r"([A-Z]+) (\S+) HTTP/1\.[01]")
HEADER_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class BadRequest(Rejected):
    """The bytes are no HTTP/1.1 request. The text says which part is wrong."""


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request's parts. Header names are lower-case, repeated ones joined with a comma; `body` is unchunked."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    def url(self, public_url: str = "") -> str:
        """Return the URL that was called: https, the Host header and the target.

        A `public_url` with a path stands for the whole URL, to which the target's query is added; without a path it
        stands for scheme and host. Raises BadRequest where neither it nor a Host header is there.
        """
        if self.target.startswith(("http://", "https://")):
            return self.target
        query = self.target.partition("?")[2]
        if public_url and urlsplit(public_url).path.strip("/"):
            return f"{public_url}?{query}" if query else public_url
        base = public_url.rstrip("/") or f"https://{self._host()}"
        return base + self.target

    def _host(self) -> str:
        host = self.headers.get("host", "")
        if not host:
            raise BadRequest("request has no Host header: set public_url")
        return host


def read_request(raw: bytes) -> RawRequest:
    """Return the request's parts. Raises BadRequest naming what is wrong.

    Bytes past Content-Length (an editor's last newline) are dropped; a body shorter than it is an error.
    """
    head = END_OF_HEAD.search(raw)
    if head is None:
        raise BadRequest("no empty line after the headers")
    lines = raw[: head.start()].decode("latin-1").replace("\r\n", "\n").split("\n")
    start = REQUEST_LINE.fullmatch(lines[0])
    if start is None:
        raise BadRequest("first line is not METHOD TARGET HTTP/1.1")
    headers = _read_headers(lines[1:])
    return RawRequest(start[1], start[2], headers, _read_body(headers, raw[head.end() :]))


def write_request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the request as it goes over the wire, with Host and Content-Length; `read_request` reads it back."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name.title()}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + body


def _read_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        field = HEADER_LINE.fullmatch(line)
        if field is None:
            raise BadRequest(f"line {number} is not a header")
        name = field[1].lower()
        headers[name] = f"{headers[name]}, {field[2]}" if name in headers else field[2]
    return headers


def _read_body(headers: Mapping[str, str], rest: bytes) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _unchunk(rest)
    if "content-length" not in headers:
        return rest
    given = headers["content-length"]
    if not (given.isascii() and given.isdigit()):
        raise BadRequest("Content-Length is not a number")
    length = int(given)
    if len(rest) < length:
        raise BadRequest(f"body has {len(rest)} bytes, Content-Length says {length}")
    return rest[:length]


def _unchunk(rest: bytes) -> bytes:
    body = bytearray()
    while True:
        line, _, rest = rest.partition(b"\n")
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            raise BadRequest("chunked body has a chunk without a size") from None
        if size <= 0:
            return bytes(body)
        if len(rest) < size:
            raise BadRequest("chunked body ends early")
        body += rest[:size]
        rest = rest[size:].removeprefix(b"\r").removeprefix(b"\n")
