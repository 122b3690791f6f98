import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.channels import email_sendgrid
from ingest.channels.base import Webhook
from ingest.errors import BadSignature
from tests.unit.channels.conftest import MakeWebhook
from tests.unit.channels.mails import message_in, sender_in

RECEIVED_AT = datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
PASSWORD = "hook:sendgrid-password"


def public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def posted(timestamp: str = "1750000000", **fields: bytes | str) -> Webhook:
    """Return a parsed mail, signed with our own key."""
    given = {
        "headers": "From: t@example.org\nMessage-ID: <a@example.org>\n",
        "envelope": '{"to":["help@in.example.net"]}',
    }
    parts = b""
    for name, value in (given | fields).items():
        content = value if isinstance(value, bytes) else value.encode()
        parts += b'--xx\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + content + b"\r\n"
    body = parts + b"--xx--\r\n"
    signature = KEY.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
    headers = {
        "content-type": "multipart/form-data; boundary=xx",
        "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
        "x-twilio-email-event-webhook-timestamp": timestamp,
    }
    secrets = {"verification_key": (public(KEY),)}
    return Webhook("POST", "https://hooks.example.org/webhooks/12", headers, body, {}, secrets, RECEIVED_AT)


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_signature_is_over_the_time_and_the_bytes_that_arrived() -> None:
    hook = posted()
    email_sendgrid.ADAPTER.verify(hook)
    for changed in (
        replace(hook, body=hook.body + b"\r\n"),
        replace(hook, headers={**hook.headers, "x-twilio-email-event-webhook-timestamp": "1750000001"}),
        replace(hook, headers={**hook.headers, "x-twilio-email-event-webhook-timestamp": ""}),
    ):
        with pytest.raises(BadSignature):
            email_sendgrid.ADAPTER.verify(changed)


@pytest.mark.parametrize("late", [timedelta(days=4), timedelta(days=-4)])
def test_signed_time_beyond_sendgrids_retries_is_refused(late: timedelta) -> None:
    email_sendgrid.ADAPTER.verify(replace(posted(), received_at=RECEIVED_AT + late / 2))
    with pytest.raises(BadSignature):
        email_sendgrid.ADAPTER.verify(replace(posted(), received_at=RECEIVED_AT + late))


@pytest.mark.parametrize("timestamp", ["soon", "", "1e99", "99999999999999999999"])
def test_signed_nonsense_for_a_time_is_refused(timestamp: str) -> None:
    with pytest.raises(BadSignature):
        email_sendgrid.ADAPTER.verify(posted(timestamp))


@pytest.mark.parametrize("key", ["", "not base64", "AAAA", public(rsa.generate_private_key(65537, 2048))])
def test_key_that_is_no_key_of_sendgrids_lets_nothing_in(key: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        email_sendgrid.ADAPTER.verify(replace(posted(), secrets={"verification_key": (key,)}))


def test_without_any_proof_set_up_nothing_gets_in(webhook: MakeWebhook) -> None:
    """T61."""
    for name in ("raw", "basic_auth"):
        with pytest.raises(BadSignature):
            email_sendgrid.ADAPTER.verify(replace(webhook(f"email_sendgrid/{name}"), secrets={}))


def test_where_both_proofs_are_set_up_both_must_hold() -> None:
    hook = posted()
    both = replace(hook, secrets={**hook.secrets, "basic_auth": (PASSWORD,)})
    with pytest.raises(BadSignature):
        email_sendgrid.ADAPTER.verify(both)
    email_sendgrid.ADAPTER.verify(replace(both, headers={**hook.headers, "authorization": basic(PASSWORD)}))
    only_basic = {"content-type": hook.headers["content-type"], "authorization": basic(PASSWORD)}
    with pytest.raises(BadSignature):
        email_sendgrid.ADAPTER.verify(replace(both, headers=only_basic))


@pytest.mark.parametrize(
    "given", [None, "", "Basic", "Basic !!!", "Bearer " + PASSWORD, PASSWORD, basic("hook:other"), basic("hook")]
)
def test_wrong_password_is_refused(webhook: MakeWebhook, given: str | None) -> None:
    with pytest.raises(BadSignature):
        email_sendgrid.ADAPTER.verify(webhook("email_sendgrid/basic_auth", authorization=given))


def test_each_field_is_read_in_its_own_charset() -> None:
    charsets = '{"subject": "iso-8859-1", "text": "shift_jis", "html": "no-such-charset"}'
    hook = posted(charsets=charsets, subject="Hallå".encode("latin-1"), text="日本語".encode("cp932"))
    message = message_in(email_sendgrid.ADAPTER.parse(hook)[0])
    assert (message.subject, message.text) == ("Hallå", "日本語")


@pytest.mark.parametrize("charsets", ["", "{", "[]", '{"text": 5}', '{"text": null}'])
def test_unreadable_charsets_lose_no_text(charsets: str) -> None:
    hook = posted(charsets=charsets, text="Hallå".encode("latin-1"))
    assert message_in(email_sendgrid.ADAPTER.parse(hook)[0]).text == "Hallå"


@pytest.mark.parametrize(
    ("dkim", "spf", "proved"),
    [
        ("{@example.org : pass}", "fail", True),
        ("{@mail.example.com : pass, @example.org : pass}", "fail", True),
        ("{@mail.example.com : pass, @example.org : fail}", "fail", False),
        ("none", "pass", False),
        ("", "", False),
    ],
)
def test_sender_is_proved_by_a_signature_of_their_own_domain(dkim: str, spf: str, proved: bool) -> None:
    hook = posted(dkim=dkim, SPF=spf, envelope='{"to":["help@in.example.net"],"from":"x@mail.example.com"}')
    assert sender_in(email_sendgrid.ADAPTER.parse(hook)[0]).verified is proved


def test_spf_proves_a_sender_whose_envelope_is_of_the_same_domain() -> None:
    hook = posted(SPF="pass", envelope='{"to":["help@in.example.net"],"from":"bounces@mail.example.org"}')
    assert sender_in(email_sendgrid.ADAPTER.parse(hook)[0]).verified


def test_null_envelope_sender_marks_the_mail_automatic() -> None:
    """T59."""
    hook = posted(envelope='{"to":["help@in.example.net"],"from":""}')
    assert email_sendgrid.ADAPTER.parse(hook)[0].automatic
    assert not email_sendgrid.ADAPTER.parse(posted())[0].automatic


def test_parsed_and_raw_delivery_of_one_mail_have_one_id() -> None:
    head = "From: t@example.org\r\nDate: Sun, 15 Jun 2025 17:06:30 +0200\r\nSubject: Hej\r\nMessage-ID: <a@example.org>\r\n"
    (parsed,) = email_sendgrid.ADAPTER.parse(posted(headers=head, text="Hello\nthere"))
    (raw,) = email_sendgrid.ADAPTER.parse(posted(email=head + "\r\nHello\r\nthere\r\n"))
    assert parsed.external_id == raw.external_id
