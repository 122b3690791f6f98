"""Every target holds for the recorded requests and for damaged ones. `make faults` lets coverage lead; here it is chance."""

import random

import pytest

from tests.fuzz.targets import Target, targets

ROUNDS = 120
ODD = [
    *(
        b"\0",
        b"\\u0000",
        b"\\ud800",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"%00",
        b"%",
        b"=?",
        b"\r\n",
        b"\r\n\r\n",
    ),
    *(b'"', b"[", b"{", b"<", b"&", b"--", b"NaN", b"1e999", b"9" * 5000, b"[" * 200, b"\xe2\x80\xae", b"<!DOCTYPE a>"),
]


def damaged(chance: random.Random, raw: bytes) -> bytes:
    """Return the bytes with a few places cut out, doubled, overwritten or filled with something odd."""
    body = bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(body))
        end = min(len(body), start + chance.choice([0, 1, 2, 8, 64]))
        piece = chance.choice([b"", chance.choice(ODD), bytes(body[start:end]) * 2, chance.randbytes(end - start)])
        body[start:end] = piece
    return bytes(body)


@pytest.mark.parametrize("target", targets().values(), ids=lambda target: target.name)
def test_what_strangers_send_raises_nothing_but_what_is_declared(target: Target) -> None:
    assert target.seeds
    for seed in target.seeds:
        target(seed)
    chance = random.Random(target.name)
    for _ in range(ROUNDS):
        raw = damaged(chance, chance.choice(target.seeds))
        try:
            target(raw)
        except Exception as found:
            found.add_note(f"input: {raw!r}")
            raise
