"""Every place where bytes of strangers are read, as functions of bytes that raise only when something is wrong.

`read:CODE` goes the whole way of a channel: handshake, proof, check, parse, answer. `prove:CODE` has other keys than the
requests were signed with, so that nothing whatever may pass. The rest are the decoders of bodies. What each may say is
what its caller catches; anything else is a finding, and so are an event that could not be stored, a proof that passes
without its key, and an input that takes seconds.

An input for a channel is a byte that chooses a recorded request's settings, and the bytes of an HTTP request.
"""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.channels.base import Webhook, decode_json
from ingest.channels.fields import storable
from ingest.channels.mail_form import read_form
from ingest.channels.mail_headers import addresses, date_in, thread_ids, words
from ingest.channels.mail_mime import read_headers, read_mail
from ingest.channels.mail_text import decode_bytes, html_to_text
from ingest.channels.registry import CODES, get_adapter
from ingest.errors import BadPayload, BadSetting, BadShape, BadSignature
from ingest.parse import to_json
from ingest.requests import BadRequest, read_request, write_request
from tests.recorded import Recording, recordings

# What the edge answers, and what a worker makes a dead letter of.
REFUSED = (BadSignature, BadSetting, BadPayload, BadShape)
MOST_CPU_SECONDS = 2.0
# Set by transport, and true of the request as it was recorded only.
FRAMING = {"content-length", "transfer-encoding", "host"}


@dataclass(frozen=True)
class Target:
    """A function to be fuzzed, and the inputs to begin with."""

    name: str
    read: Callable[[bytes], None]
    seeds: tuple[bytes, ...]

    def __call__(self, raw: bytes) -> None:
        """Read the input. Raises whatever is a finding."""
        started = time.thread_time()
        self.read(raw)
        taken = time.thread_time() - started
        assert taken < MOST_CPU_SECONDS, f"{len(raw)} bytes took {taken:.1f} s"


@cache
def _recordings(code: str) -> tuple[Recording, ...]:
    return tuple(recordings(code))


@cache
def _other_secrets(code: str, number: int) -> dict[str, tuple[str, ...]]:
    return {name: (_other_secret(name),) for name in _recordings(code)[number].hook.secrets}


def _other_secret(name: str) -> str:
    """Return a good secret that no recorded request was proved with."""
    if name == "signing_certificate":
        return _certificate()
    if name == "verification_key":
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    if name == "encoding_aes_key":
        return base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"{secrets.token_hex(8)}:{secrets.token_hex(16)}"


@cache
def _certificate() -> str:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    since = datetime(2020, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, since, since + timedelta(days=36500))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _hook(code: str, raw: bytes, *, has_keys: bool) -> Webhook | None:
    """Return the webhook that the input stands for; None where it is no HTTP request."""
    known = _recordings(code)
    number = raw[0] % len(known) if raw else 0
    like = known[number].hook
    try:
        request = read_request(raw[1:])
    except BadRequest:
        return None
    # As at the edge: host and path are ours, the query is the caller's.
    url = f"{like.url.partition('?')[0]}?{request.target.partition('?')[2]}"
    given = like.secrets if has_keys else _other_secrets(code, number)
    return Webhook(request.method, url, request.headers, request.body, like.settings, given, like.received_at)


def _read(code: str, raw: bytes) -> None:
    adapter, hook = get_adapter(code), _hook(code, raw, has_keys=True)
    if hook is None:
        return
    if adapter.handshake is not None:
        with suppress(*REFUSED):
            adapter.handshake(hook)
    with suppress(*REFUSED):
        adapter.verify(hook)
    try:
        if adapter.check is not None:
            adapter.check(hook)
    except BadShape as told:
        str(told).encode()
        return
    with suppress(BadPayload):
        _require_storable([to_json(event) for event in adapter.parse(hook)])
        if callable(adapter.answer):
            adapter.answer(hook)


def _prove(code: str, raw: bytes) -> None:
    adapter, hook = get_adapter(code), _hook(code, raw, has_keys=False)
    if hook is None:
        return
    with suppress(*REFUSED):
        answer = adapter.handshake(hook) if adapter.handshake is not None else None
        if answer is None:
            adapter.verify(hook)
            raise AssertionError("proved without the key")


