"""A digest has one spelling: another text that happens to stand for the same bytes is no proof."""

import base64

import pytest

from ingest.channels.base import unbase64, unhex
from ingest.channels.signed_tokens import _decoded

DIGEST = bytes(range(32))


def test_the_usual_spelling_is_read() -> None:
    assert unbase64(base64.b64encode(DIGEST).decode()) == DIGEST
    assert unhex(DIGEST.hex()) == unhex(DIGEST.hex().upper()) == DIGEST
    assert _decoded(base64.urlsafe_b64encode(DIGEST).decode().rstrip("=")) == DIGEST


def last_changed(text: str) -> str:
    """Return the text with the last bit of its last character set, which stands for nothing."""
    return text[:-1] + chr(ord(text[-1]) + 1)


@pytest.mark.parametrize(
    "other",
    [
        last_changed(base64.b64encode(DIGEST).decode()[:-1]) + "=",
        base64.b64encode(DIGEST).decode().rstrip("="),
        base64.b64encode(DIGEST).decode() + "\n",
        "ä" * 44,
        "",
    ],
)
def test_t61_another_spelling_of_base64_is_none(other: str) -> None:
    assert unbase64(other) == b""


@pytest.mark.parametrize("other", [DIGEST.hex(" "), DIGEST.hex() + "\n", "ä" * 64, ""])
def test_t61_another_spelling_of_hex_is_none(other: str) -> None:
    assert unhex(other) == b""


@pytest.mark.parametrize("strip", [True, False])
def test_t61_another_spelling_of_a_tokens_part_is_none(strip: bool) -> None:
    part = base64.urlsafe_b64encode(DIGEST).decode()
    assert _decoded(last_changed(part.rstrip("=")) if strip else part) == b""
