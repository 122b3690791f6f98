"""Mails written by mail servers about mail of ours: bounces, read receipts, complaints.

Source: RFC 3464 (delivery status), 8098 (disposition), 5965 (feedback). Each carries its facts as header-like fields in
a part of its own, and the mail it is about, or its header, in another. None of them is a message of a contact.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from ingest.channels.mail_headers import Headers, addresses, message_ids, thread_ids
from ingest.channels.mail_mime import Mail, read_headers
from ingest.domain.events import InboundEvent, Sender, StatusValue, ignored

MAX_RECIPIENTS = 100
MAX_ERROR = 500

_STATUSES: dict[str, StatusValue] = {
    "failed": "failed",
    "delivered": "delivered",
    "relayed": "delivered",
    "expanded": "delivered",
}
_ORIGINALS = ("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers")
_BLOCKS = re.compile(rb"\r?\n[ \t]*(?:\r?\n[ \t]*)+")


@dataclass(frozen=True, slots=True)
class About:
    """What every event has: its id, our mailbox, the provider's time."""

    id: str
    account: str
    sent_at: datetime | None


def status_changed(about: About, target: str, status: StatusValue, error: str = "") -> InboundEvent:
    """Return the event for news of a mail that we sent. `target` is its Message-ID, or the id its provider gave it."""
    told = error[:MAX_ERROR] if status == "failed" else ""
    return InboundEvent(
        "status", about.id, about.account, sent_at=about.sent_at, target_id=target, status=status, error=told or None
    )


def opted_out(about: About, address: str, reason: str, target: str | None = None) -> InboundEvent:
    """Return the event for a recipient who complained or unsubscribed; ignored where no address is given."""
    boxes = addresses(address)
    if not boxes:
        return ignored(about.id, "opt_out_of_nobody", about.account)
    sender = Sender(boxes[0].key, email=boxes[0].address, verified=False)
    return InboundEvent("opt_out", about.id, about.account, sender, about.sent_at, target_id=target, reason=reason)


def report_events(mail: Mail, about: About) -> list[InboundEvent]:
    """Return the events of a report; an empty list for a mail that is none."""
    for attachment in mail.attachments:
        content = attachment.content or b""
        match attachment.mime_type:
            case "message/delivery-status" | "message/global-delivery-status":
                return list(_deliveries(mail, content, about))
            case "message/disposition-notification" | "message/global-disposition-notification":
                return [_disposition(mail, read_headers(content.lstrip()), about)]
            case "message/feedback-report":
                return [_feedback(mail, read_headers(content.lstrip()), about)]
    return []


def _deliveries(mail: Mail, content: bytes, about: About) -> Iterator[InboundEvent]:
    """Yield a status for each recipient that the bounce names, in order."""
    target = _original_id(mail)
    blocks = [read_headers(block) for block in _BLOCKS.split(content.strip())]
    recipients = [block for block in blocks if block.get("action")][:MAX_RECIPIENTS]
    if target is None or not recipients:
        yield ignored(about.id, "bounce_of_unknown_mail", about.account)
        return
    for index, block in enumerate(recipients):
        each = about if index == 0 else replace(about, id=f"{about.id}:{index}")
        status = _STATUSES.get(block.get("action").split()[0].lower())
        if status is None:
            yield ignored(each.id, "delivery_delayed", each.account)
        else:
            yield status_changed(each, target, status, _error(block))


def _error(block: Headers) -> str:
    return " ".join(filter(None, (block.get("status"), block.get("diagnostic-code"))))


def _disposition(mail: Mail, report: Headers, about: About) -> InboundEvent:
    ids = message_ids(report.get("original-message-id"))
    target = ids[0] if ids else _original_id(mail)
    if target is None or "displayed" not in report.get("disposition").lower():
        return ignored(about.id, "disposition_without_effect", about.account)
    return status_changed(about, target, "read")


def _feedback(mail: Mail, report: Headers, about: About) -> InboundEvent:
    kind = report.get("feedback-type").lower() or "abuse"
    if kind == "not-spam":
        return ignored(about.id, "complaint_taken_back", about.account)
    named = [report.get("original-rcpt-to").removeprefix("rfc822;"), *(each.get("to") for each in _originals(mail))]
    return opted_out(about, ", ".join(filter(None, named)), f"complaint:{kind}", _original_id(mail))


def _originals(mail: Mail) -> Iterator[Headers]:
    for attachment in mail.attachments:
        if attachment.mime_type in _ORIGINALS:
            yield read_headers(attachment.content or b"")


def _original_id(mail: Mail) -> str | None:
    """Return the Message-ID of the mail that a report is about: from the copy in it, else from what it answers."""
    for original in _originals(mail):
        if ids := message_ids(original.get("message-id")):
            return ids[0]
    answered = thread_ids(mail.headers)
    return answered[0] if answered else None
