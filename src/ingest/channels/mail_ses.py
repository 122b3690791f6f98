"""What Amazon SES says inside an SNS notification: a mail it received for us, or the fate of a mail we sent.

Source: Amazon SES, "Contents of notifications for email receiving", "Amazon SNS notification contents" (bounce,
complaint, delivery). A received mail up to 150 KB comes along; a larger one lies in S3 and is named, to be fetched.
"""

import binascii
from dataclasses import replace

from ingest.channels.base import Webhook
from ingest.channels.fields import instant, list_in, object_in, objects_in, required, text_in, words_in
from ingest.channels.mail import Delivery, mail_events, mailbox_of
from ingest.channels.mail_headers import Headers, headers_of
from ingest.channels.mail_mime import Mail, read_mail
from ingest.channels.mail_reports import About, opted_out, status_changed
from ingest.channels.mail_trust import Verdict, domain_of, proved_signers
from ingest.domain.events import JSON, Attachment, InboundEvent, ignored


def received_events(notice: JSON, hook: Webhook) -> list[InboundEvent]:
    """Return the events of a received mail, for each of our mailboxes. Raises BadPayload without id or sender."""
    told, receipt = object_in(notice, "mail"), object_in(notice, "receipt")
    mail = _mail(notice, told, receipt)
    source = words_in(told, "source")
    recipients = list_in(receipt, "recipients") or list_in(told, "destination")
    delivery = Delivery(
        recipients=tuple(each for each in recipients if isinstance(each, str)),
        envelope_from=source.strip("<>") if isinstance(told.get("source"), str) else None,
        verdict=_verdict(receipt, source, mail.headers),
        at=instant(text_in(told, "timestamp"), hook.received_at),
        id=required(told, "messageId"),
        flags=tuple(name for name in ("spam", "virus") if _status(receipt, name) == "fail"),
    )
    return mail_events(mail, delivery, hook)


def _mail(notice: JSON, told: JSON, receipt: JSON) -> Mail:
    content, action = words_in(notice, "content"), object_in(receipt, "action")
    if content:
        return read_mail(_decoded(content) if text_in(action, "encoding") == "BASE64" else content.encode())
    place = text_in(action, "bucketName"), text_in(action, "objectKey")
    stored = Attachment("file", media_id=f"s3://{place[0]}/{place[1]}", name="message.eml", mime_type="message/rfc822")
    return Mail(_headers(told), attachments=(stored,) if all(place) else (), is_cut=True)


def _decoded(content: str) -> bytes:
    try:
        return binascii.a2b_base64(content)
    except ValueError:
        return content.encode()


def _headers(told: JSON) -> Headers:
    listed = headers_of((words_in(each, "name"), words_in(each, "value")) for each in objects_in(told, "headers"))
    common = object_in(told, "commonHeaders")
    pairs = [(name, ", ".join(map(str, list_in(common, name)))) for name in ("from", "to", "cc")]
    pairs += [
        (name, words_in(common, key))
        for name, key in (("subject", "subject"), ("date", "date"), ("message-id", "messageId"))
    ]
    missing = headers_of((name, value) for name, value in pairs if value and not listed.get(name))
    return Headers(listed.pairs + missing.pairs)


def _status(receipt: JSON, check: str) -> str | None:
    return (text_in(object_in(receipt, f"{check}Verdict"), "status") or "").lower() or None


def _verdict(receipt: JSON, source: str, headers: Headers) -> Verdict:
    dkim = _status(receipt, "dkim")
    signers = proved_signers(headers, dkim)
    return Verdict(_status(receipt, "spf"), dkim, _status(receipt, "dmarc"), domain_of(source), signers)


def sent_events(notice: JSON, hook: Webhook) -> list[InboundEvent]:
    """Return the fate of a mail that we sent, an event for each recipient; an empty list for other news."""
    told = object_in(notice, "mail")
    target, source = text_in(told, "messageId"), text_in(told, "source")
    if target is None:
        return []
    account = mailbox_of(source, hook)[0] if source else ""
    match text_in(notice, "notificationType", "eventType"):
        case "Bounce":
            return _bounces(object_in(notice, "bounce"), target, account, hook)
        case "Complaint":
            return _complaints(object_in(notice, "complaint"), target, account, hook)
        case "Delivery":
            about = _about(object_in(notice, "delivery"), f"{target}:delivery", account, hook)
            return [status_changed(about, target, "delivered")]
    return []


def _about(news: JSON, name: str, account: str, hook: Webhook) -> About:
    at = instant(text_in(news, "timestamp"), hook.received_at)
    return About(text_in(news, "feedbackId") or name, account, at)


def _bounces(bounce: JSON, target: str, account: str, hook: Webhook) -> list[InboundEvent]:
    about = _about(bounce, f"{target}:bounce", account, hook)
    if text_in(bounce, "bounceType") == "Transient":
        return [ignored(about.id, "delivery_delayed", account)]
    recipients = objects_in(bounce, "bouncedRecipients") or [{}]
    errors = [" ".join(filter(None, (text_in(each, "status"), text_in(each, "diagnosticCode")))) for each in recipients]
    return [status_changed(_numbered(about, index), target, "failed", error) for index, error in enumerate(errors)]


def _complaints(complaint: JSON, target: str, account: str, hook: Webhook) -> list[InboundEvent]:
    about = _about(complaint, f"{target}:complaint", account, hook)
    reason = f"complaint:{text_in(complaint, 'complaintFeedbackType') or 'abuse'}"
    addresses = [text_in(each, "emailAddress") or "" for each in objects_in(complaint, "complainedRecipients")]
    return [opted_out(_numbered(about, index), each, reason, target) for index, each in enumerate(addresses)]


def _numbered(about: About, index: int) -> About:
    return replace(about, id=f"{about.id}:{index}")
