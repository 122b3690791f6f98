"""What every channel adapter shares: the webhook it is given, what it gives back, and the proofs of origin.

An adapter is two functions, `verify` and `parse`, and a line of facts. `verify` runs in the web process on the bytes
that arrived; `parse` runs later in a worker on the same bytes. Neither touches the network or the database.
"""

import binascii
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ingest.domain.events import InboundEvent
from ingest.errors import BadPayload, BadSetting, BadShape, BadSignature

KIB = 1024
MIB = 1024 * KIB
MAX_JSON_DEPTH = 32
# A decoded value takes up to thirty times the bytes that it is written in, and a mail's body may have 30 MiB.
MAX_JSON_VALUES = 250_000
# Above this a provider's number is milliseconds, not seconds (channels differ, and some mix both).
MILLISECONDS_FROM = 10**11
MAX_FUTURE = timedelta(days=1)


@dataclass(frozen=True)
class Webhook:
    """One HTTP request as it arrived, with the settings of the channel it came to.

    `url` is the public URL as the provider called it, with query. Header names are lower-case. `settings` are the
    channel's plain settings; `secrets` maps a setting's name to its accepted values, newest first (two during a
    rotation). `received_at` is aware UTC.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    received_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def header(self, name: str) -> str:
        """Return the header's value, or "" where it is absent. `name` is lower-case."""
        return self.headers.get(name, "")

    def accepted(self, name: str) -> tuple[str, ...]:
        """Return the secret's accepted values. Raises BadSignature when none is configured: no secret, no entry."""
        values = tuple(value for value in self.secrets.get(name, ()) if value)
        if not values:
            raise BadSignature(f"channel has no {name}")
        return values

    @cached_property
    def query(self) -> dict[str, str]:
        """The query's parameters, the last of a repeated name, blanks kept."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @cached_property
    def form(self) -> list[tuple[str, str]]:
        """The fields of a form body in order, blanks kept, untrimmed. Raises BadPayload for bytes that are not a form."""
        try:
            return parse_qsl(self.body.decode("utf-8", "surrogateescape"), keep_blank_values=True, max_num_fields=1000)
        except ValueError as broken:
            raise BadPayload("body is not a form") from broken

    def json(self) -> Any:
        """Return the body as JSON. Raises BadPayload as `decode_json` does."""
        return decode_json(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back to the provider."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing an operator gives when adding a channel. Secrets are sealed at rest and may have two values at a time."""

    name: str
    help: str
    secret: bool = False
    required: bool = True
    default: str = ""


AddressKind = Literal["phone", "email", "opaque"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A channel's facts and functions; see `docs/adding-a-channel.md`.

    `handshake` answers a provider's set-up request and returns None for anything else. `check` raises BadShape at the
    edge and is for our own formats only. `answer` is what the provider takes for success. `account_setting` names the
    setting that holds the provider-side account, for adapters whose events carry `account`. `address_kind` says what a
    sender's address is ("phone" and "email" let it claim an imported contact); `startable` whether a user may write
    first, to an address that is known already.
    `source` is the channel's name in the API.
    """

    code: str
    verify: Callable[[Webhook], None]
    parse: Callable[[Webhook], list[InboundEvent]]
    settings: tuple[Setting, ...] = ()
    handshake: Callable[[Webhook], Answer | None] | None = None
    check: Callable[[Webhook], None] | None = None
    answer: Answer | Callable[[Webhook], Answer] = Answer()
    refusal: Answer = Answer(401, b'{"code":401,"message":"signature missing or wrong"}', "application/json")
    account_setting: str | None = None
    address_kind: AddressKind | Callable[[Mapping[str, str]], AddressKind] = "opaque"
    startable: bool = False
    source: str = ""
    max_body: int = MIB
    content_types: tuple[str, ...] = ()


def address_kind_of(adapter: Adapter, settings: Mapping[str, str]) -> AddressKind:
    """Return what a sender's address is on a channel of this adapter with these settings."""
    return adapter.address_kind(settings) if callable(adapter.address_kind) else adapter.address_kind


def require_equal(given: str, *accepted: str) -> None:
    """Raise BadSignature unless `given` equals one of `accepted`, in constant time for each. Empty never equals."""
    found = False
    for each in accepted:
        found |= bool(each) and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), each.encode())
    if not given or not found:
        raise BadSignature("signature missing or wrong")


