import pytest

from ingest.requests import BadRequest, read_request

HEAD = b"POST /webhooks/1?a=b HTTP/1.1\r\nHost: hooks.example.org\r\nX-One: 1\r\nx-one: 2\r\n"


def test_request_is_taken_apart() -> None:
    request = read_request(HEAD + b"Content-Length: 4\r\n\r\nbody")
    assert (request.method, request.target, request.body) == ("POST", "/webhooks/1?a=b", b"body")
    assert request.headers == {"host": "hooks.example.org", "x-one": "1, 2", "content-length": "4"}


def test_last_newline_of_an_editor_is_no_part_of_the_body() -> None:
    assert read_request(HEAD + b"Content-Length: 4\r\n\r\nbody\n").body == b"body"


def test_line_ends_may_be_newlines_alone() -> None:
    assert read_request(HEAD.replace(b"\r\n", b"\n") + b"\nbody").body == b"body"


def test_body_keeps_its_bytes() -> None:
    assert read_request(HEAD + b"\r\n\xff\x00\r\n\r\nrest").body == b"\xff\x00\r\n\r\nrest"


def test_chunked_body_is_put_together() -> None:
    raw = HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n5;x=y\r\n more\r\n0\r\n\r\n"
    assert read_request(raw).body == b"body more"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "no empty line"),
        (b"hello\r\n\r\n", "first line"),
        (b"POST / SMTP\r\n\r\n", "first line"),
        (b"POST / HTTP/1.1\r\nno header here\r\n\r\n", "line 2"),
        (HEAD + b"Content-Length: ten\r\n\r\n", "Content-Length"),
        (HEAD + b"Content-Length: 9\r\n\r\nbody", "body has 4 bytes, Content-Length says 9"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "without a size"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nbody", "ends early"),
    ],
)
def test_what_is_no_request_is_refused_saying_why(raw: bytes, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        read_request(raw)


@pytest.mark.parametrize(
    ("public_url", "url"),
    [
        ("", "https://hooks.example.org/webhooks/1?a=b"),
        ("https://public.example.org", "https://public.example.org/webhooks/1?a=b"),
        ("https://public.example.org/in/7", "https://public.example.org/in/7?a=b"),
    ],
)
def test_url_is_the_one_that_was_called(public_url: str, url: str) -> None:
    assert read_request(HEAD + b"\r\n").url(public_url) == url


def test_url_needs_a_host() -> None:
    with pytest.raises(BadRequest, match="public_url"):
        read_request(b"POST / HTTP/1.1\r\n\r\n").url()
