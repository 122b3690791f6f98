"""Traces: how a deleted contact's identifiers are found in what is kept as it came: raw requests, files, answers.

Looking for each of ten thousand contacts in each body would take for ever. A body is cut into words once, and each word is
looked up; only where one is a contact's own is the whole identifier compared. Bodies are looked at as they are and with
the usual encodings undone.
"""

import base64
import binascii
import quopri
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

import phonenumbers

# Shorter identifiers would be found everywhere by chance.
SHORTEST_TRACE = 5

_WORDS = re.compile(rb"[\w.+@-]{5,}")
_DIGITS = re.compile(rb"[0-9]{5,}")
_SPACED_NUMBERS = re.compile(rb"[0-9][0-9 ().-]{5,}[0-9]")
_NO_DIGITS = re.compile(rb"\D+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}")
_JSON_ESCAPE = re.compile(rb"\\u([0-9a-fA-F]{4})")


class Traces:
    """The identifiers of a set of contacts, ready to be looked for."""

    def __init__(self, identifiers: Iterable[str]) -> None:
        self._by_word: dict[bytes, list[bytes]] = {}
        for trace in {form for each in identifiers for form in _forms(each)}:
            words = _WORDS.findall(trace)
            if words:
                self._by_word.setdefault(max(words, key=len), []).append(trace)

    def __bool__(self) -> bool:
        return bool(self._by_word)

    def are_in(self, body: bytes) -> bool:
        """Return whether the body names one of the contacts, in any of the encodings that we know of."""
        return any(self._are_in(form) for form in _readings(body))

    def are_in_text(self, text: str) -> bool:
        """Return whether a text of ours, which nobody encoded, names one of the contacts."""
        return self._are_in(text.lower().encode())

    def _are_in(self, form: bytes) -> bool:
        for pattern in (_WORDS, _DIGITS):
            for match in pattern.finditer(form):
                if any(trace in form for trace in self._by_word.get(match.group(), ())):
                    return True
        return any(_NO_DIGITS.sub(b"", match.group()) in self._by_word for match in _SPACED_NUMBERS.finditer(form))


def _forms(identifier: str) -> Iterator[bytes]:
    """Give an identifier in lower-case, a number as its digits: with the country's code, and as it is dialled inside."""
    value = identifier.strip().lower().encode()
    digits = _NO_DIGITS.sub(b"", value)
    if len(digits) < len(value) - 1:
        yield value
        return
    if len(digits) >= SHORTEST_TRACE:
        yield digits
    if value.startswith(b"+"):
        try:
            number = phonenumbers.parse(value.decode())
        except phonenumbers.NumberParseException:
            return
        own = phonenumbers.national_significant_number(number)
        # Not all that long any more: what is dialled inside a country may be anything there.
        if len(own) >= 8:
            yield own.encode()
            yield b"0" + own.encode()


def _readings(body: bytes) -> Iterator[bytes]:
    """Give the body as it is and as it reads with encodings undone, all in lower-case."""
    yield body.lower()
    if b"%" in body:
        yield unquote_to_bytes(body).lower()
    if b"\\u" in body:
        yield _JSON_ESCAPE.sub(_letter, body).lower()
    if b"=" in body:
        yield quopri.decodestring(body).lower()
    decoded = b"\n".join(filter(None, map(_from_base64, _BASE64.findall(body))))
    if decoded:
        yield decoded.lower()


def _letter(match: re.Match[bytes]) -> bytes:
    return chr(int(match.group(1), 16)).encode("utf-8", "replace")


def _from_base64(run: bytes) -> bytes:
    padded = run.translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(padded[: len(padded) // 4 * 4])
    except binascii.Error:
        return b""
