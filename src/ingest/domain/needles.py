"""Needles: a value that should be gone, in every form in which it could have been left behind.

A phone number may lie about with or without its plus, as it is dialled inside its country, URL-encoded in a form, inside
base64 at any of three alignments, or as a hash. `ingest erasure-check` looks for all of them.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

import phonenumbers

from ingest.domain.blocks import address_hash, erased_hash
from ingest.domain.contact_keys import normalise_email, normalise_phone
from ingest.domain.refusals import Invalid

# Shorter values are in everything.
SHORTEST_NEEDLE = 4


# Hashes are looked up as they stand, not searched for: there are many of them, and they are words of their own.
_HEX = re.compile(rb"[0-9a-f]{32,}")
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{20,}")
_DIGEST_BYTES = frozenset({16, 20, 32})


@dataclass(frozen=True, slots=True)
class Needle:
    """A value to look for, by its number in the list given.

    `folded` are byte strings to be found in lower-cased content, `exact` those that must be found as they are, `digests` its
    hashes.
    """

    number: int
    folded: frozenset[bytes]
    exact: frozenset[bytes]
    digests: frozenset[bytes]


class Needles:
    """Values to look for, ready to be looked for in much."""

    def __init__(self, needles: Sequence[Needle]) -> None:
        self._needles = needles
        self._by_hex: dict[bytes, int] = {}
        self._by_base64: dict[bytes, int] = {}
        for each in needles:
            for digest in each.digests:
                self._by_hex[digest.hex().encode()[:32]] = each.number
                self._by_base64[base64.b64encode(digest)[:20]] = each.number

    def __bool__(self) -> bool:
        return bool(self._needles)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the needles."""
        return [each.number for each in self._needles]

    def find(self, content: bytes) -> set[int]:
        """Return the numbers of the needles that are in the content."""
        lowered = content.lower()
        found = {
            each.number
            for each in self._needles
            if any(form in lowered for form in each.folded) or any(form in content for form in each.exact)
        }
        words = [match.group()[:32] for match in _HEX.finditer(lowered)]
        words += [match.group().replace(b"-", b"") for match in _UUID.finditer(lowered)]
        found.update(self._by_hex[word] for word in words if word in self._by_hex)
        starts = (match.group()[:20] for match in _BASE64.finditer(content))
        found.update(self._by_base64[start] for start in starts if start in self._by_base64)
        return found

    def find_digest(self, value: bytes) -> set[int]:
        """Return the number of the needle whose hash this very value is, if it is as long as one."""
        if len(value) not in _DIGEST_BYTES:
            return set()
        number = self._by_hex.get(value.hex().encode()[:32])
        return set() if number is None else {number}


@dataclass(frozen=True, slots=True)
class Salts:
    """What keyed hashes of ours are made with: the installation's salts and the ids of the channels."""

    salts: Sequence[bytes] = ()
    channel_ids: Collection[int] = ()


def read_needles(lines: Iterable[str], salts: Salts = Salts()) -> Needles:
    """Return a needle for each line that is not empty. Raises Invalid, without the value, for one that is too short."""
    needles = []
    for number, line in enumerate(lines, 1):
        value = line.strip()
        if not value:
            continue
        if len(value) < SHORTEST_NEEDLE:
            raise Invalid(f"line {number}: at least {SHORTEST_NEEDLE} characters, anything shorter is found everywhere")
        needles.append(_needle(number, value, salts))
    return Needles(needles)


def _needle(number: int, value: str, salts: Salts) -> Needle:
    spellings = set(_spellings(value))
    folded = {form.encode().lower() for each in spellings for form in _text_forms(each)}
    exact = {form for each in spellings for form in _base64_forms(each)}
    digests = frozenset(digest for each in spellings for digest in _digests(each, salts))
    return Needle(number, _shortest(folded), _shortest(exact), digests)


def _shortest(forms: Collection[bytes]) -> frozenset[bytes]:
    """Return the forms without those that hold another one: whoever finds the longer has found the shorter."""
    kept: list[bytes] = []
    for form in sorted(forms, key=len):
        if not any(shorter in form for shorter in kept):
            kept.append(form)
    return frozenset(kept)


def _spellings(value: str) -> Iterator[str]:
    """Give the value as it is, and a phone number or email in the spellings that we or a provider might keep."""
    yield value
    yield value.lower()
    email = normalise_email(value) if "@" in value else None
    if email is not None:
        yield email.key
    phone = normalise_phone(value, international=True)
    if phone is None:
        return
    number = phonenumbers.parse(phone.e164)
    own = phonenumbers.national_significant_number(number)
    yield phone.e164
    yield phone.e164.removeprefix("+")
    if len(own) >= 7:
        yield own
        yield f"0{own}"
    for form in (phonenumbers.PhoneNumberFormat.NATIONAL, phonenumbers.PhoneNumberFormat.INTERNATIONAL):
        yield phonenumbers.format_number(number, form)


def _text_forms(spelling: str) -> Iterator[str]:
    yield spelling
    yield quote(spelling, safe="")
    yield quote_plus(spelling)
    yield json.dumps(spelling)[1:-1]
    # As JSON inside JSON.
    yield json.dumps(json.dumps(spelling)[1:-1])[1:-1]
    yield spelling.encode().hex()


def _base64_forms(spelling: str) -> Iterator[bytes]:
    """Give the part of the base64 that any text holding the spelling has, wherever in it the spelling begins."""
    raw = spelling.encode()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        # What is mixed with the neighbours' bits differs from text to text.
        sure = encoded[(0, 2, 3)[before] : len(encoded.rstrip(b"=")) - (1 if (before + len(raw)) % 3 else 0)]
        if len(sure) >= SHORTEST_NEEDLE:
            yield sure
            yield sure.translate(bytes.maketrans(b"+/", b"-_"))


def _digests(spelling: str, salts: Salts) -> Iterator[bytes]:
    raw = spelling.encode()
    for name in ("md5", "sha1", "sha256"):
        yield hashlib.new(name, raw, usedforsecurity=False).digest()
    for salt in salts.salts:
        yield hmac.digest(salt, raw, hashlib.sha256)
        for channel_id in salts.channel_ids:
            yield address_hash(salt, channel_id, spelling)
            yield erased_hash(salt, channel_id, spelling)
