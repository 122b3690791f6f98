"""A deleted contact's identifiers are found in raw requests, however those are written, and nobody else's are."""

import base64
import json
from urllib.parse import quote_plus

import pytest

from ingest.domain.traces import Traces

PHONE, EMAIL, VIBER = "+60123456789", "eve.adams@example.com", "aB3/FAKEuser0001=="
TRACES = Traces([PHONE, EMAIL, VIBER, "tel:+60199999999".partition(":")[2], "abc", ""])


@pytest.mark.parametrize(
    "body",
    [
        b'{"from": "60123456789"}',
        b'{"from": "+60123456789"}',
        b'{"from": 60123456789}',
        b"From=whatsapp%3A%2B60123456789&Body=hi",
        b"call me at +60 12-345 6789 please",
        b"call me at 012-345 6789 please",
        b'{"email": "Eve.Adams@Example.COM"}',
        b"sender=eve.adams%40example.com&subject=x",
        b'{"email": "eve.adams\\u0040example.com"}',
        b"From: Eve <eve.adams@example.com>\r\n",
        b"From: =?utf-8?q?Eve?= <eve.adams=40example.com>",
        b'{"id": "' + VIBER.encode() + b'"}',
        quote_plus(VIBER).encode(),
        json.dumps({"raw": base64.b64encode(b"To: shop\r\nFrom: eve.adams@example.com\r\n").decode()}).encode(),
        b"\x93\xc4\x0b60123456789\x00",
    ],
)
def test_a_contact_is_found_in_a_body(body: bytes) -> None:
    assert TRACES.are_in(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"from": "60123456780", "id": "160123456789"}',
        b"From=whatsapp%3A%2B601234567890",
        b"adams@example.com, eve.adams@example.com.my",
        b'{"id": "aB3/OTHERuser0001=="}',
        b"abc",
    ],
)
def test_others_are_not(body: bytes) -> None:
    assert not TRACES.are_in(body)


def test_no_identifier_is_no_trace() -> None:
    assert not Traces(["abc", "", "12"])
    assert not Traces([]).are_in(b"anything at all")


def test_a_text_of_ours_is_searched_as_it_is() -> None:
    assert TRACES.are_in_text("Called EVE.ADAMS@example.com today")
    assert not TRACES.are_in_text("Called somebody else")
