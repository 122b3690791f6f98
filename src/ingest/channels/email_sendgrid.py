"""SendGrid Inbound Parse: one multipart POST a mail, as parsed fields or, with "send raw" on, as the raw mail.

Source: Twilio SendGrid, "Setting up the Inbound Parse webhook", "Inbound Parse security policy". Its ECDSA signature
covers the whole body; where the security policy is off, basic authentication in the URL is the proof. "Send raw" is the
better choice: in parsed fields every field has a charset of its own, and nested mails are lost.
"""

import re
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ingest.channels.base import (
    Adapter,
    BadSignature,
    Setting,
    Webhook,
    require_recent,
    unbase64,
)
from ingest.channels.fields import list_in, number_in, object_in, text_in, words_in
from ingest.channels.mail import (
    MAIL_SETTINGS,
    MAILBOX,
    MAX_BODY,
    OPTIONAL_BASIC_AUTH,
    Delivery,
    mail_events,
    require_basic,
    signed_time,
)
from ingest.channels.mail_form import Form, read_form
from ingest.channels.mail_headers import Headers, headers_of
from ingest.channels.mail_mime import Mail, assemble, file_of, read_headers, read_mail
from ingest.channels.mail_text import html_to_text
from ingest.channels.mail_trust import Verdict, domain_of
from ingest.domain.events import JSON, Attachment, InboundEvent

VERIFICATION_KEY = Setting(
    "verification_key",
    "SendGrid's public key for Inbound Parse (base64); this or basic_auth",
    secret=True,
    required=False,
)
SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp"
# Retries go on for 3 days and may repeat the first attempt's signature.
WINDOW_SECONDS = 73 * 3600
# SpamAssassin's own line between spam and other mail.
SPAM_SCORE = 5.0

_PASSED_DKIM = re.compile(r"@([a-z0-9.-]+)\s*:\s*pass")


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless every proof that the channel has set up holds. With none set up, nothing gets in."""
    proofs = {VERIFICATION_KEY.name: _require_signature, OPTIONAL_BASIC_AUTH.name: require_basic}
    wanted = [require for name, require in proofs.items() if any(hook.secrets.get(name, ()))]
    if not wanted:
        raise BadSignature("channel has neither verification_key nor basic_auth")
    for require in wanted:
        require(hook)


def _require_signature(hook: Webhook) -> None:
    timestamp = hook.header(TIMESTAMP_HEADER)
    signature = unbase64(hook.header(SIGNATURE_HEADER))
    signed = timestamp.encode("utf-8", "replace") + hook.body
    if not any(_is_signed(key, signature, signed) for key in hook.accepted(VERIFICATION_KEY.name)):
        raise BadSignature("signature missing or wrong")
    require_recent(signed_time(timestamp), hook.received_at, WINDOW_SECONDS)


def _is_signed(key: str, signature: bytes, signed: bytes) -> bool:
    public_key = _public_key(key)
    if public_key is None:
        return False
    try:
        public_key.verify(signature, signed, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _public_key(key: str) -> ec.EllipticCurvePublicKey | None:
    try:
        found = load_der_public_key(unbase64(key.strip()))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return found if isinstance(found, ec.EllipticCurvePublicKey) else None


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the mail's events for each of our mailboxes in its envelope.

    Raises BadPayload for a form that cannot be taken apart and for a mail that names no sender.
    """
    form = read_form(hook)
    envelope = _told(form, "envelope")
    envelope_from = words_in(envelope, "from") if isinstance(envelope.get("from"), str) else None
    raw = form.fields.get("email")
    mail = read_mail(raw) if raw is not None else _parsed_mail(form)
    score = number_in({"score": form.text("spam_score")}, "score")
    delivery = Delivery(
        recipients=tuple(each for each in list_in(envelope, "to") if isinstance(each, str)),
        envelope_from=envelope_from,
        verdict=_verdict(form, envelope_from or ""),
        flags=("spam",) if score is not None and score >= SPAM_SCORE else (),
    )
    return mail_events(mail, delivery, hook)


def _verdict(form: Form, envelope_from: str) -> Verdict:
    """Return SendGrid's verdicts: `SPF` is a word, `dkim` lists each signing domain with one: "{@example.org : pass}"."""
    spf, dkim = form.text("SPF").strip().lower(), form.text("dkim").lower()
    passed = tuple(_PASSED_DKIM.findall(dkim))
    found = "pass" if passed else "fail" if "fail" in dkim else None
    return Verdict(spf or None, found, None, domain_of(envelope_from), passed)


def _parsed_mail(form: Form) -> Mail:
    charsets = _told(form, "charsets")
    html = form.text("html", text_in(charsets, "html"))
    plain = form.text("text", text_in(charsets, "text"))
    text = plain if plain.strip() else html_to_text(html)
    return assemble(_headers(form, charsets), text, [html], _files(form))


def _headers(form: Form, charsets: JSON) -> Headers:
    headers = read_headers(form.fields.get("headers", b"").lstrip())
    names = [name for name in ("from", "to", "cc", "subject") if name in form.fields and not headers.get(name)]
    missing = headers_of((name, form.text(name, text_in(charsets, name))) for name in names)
    return Headers(headers.pairs + missing.pairs)


def _files(form: Form) -> list[tuple[Attachment, str]]:
    described = _told(form, "attachment-info")
    files = []
    for each in form.files:
        told = object_in(described, each.field)
        name = each.name or text_in(told, "filename", "name") or ""
        kind = each.mime_type or text_in(told, "type") or ""
        files.append((file_of(name, kind, each.content), words_in(told, "content-id").strip("<>")))
    return files


def _told(form: Form, name: str) -> JSON:
    """Return a field that holds a JSON object; an empty one where it does not."""
    return object_in({name: form.json(name)}, name)


ADAPTER = Adapter(
    "email_sendgrid",
    verify,
    parse,
    settings=(*MAIL_SETTINGS, VERIFICATION_KEY, OPTIONAL_BASIC_AUTH),
    account_setting=MAILBOX.name,
    address_kind="email",
    startable=True,
    source="other_email",
    max_body=MAX_BODY,
)
