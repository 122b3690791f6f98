import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateBuilder, Name, NameAttribute
from cryptography.x509.oid import NameOID

from ingest.channels import email_ses
from ingest.channels.base import Webhook
from ingest.errors import BadPayload, BadSetting, BadSignature
from tests.unit.channels.conftest import MakeWebhook
from tests.unit.channels.mails import message_in

RECEIVED_AT = datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC)
TOPIC = "arn:aws:sns:eu-west-1:000000000000:inbound"
KEY = rsa.generate_private_key(65537, 2048)


def certificate(key: CertificateIssuerPrivateKeyTypes, starts: datetime = datetime(2025, 1, 1, tzinfo=UTC)) -> str:
    name = Name([NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(starts).not_valid_after(starts + timedelta(days=365))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def notified(message: object = "{}", **fields: Any) -> Webhook:
    """Return a notification, signed with our own key over whatever its fields say. None takes a field away."""
    body = {
        "Type": "Notification",
        "MessageId": "00000000-0000-4000-8000-000000000001",
        "TopicArn": TOPIC,
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": "2025-06-15T15:06:41.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-fake.pem",
    }
    body = {name: value for name, value in (body | fields).items() if value is not None}
    signed = "".join(
        f"{name}\n{body[name]}\n"
        for name in ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
        if name in body
    )
    algorithm = SHA1() if body.get("SignatureVersion") == "1" else SHA256()
    body["Signature"] = base64.b64encode(KEY.sign(signed.encode(), padding.PKCS1v15(), algorithm)).decode()
    headers = {
        "x-amz-sns-message-type": str(body.get("Type")),
        "x-amz-sns-message-id": str(body.get("MessageId")),
        "x-amz-sns-topic-arn": str(body.get("TopicArn")),
    }
    settings = {"mailbox": "help@in.example.net", "topic_arn": TOPIC}
    secrets = {"signing_certificate": (certificate(KEY),)}
    return Webhook("POST", "https://x", headers, json.dumps(body).encode(), settings, secrets, RECEIVED_AT)


@pytest.mark.parametrize("fields", [{}, {"Subject": "with a subject"}, {"SignatureVersion": "1"}])
def test_notification_signed_by_the_pinned_certificate_is_accepted(fields: dict[str, str]) -> None:
    email_ses.ADAPTER.verify(notified(**fields))


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_confirmation_is_signed_over_its_own_fields(kind: str) -> None:
    hook = notified(Type=kind, SubscribeURL="https://sns.eu-west-1.amazonaws.com/?x", Token="t")
    email_ses.ADAPTER.verify(hook)
    with pytest.raises(BadSignature):
        email_ses.ADAPTER.verify(replace(hook, body=hook.body.replace(b"amazonaws.com/?x", b"amazonaws.com/?y")))


def test_changed_part_is_refused() -> None:
    """T61."""
    hook = notified({"notificationType": "Received"}, Subject="s")
    for old, new in ((b"Received", b"Bounce"), (b"15:06:41", b"15:06:42"), (b'"s"', b'"t"')):
        with pytest.raises(BadSignature):
            email_ses.ADAPTER.verify(replace(hook, body=hook.body.replace(old, new)))


def test_added_subject_is_refused() -> None:
    hook = notified()
    with pytest.raises(BadSignature):
        email_ses.ADAPTER.verify(replace(hook, body=hook.body.replace(b'"Type"', b'"Subject": "x", "Type"')))


@pytest.mark.parametrize(
    "fields",
    [
        {"TopicArn": "arn:aws:sns:eu-west-1:999999999999:inbound"},
        {"Type": "SomethingElse"},
        {"Type": None},
        {"MessageId": None},
        {"Timestamp": None},
        {"Timestamp": "yesterday"},
        {"SignatureVersion": "3"},
        {"SignatureVersion": None},
        {"SigningCertURL": None},
        {"SigningCertURL": "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-fake.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-fake.pem"},
        {"SigningCertURL": "https://evil.example/sns.eu-west-1.amazonaws.com/SimpleNotificationService-fake.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-fake.pem"},
        {"SigningCertURL": "https://my-bucket.s3.amazonaws.com/SimpleNotificationService-fake.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/other.pem"},
        {"SigningCertURL": "https://[sns"},
    ],
)
def test_well_signed_notification_of_the_wrong_kind_is_refused(fields: dict[str, str | None]) -> None:
    """T61: a good signature alone only shows that somebody has a topic at Amazon."""
    with pytest.raises(BadSignature):
        email_ses.ADAPTER.verify(notified(**fields))


@pytest.mark.parametrize("late", [timedelta(hours=25), timedelta(hours=-25)])
def test_notification_signed_too_long_ago_or_ahead_is_refused(late: timedelta) -> None:
    email_ses.ADAPTER.verify(replace(notified(), received_at=RECEIVED_AT + late / 2))
    with pytest.raises(BadSignature):
        email_ses.ADAPTER.verify(replace(notified(), received_at=RECEIVED_AT + late))


@pytest.mark.parametrize("header", ["x-amz-sns-message-type", "x-amz-sns-message-id", "x-amz-sns-topic-arn"])
def test_headers_must_say_what_the_body_says(header: str) -> None:
    hook = notified()
    for value in ("", "other"):
        with pytest.raises(BadSignature):
            email_ses.ADAPTER.verify(replace(hook, headers={**hook.headers, header: value}))


@pytest.mark.parametrize(
    "pem",
    [
        certificate(rsa.generate_private_key(65537, 2048)),
        certificate(ec.generate_private_key(ec.SECP256R1())),
        certificate(KEY, datetime(2023, 1, 1, tzinfo=UTC)),
        certificate(KEY, datetime(2026, 1, 1, tzinfo=UTC)),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "no certificate",
        "",
    ],
)
def test_other_expired_and_broken_certificates_prove_nothing(pem: str) -> None:
    with pytest.raises(BadSignature):
        email_ses.ADAPTER.verify(replace(notified(), secrets={"signing_certificate": (pem,)}))


def test_new_certificate_may_stand_beside_the_old() -> None:
    other = certificate(rsa.generate_private_key(65537, 2048))
    for values in ((other, certificate(KEY)), (other + certificate(KEY),), ("broken", certificate(KEY))):
        email_ses.ADAPTER.verify(replace(notified(), secrets={"signing_certificate": values}))


def test_raw_message_delivery_is_refused() -> None:
    """T61: SNS signs nothing there."""
    hook = notified()
    inner = json.dumps({"notificationType": "Received", "mail": {}}).encode()
    for body in (inner, b"", b"[]", b"not json"):
        with pytest.raises(BadSignature):
            email_ses.ADAPTER.verify(replace(hook, body=body))


def test_channel_without_a_topic_takes_nothing() -> None:
    with pytest.raises(BadSetting):
        email_ses.ADAPTER.verify(replace(notified(), settings={}))


def test_subscription_waits_for_a_person(webhook: MakeWebhook) -> None:
    (event,) = email_ses.ADAPTER.parse(webhook("email_ses/subscription_confirmation"))
    assert (event.kind, event.reason) == ("ignored", "subscription_confirmation")
    assert message_in(event).details["subscribe_url"].startswith("https://sns.eu-west-1.amazonaws.com/?Action=")


def test_subscription_at_a_foreign_host_is_not_offered_to_anybody() -> None:
    hook = notified(Type="SubscriptionConfirmation", Token="t", SubscribeURL="https://evil.example/confirm")
    (event,) = email_ses.ADAPTER.parse(hook)
    assert (event.reason, event.message) == ("subscription_of_foreign_host", None)


def received(**mail: Any) -> dict[str, Any]:
    told = {"messageId": "ses-1", "source": "t@example.org", "timestamp": "2025-06-15T15:06:40.000Z", **mail}
    recipients = ["help@in.example.net", "sales@in.example.net"]
    return {"notificationType": "Received", "mail": told, "receipt": {"recipients": recipients}}


def test_mail_for_two_of_our_mailboxes_is_an_event_for_each() -> None:
    notice = received() | {"content": "From: t@example.org\r\n\r\nHi\r\n"}
    events = email_ses.ADAPTER.parse(notified(notice))
    assert [(event.account, event.external_id) for event in events] == [
        ("help@in.example.net", "ses-1"),
        ("sales@in.example.net", "ses-1"),
    ]


@pytest.mark.parametrize(
    "notice",
    [
        received(messageId=None) | {"content": "From: t@example.org\r\n\r\nHi"},
        received() | {"content": "Subject: nobody wrote this\r\n\r\nHi"},
        received(),
    ],
)
def test_mail_without_id_or_sender_is_set_aside(notice: dict[str, Any]) -> None:
    with pytest.raises(BadPayload):
        email_ses.ADAPTER.parse(notified(notice))


def test_large_mail_is_kept_by_what_is_known_until_it_is_fetched(webhook: MakeWebhook) -> None:
    """T58: the message is stored first, its file is named to be fetched."""
    (event,) = email_ses.ADAPTER.parse(webhook("email_ses/received_in_s3"))
    assert event.kind == "message"
    assert [each.media_id for each in message_in(event).attachments] == ["s3://fake-mail-bucket/in/fakesesid0003"]


@pytest.mark.parametrize("notice", ["plain words", "[]", {"notificationType": "AmazonSnsSubscriptionSucceeded"}, {}])
def test_other_news_is_ignored_and_counted(notice: object) -> None:
    (event,) = email_ses.ADAPTER.parse(notified(notice))
    assert event.kind == "ignored"


def test_one_bounce_is_news_for_each_recipient() -> None:
    """T59."""
    recipients = [{"emailAddress": "a@example.org", "status": "5.1.1"}, {"emailAddress": "b@example.org"}]
    bounce = {"feedbackId": "f", "bounceType": "Permanent", "bouncedRecipients": recipients}
    notice = {"notificationType": "Bounce", "mail": {"messageId": "sent-1"}, "bounce": bounce}
    events = email_ses.ADAPTER.parse(notified(notice))
    assert [(each.external_id, each.target_id, each.error) for each in events] == [
        ("f:0", "sent-1", "5.1.1"),
        ("f:1", "sent-1", None),
    ]