def _require_storable(events: list[dict[str, Any]]) -> None:
    """Raise AssertionError unless a database takes the events: no NUL, no half of a surrogate pair, no NaN."""
    json.dumps(events, ensure_ascii=False, allow_nan=False).encode()
    assert not any("\0" in text for text in _texts(events)), "a NUL in an event"
    for event in events:
        assert event["external_id"], "an event without an id"


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, names of fields too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from (name, *_texts(each))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _json(raw: bytes) -> None:
    with suppress(BadPayload):
        decoded = decode_json(raw)
        json.dumps(decoded, allow_nan=False)
        for text in _texts(decoded):
            _require_text(text)


def _require_text(text: str) -> None:
    text.encode()
    assert "\0" not in text, "a NUL in a text"


def _form(raw: bytes) -> None:
    with suppress(BadPayload):
        for name, value in storable(Webhook("POST", "https://x/", {}, raw).form).items():
            _require_text(name + value)


def _body_form(raw: bytes) -> None:
    """Read a form whose content type stands in the first line."""
    kind, _, body = raw.partition(b"\n")
    hook = Webhook("POST", "https://x/", {"content-type": kind.decode("latin-1")}, body)
    with suppress(BadPayload):
        form = read_form(hook)
        assert len(form.fields) + len(form.files) <= 1000
        for name in form.fields:
            _require_text(name + form.text(name, "x-unknown"))
            form.json(name)
        for file in form.files:
            _require_text(file.field + file.name + file.mime_type)


def _mail(raw: bytes) -> None:
    mail = read_mail(raw)
    _require_text(mail.text + "".join(name + value for name, value in mail.headers.pairs))
    for each in mail.attachments:
        _require_text(f"{each.name}{each.mime_type}")
    thread_ids(mail.headers)


def _mail_headers(raw: bytes) -> None:
    for _, value in read_headers(raw).pairs:
        _require_text(words(value))
        date_in(value)
        for box in addresses(value):
            _require_text(f"{box.address}{box.name}")


def _html(raw: bytes) -> None:
    _require_text(html_to_text(decode_bytes(raw)))


def _captured(raw: bytes) -> None:
    with suppress(BadRequest):
        request = read_request(raw)
        again = read_request(write_request(request.method, "https://hooks.example.org/", {}, request.body))
        assert (again.method, again.body) == (request.method, request.body)


def _seeds(code: str) -> Iterator[bytes]:
    for number, each in enumerate(_recordings(code)):
        headers = {name: value for name, value in each.hook.headers.items() if name not in FRAMING}
        head, _, body = write_request(each.hook.method, each.hook.url, headers, each.hook.body).partition(b"\r\n\r\n")
        # Without its length a body may grow and shrink.
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length:")]
        yield bytes([number % 256]) + b"\r\n".join(lines) + b"\r\n\r\n" + body


def _bodies() -> tuple[bytes, ...]:
    return tuple(each.hook.body for code in CODES for each in _recordings(code) if each.hook.body)


def _mails() -> tuple[bytes, ...]:
    return tuple(each.hook.body for each in _recordings("email_mime"))


def _forms() -> tuple[bytes, ...]:
    found = [each.hook for code in CODES for each in _recordings(code) if "form" in each.hook.header("content-type")]
    return tuple(each.header("content-type").encode() + b"\n" + each.body for each in found)


@cache
def targets() -> dict[str, Target]:
    """Return all targets by their names."""
    made = [
        *(Target(f"read:{code}", partial(_read, code), tuple(_seeds(code))) for code in CODES),
        *(Target(f"prove:{code}", partial(_prove, code), tuple(_seeds(code))) for code in CODES),
        Target("json", _json, _bodies()),
        Target("form", _form, tuple(each.partition(b"\n")[2] for each in _forms())),
        Target("form with files", _body_form, _forms()),
        Target("mail", _mail, _mails()),
        Target("mail headers", _mail_headers, _mails()),
        Target("html", _html, tuple(each for each in _bodies() if b"<" in each)),
        Target("captured request", _captured, tuple(each[1:] for each in _seeds("twilio_sms"))),
    ]
    return {each.name: each for each in made}