def require_hmac(given: bytes, body: bytes, algorithm: str, *secrets: str) -> None:
    """Raise BadSignature unless `given` is the raw digest of HMAC(secret, body) for one of `secrets`."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(hmac.digest(secret.encode(), body, algorithm), given)
    if not found:
        raise BadSignature("signature missing or wrong")


def unhex(text: str) -> bytes:
    """Return the bytes a hex digest stands for, or b"" where it is none: a malformed header is a failure, not a crash."""
    try:
        return binascii.a2b_hex(text)
    except ValueError:
        return b""


def unbase64(text: str) -> bytes:
    """Return the bytes a base64 digest stands for, or b"" where it is none, as `unhex` does.

    Each digest has one spelling: bits of the last character that stand for nothing must be zero (RFC 4648, 3.5).
    """
    try:
        digest = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return b""
    return digest if binascii.b2a_base64(digest, newline=False).decode() == text else b""


def require_recent(signed_at: datetime, received_at: datetime, tolerance_seconds: int = 300) -> None:
    """Raise BadSignature when the signed time is further than the tolerance from now, either way."""
    if abs(received_at - signed_at) > timedelta(seconds=tolerance_seconds):
        raise BadSignature("signed time is outside the window")


def decode_json(body: bytes | str) -> Any:
    """Return the decoded JSON. Raises BadPayload for bytes that are not JSON, or nest deeper than 32, or hold 250,000 values.

    No text in it holds a NUL or half of a surrogate pair (an emoji cut in two): no database would take the message.
    """
    try:
        require_modest(body)
        try:
            decoded = msgspec.json.decode(body)
        except msgspec.DecodeError:
            decoded = msgspec.json.decode(_with_whole_surrogates(body))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as broken:
        raise BadPayload("body is not JSON that we can read") from broken
    escaped_nul = b"\\u0000" in body if isinstance(body, bytes) else "\\u0000" in body
    return _without_nul(decoded) if escaped_nul else decoded


def _with_whole_surrogates(body: bytes | str) -> bytes:
    """Return the JSON with each lone surrogate as "?". The standard library reads them, msgspec does not."""
    return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_nul(each) for each in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(each) for name, each in value.items()}
    return value


def require_modest(body: bytes | str) -> None:
    """Raise BadPayload when brackets nest deeper than 32, before a decoder recurses into them, or too many values follow."""
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    could_be_deep = raw.count(b"[") + raw.count(b"{") > MAX_JSON_DEPTH
    if not could_be_deep and raw.count(b",") < MAX_JSON_VALUES:
        return
    # What is left of strings is a quotation mark or two, so brackets and commas in them do not count.
    bare = _JSON_STRINGS.sub(b"", raw)
    if bare.count(b",") >= MAX_JSON_VALUES:
        raise BadPayload(f"body holds {MAX_JSON_VALUES} values or more")
    # Each round takes away the innermost pairs: one level. Whatever does not come in pairs is no JSON.
    pairs = bare.translate(_AS_BRACKETS, _ALL_BUT_BRACKETS)
    for _ in range(MAX_JSON_DEPTH):
        if b"[]" not in pairs:
            break
        pairs = pairs.replace(b"[]", b"")
    if b"[]" in pairs or pairs.count(b"[") > MAX_JSON_DEPTH:
        raise BadPayload("body nests deeper than 32")


_JSON_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS = bytes(each for each in range(256) if each not in b"[]{}")


def moment(value: object, received_at: datetime) -> datetime | None:
    """Return a provider's unix time as aware UTC: seconds or milliseconds by magnitude, number or digits.

    None where it is missing or unusable. A time more than a day ahead of `received_at` becomes `received_at`.
    """
    try:
        number = float(str(value))
        if number >= MILLISECONDS_FROM:
            number /= 1000
        at = datetime.fromtimestamp(number, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return clamp(at, received_at)


def clamp(at: datetime, received_at: datetime) -> datetime:
    """Return `at`, or `received_at` where `at` lies more than a day ahead of it."""
    return at if at <= received_at + MAX_FUTURE else received_at


def require_setting(hook: Webhook, name: str) -> str:
    """Return a plain setting. Raises BadSetting where the channel has none."""
    value = hook.settings.get(name, "")
    if not value:
        raise BadSetting(f"channel setting {name} is missing: set it with `ingest channel set`")
    return value


__all__ = [
    "Adapter",
    "Answer",
    "BadPayload",
    "BadShape",
    "BadSignature",
    "Setting",
    "Webhook",
    "address_kind_of",
    "clamp",
    "decode_json",
    "moment",
    "require_equal",
    "require_hmac",
    "require_recent",
    "require_setting",
    "unbase64",
    "unhex",
]
