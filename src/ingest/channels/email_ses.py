"""Amazon SES through SNS: a mail received, or news of a mail sent, as a signed notification of one pinned topic.

Source: Amazon SNS, "Verifying the signatures of Amazon SNS messages", "Parsing message formats"; Amazon SES, "Contents of
notifications for email receiving", "Notification contents" (bounce, complaint, delivery).

Adapters do not call out, so Amazon's signing certificate is a setting: fetch the PEM at the `SigningCertURL` of any
notification (`curl https://sns.<region>.amazonaws.com/SimpleNotificationService-<id>.pem`) and give it as
`signing_certificate`. Amazon changes it about yearly; the new one can stand beside the old as the secret's second value.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import urlsplit

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509 import Certificate, load_pem_x509_certificates

from ingest.channels.base import (
    Adapter,
    BadPayload,
    BadSignature,
    Setting,
    Webhook,
    decode_json,
    require_equal,
    require_recent,
    require_setting,
    unbase64,
)
from ingest.channels.fields import as_object, required, text_in, words_in
from ingest.channels.mail import MAIL_SETTINGS, MAILBOX, MAX_BODY, unproved_json
from ingest.channels.mail_ses import received_events, sent_events
from ingest.domain.events import JSON, InboundEvent, Message, ignored

log = structlog.get_logger(__name__)

TOPIC_ARN = Setting(
    "topic_arn", "The one SNS topic whose notifications are taken, such as arn:aws:sns:eu-west-1:1234:mail"
)
SIGNING_CERTIFICATE = Setting(
    "signing_certificate",
    "Amazon SNS's signing certificate (PEM), from the SigningCertURL of a notification",
    secret=True,
)
# The default policy of a subscription retries for about 6 hours with the first attempt's signature.
WINDOW_SECONDS = 24 * 3600

_SIGNED_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_HASHES: dict[str, type[HashAlgorithm]] = {"1": SHA1, "2": SHA256}
_HEADERS = {"x-amz-sns-message-type": "Type", "x-amz-sns-message-id": "MessageId", "x-amz-sns-topic-arn": "TopicArn"}
_HOST = re.compile(r"sns\.[a-z0-9-]{3,40}\.amazonaws\.com(\.cn)?")
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9-]+\.pem")


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless Amazon signed the notification, for our topic, within a day.

    A valid signature alone only shows that the notification came from somebody's topic.
    """
    try:
        body = as_object(unproved_json(hook))
    except BadPayload as unreadable:
        raise BadSignature("request cannot be read") from unreadable
    for header, name in _HEADERS.items():
        require_equal(hook.header(header), words_in(body, name))
    require_equal(words_in(body, "TopicArn"), require_setting(hook, TOPIC_ARN.name))
    if not _is_certificate_url(words_in(body, "SigningCertURL")):
        raise BadSignature("signing certificate is not Amazon's")
    _require_signature(body, hook)
    require_recent(_signed_at(body), hook.received_at, WINDOW_SECONDS)


def _signed_at(body: JSON) -> datetime:
    try:
        at = datetime.fromisoformat(words_in(body, "Timestamp"))
    except ValueError:
        raise BadSignature("signed time is no time") from None
    return at.replace(tzinfo=at.tzinfo or UTC)


def _is_certificate_url(url: str) -> bool:
    return _is_amazon(url) and bool(_CERTIFICATE_PATH.fullmatch(urlsplit(url).path))


def _is_amazon(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(_HOST.fullmatch(parts.netloc))
    except ValueError:
        return False


def _require_signature(body: JSON, hook: Webhook) -> None:
    signature, signed = unbase64(words_in(body, "Signature")), _string_to_sign(body)
    algorithm = _HASHES.get(words_in(body, "SignatureVersion"))
    if algorithm is None:
        raise BadSignature("signature version is neither 1 nor 2")
    certificates = [each for pem in hook.accepted(SIGNING_CERTIFICATE.name) for each in _certificates(pem)]
    valid = [each for each in certificates if _is_valid(each, hook)]
    if not any(_is_signed(each, signature, signed, algorithm()) for each in valid):
        raise BadSignature("signature missing or wrong, or signing_certificate out of date: fetch SigningCertURL anew")


def _string_to_sign(body: JSON) -> bytes:
    names = _SIGNED_FIELDS.get(words_in(body, "Type"))
    if names is None:
        raise BadSignature("type of notification is unknown")
    present = [name for name in names if isinstance(body.get(name), str)]
    if [name for name in names if name not in present] not in ([], ["Subject"]):
        raise BadSignature("signed field is missing")
    return "".join(f"{name}\n{body[name]}\n" for name in present).encode("utf-8", "replace")


@lru_cache(maxsize=64)
def _certificates(pem: str) -> tuple[Certificate, ...]:
    """Return the certificates in a PEM text; none where it is unreadable."""
    try:
        return tuple(load_pem_x509_certificates(pem.encode()))
    except ValueError:
        return ()


def _is_valid(certificate: Certificate, hook: Webhook) -> bool:
    return certificate.not_valid_before_utc <= hook.received_at <= certificate.not_valid_after_utc


def _is_signed(certificate: Certificate, signature: bytes, signed: bytes, algorithm: HashAlgorithm) -> bool:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(signature, signed, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the events of a mail received or sent; one ignored event for anything else that SNS sends.

    Raises BadPayload for a notification without id, and for a mail without id or sender.
    """
    body = as_object(hook.json())
    name = required(body, "MessageId")
    if text_in(body, "Type") != "Notification":
        return [_confirmation(body, name)]
    try:
        inner = as_object(decode_json(words_in(body, "Message")))
    except BadPayload:
        # SES greets a new topic with a line of plain text.
        return [ignored(name, "not_a_mail")]
    if text_in(inner, "notificationType", "eventType") == "Received":
        return received_events(inner, hook)
    return sent_events(inner, hook) or [ignored(name, "tracking_event")]


def _confirmation(body: JSON, name: str) -> InboundEvent:
    """Return an ignored event, and tell the operator: only a person may confirm a subscription, by opening its URL."""
    url = words_in(body, "SubscribeURL")
    if text_in(body, "Type") != "SubscriptionConfirmation":
        return ignored(name, "unsubscribe_confirmation")
    if not _is_amazon(url):
        return ignored(name, "subscription_of_foreign_host")
    log.warning("subscription.awaits_confirmation", host=urlsplit(url).netloc, subscribe_url=url)
    details = {"subscribe_url": url}
    message = Message("unsupported", raw_kind="SubscriptionConfirmation", details=details)
    return InboundEvent("ignored", name, message=message, reason="subscription_confirmation")


ADAPTER = Adapter(
    "email_ses",
    verify,
    parse,
    settings=(*MAIL_SETTINGS, TOPIC_ARN, SIGNING_CERTIFICATE),
    account_setting=MAILBOX.name,
    address_kind="email",
    startable=True,
    source="other_email",
    max_body=MAX_BODY,
)
