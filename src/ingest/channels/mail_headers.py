"""A mail's header fields, and what is read out of them: addresses, ids, encoded words, times.

Source: RFC 5322 and 6532 (fields, addresses), 2047 (encoded words), 5321 (Received). Senders write whatever they like
into a header; nothing here raises for it.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import getaddresses, parsedate_to_datetime

from email_validator import EmailNotValidError, validate_email

from ingest.channels.mail_text import clean, decode_bytes

# The standard library's header readers take quadratic time in places; these keep that harmless.
MAX_HEADERS = 1000
MAX_VALUE = 8000
MAX_ADDRESSES = 100
MAX_IDS = 50

_FOLD = re.compile(r"\r?\n[ \t]*|\r")
_MESSAGE_ID = re.compile(r"<([^<>\s]{1,900})>")
_LOOSE_ADDRESS = re.compile(r"[^\s@<>()\[\]\\,;:\"]{1,64}@[a-z0-9][a-z0-9.-]{0,252}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Headers:
    """Header fields in order: names lower-case, values unfolded and clean, encoded words still encoded."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """Return the first value of a field, trimmed; "" where there is none."""
        return next((value for each, value in self.pairs if each == name), "")

    def all(self, name: str) -> list[str]:
        """Return every value of a field, topmost first."""
        return [value for each, value in self.pairs if each == name]

    def above(self, name: str) -> "Headers":
        """Return the fields that stand above the first one of that name: what the last servers added. None: all."""
        names = [each for each, _ in self.pairs]
        return Headers(self.pairs[: names.index(name)]) if name in names else self


@dataclass(frozen=True, slots=True)
class MailAddress:
    """A mailbox. `address` has its local part as written and its domain in lower-case ASCII (IDNA)."""

    address: str
    name: str | None = None

    @property
    def key(self) -> str:
        """The address as it is compared: John@ACME.com and john@acme.com are one mailbox."""
        return self.address.lower()

    @property
    def domain(self) -> str:
        """The part behind the @."""
        return self.address.rpartition("@")[2]


def headers_of(pairs: Iterable[tuple[str, str]]) -> Headers:
    """Return the fields; bytes that came in as surrogates are decoded. Over-long values and lists are cut."""
    kept = []
    for name, value in pairs:
        kept.append((name.strip().lower(), readable(value)))
        if len(kept) == MAX_HEADERS:
            break
    return Headers(tuple(kept))


def readable(value: str) -> str:
    """Return a field's value unfolded and clean, bare bytes in it decoded, cut at 8000 characters."""
    short = value[:MAX_VALUE]
    if not short.isascii():
        raw = short.encode("utf-8", "surrogateescape")
        short = decode_bytes(raw, "utf-8")
    return clean(_FOLD.sub(" ", short)).strip()


def words(value: str) -> str:
    """Return a value with its encoded words decoded and blanks collapsed; one that cannot be decoded stays as it is."""
    if "=?" in value:
        with suppress(HeaderParseError, ValueError, LookupError):
            value = "".join(_decoded(chunk, charset) for chunk, charset in decode_header(value))
    return " ".join(clean(value).split())


def _decoded(chunk: bytes | str, charset: str | None) -> str:
    # Unencoded stretches between encoded words come back as bytes that stand for the text's code points.
    if isinstance(chunk, str):
        return chunk
    return decode_bytes(chunk, charset) if charset else chunk.decode("raw-unicode-escape", "replace")


def addresses(value: str) -> list[MailAddress]:
    """Return the mailboxes of an address field in order; what is no address is left out."""
    try:
        found = getaddresses([value])
    except (RecursionError, ValueError, IndexError):
        return []
    boxes = [_mailbox(name, address) for name, address in found[:MAX_ADDRESSES]]
    return [box for box in boxes if box is not None]


def _mailbox(name: str, address: str) -> MailAddress | None:
    normal = normal_address(address)
    shown = words(name).strip("\"' ")
    if normal is None:
        return None
    return MailAddress(normal, None if not shown or normal_address(shown) else shown)


def written_address(address: str, name: str = "") -> str:
    """Return an address field's value for a mailbox that a provider gave in two parts."""
    shown = name.replace("\\", "").replace('"', "")
    return f'"{shown}" <{address}>' if shown else address


def normal_address(address: str) -> str | None:
    """Return the address with its domain in lower-case ASCII, its local part as written; None for what is none.

    Addresses that break the rules and are in use all the same (two dots in a row) are taken as they are.
    """
    if len(address) > 320 or "@" not in address:
        return None
    try:
        valid = validate_email(
            address.strip(),
            check_deliverability=False,
            globally_deliverable=False,
            test_environment=True,
            allow_quoted_local=True,
            allow_domain_literal=True,
        )
    except (EmailNotValidError, UnicodeError):
        local, _, domain = address.strip().rpartition("@")
        return f"{local}@{domain.lower()}" if _LOOSE_ADDRESS.fullmatch(address.strip()) else None
    return f"{valid.local_part}@{valid.ascii_domain or valid.domain}"


def without_tag(address: str) -> tuple[str, str | None]:
    """Return a mailbox of ours in lower case without its plus-tag, and the tag: help+case77@x is help@x, case77."""
    local, _, domain = (normal_address(address) or address.strip()).lower().rpartition("@")
    mailbox, _, tag = local.partition("+")
    return f"{mailbox}@{domain}", tag or None


def message_ids(value: str) -> list[str]:
    """Return the Message-IDs in a field, in order, without angle brackets. A lone id without brackets counts."""
    found = _MESSAGE_ID.findall(value)
    bare = value.strip().strip("<>")
    if not found and "@" in bare and " " not in bare:
        found = [bare[:900]]
    return found[:MAX_IDS]


def thread_ids(headers: Headers) -> tuple[str, ...]:
    """Return the Message-IDs this mail answers, nearest first: In-Reply-To, then References from its end."""
    references = _MESSAGE_ID.findall(headers.get("references"))
    nearest_first = [*message_ids(headers.get("in-reply-to")), *reversed(references)]
    return tuple(dict.fromkeys(nearest_first))[:MAX_IDS]


def date_in(value: str) -> datetime | None:
    """Return a mail date as aware UTC, a missing zone read as UTC; None where it is missing or unusable."""
    try:
        at = parsedate_to_datetime(value)
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def received_at(headers: Headers) -> datetime | None:
    """Return when the last server took the mail, by the topmost Received field; None where that does not say."""
    return date_in(headers.get("received").rpartition(";")[2])
