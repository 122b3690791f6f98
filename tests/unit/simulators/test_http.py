"""The load generator's HTTP: what it sends is a request, and it waits for the whole answer."""

import pytest

from ingest.simulators.base import SimulatedRequest
from ingest.simulators.http import Origin, complete_status, raw_request


def test_request_is_written_out_in_full() -> None:
    request = SimulatedRequest(b'{"a":1}', {"x-signature": "s"})
    assert raw_request("http://127.0.0.1:8080/webhooks/7", request) == (
        b"POST /webhooks/7 HTTP/1.1\r\nhost: 127.0.0.1:8080\r\ncontent-length: 7\r\nx-signature: s\r\n\r\n" + b'{"a":1}'
    )


@pytest.mark.parametrize("query", ["a=1&b=2", "?a=1&b=2"])
def test_query_is_appended(query: str) -> None:
    raw = raw_request("http://h/webhooks/7", SimulatedRequest(b"", {}, "GET", query))
    assert raw.startswith(b"GET /webhooks/7?a=1&b=2 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://h:81/x", Origin("h", 81, tls=False)),
        ("http://h/x", Origin("h", 80, tls=False)),
        ("https://h/x", Origin("h", 443, tls=True)),
    ],
)
def test_origin_of_a_url(url: str, origin: Origin) -> None:
    assert Origin.of(url) == origin


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\ncontent-length:0\r\n\r\n", 503),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
    ],
)
def test_whole_answer_gives_its_status_and_no_piece_of_it_does(answer: bytes, status: int) -> None:
    assert complete_status(answer) == status
    assert [complete_status(answer[:length]) for length in range(len(answer))] == [None] * len(answer)
