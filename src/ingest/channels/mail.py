"""A mail into events: the rules that hold for every route by which mail comes.

Source: RFC 5322 (From, Sender, Message-ID), 3834 and 2919 (mail that no person wrote). An adapter gives the mail taken
apart and a `Delivery`, what its provider says about it; this module says what that means.
"""

import binascii
import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ingest.channels.base import MIB, Setting, Webhook, clamp, require_equal
from ingest.channels.mail_headers import (
    Headers,
    MailAddress,
    addresses,
    date_in,
    message_ids,
    received_at,
    thread_ids,
    without_tag,
    words,
)
from ingest.channels.mail_mime import Mail
from ingest.channels.mail_quotes import strip_reply
from ingest.channels.mail_reports import About, report_events
from ingest.channels.mail_trust import Verdict
from ingest.domain.events import InboundEvent, Message, Sender, ignored
from ingest.errors import BadPayload, BadSignature

MAX_BODY = 30 * MIB
# Notices in JSON that prove themselves, so that they are read before they are proved. Amazon's end at 256 KiB.
MAX_NOTICE = MIB
MAX_HOPS = 30
MAX_MESSAGE_ID = 250

MAILBOX = Setting("mailbox", "The address this channel receives, such as help@in.example.net, without plus-tags")
OWN_ADDRESSES = Setting(
    "own_addresses", "Further addresses that you send from, by commas: mail from them is a loop", required=False
)
REPLY_TO_IS_SENDER = Setting(
    "reply_to_is_sender", "yes where a web form sends for the customer and names them in Reply-To", required=False
)
BASIC_AUTH = Setting("basic_auth", "user:password, as they stand in the webhook URL", secret=True)
OPTIONAL_BASIC_AUTH = replace(BASIC_AUTH, required=False)
MAIL_SETTINGS = (MAILBOX, OWN_ADDRESSES, REPLY_TO_IS_SENDER)

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", re.IGNORECASE | re.ASCII)
_REPLY_PREFIX = re.compile(r"^\s*(?:(?:re|fwd?|aw|wg|sv|tr|rv)\s*:\s*)+", re.IGNORECASE)
_UNSUBSCRIBE = re.compile(r"\W*unsubscribe(?: me)?\W*", re.IGNORECASE)


NO_VERDICT = Verdict()


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the route says about a mail. `recipients` are mailboxes of ours, one event each.

    `envelope_from` is None where it is unknown and "" for the null sender of bounces. `at` is when the provider took the
    mail. `id` is the provider's own id for it, where redeliveries repeat that. `flags` are words such as "spam".
    """

    recipients: tuple[str, ...]
    envelope_from: str | None = None
    verdict: Verdict = NO_VERDICT
    at: datetime | None = None
    id: str = ""
    flags: tuple[str, ...] = ()


def mail_events(mail: Mail, delivery: Delivery, hook: Webhook) -> list[InboundEvent]:
    """Return the mail's events, for each mailbox of ours it came to. Raises BadPayload where nobody can be its sender.

    They have the same ids for each mailbox, which `account` tells apart.
    """
    events: list[InboundEvent] = []
    for mailbox, tag in _mailboxes(delivery, hook).items():
        about = About(delivery.id or content_id(mail), mailbox, _sent_at(mail, delivery, hook))
        events += _events(mail, replace(delivery, recipients=(mailbox,)), hook, about, tag)
    return events


def require_basic(hook: Webhook) -> None:
    """Raise BadSignature unless the request's basic authentication is one of the channel's `user:password` pairs."""
    scheme, _, given = hook.header("authorization").partition(" ")
    try:
        pair = binascii.a2b_base64(given.encode("ascii"), strict_mode=True).decode()
    except ValueError:
        pair = ""
    require_equal(pair if scheme.lower() == "basic" else "", *hook.accepted(BASIC_AUTH.name))


def unproved_json(hook: Webhook) -> Any:
    """Return the body as JSON, read for the proof in it. Raises BadPayload as `decode_json` does, and beyond 1 MiB."""
    if len(hook.body) > MAX_NOTICE:
        raise BadPayload("notice is longer than 1 MiB")
    return hook.json()


def signed_time(seconds: str) -> datetime:
    """Return a signed unix time in seconds. Raises BadSignature where it is none."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        raise BadSignature("signed time is no time") from None


def content_id(mail: Mail) -> str:
    """Return an id made of what the sender sent: Message-ID, From, Date, Subject and text, whatever route it came by.

    The Message-ID alone does not do: some programs repeat theirs, and anybody may copy one.
    """
    headers = mail.headers
    own = (message_ids(headers.get("message-id")) or [""])[0]
    written_by = (box.key for box in addresses(headers.get("from")))
    parts = (",".join(written_by), headers.get("date"), words(headers.get("subject")), mail.text)
    canonical = "\n".join(" ".join(part.split()) for part in parts)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:32]
    return f"{own}#{digest}" if own and len(own) <= MAX_MESSAGE_ID else f"mail#{digest}"


def mailbox_of(recipient: str, hook: Webhook) -> tuple[str, str | None]:
    """Return a mailbox of ours and the plus-tag it was reached by. The channel's own is spelt as its setting spells it."""
    own = hook.settings.get(MAILBOX.name, "")
    mailbox, tag = without_tag(recipient)
    return (own, tag) if own and without_tag(own)[0] == mailbox else (mailbox, tag)


def _mailboxes(delivery: Delivery, hook: Webhook) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for recipient in delivery.recipients:
        mailbox, tag = mailbox_of(recipient, hook)
        found.setdefault(mailbox, tag)
    return found or {hook.settings.get(MAILBOX.name, ""): None}


def _sent_at(mail: Mail, delivery: Delivery, hook: Webhook) -> datetime | None:
    """Return when the mail arrived at the provider. The sender's clock is believed only where nobody else has one."""
    at = delivery.at or received_at(mail.headers) or date_in(mail.headers.get("date"))
    return clamp(at, hook.received_at) if at else None


def _events(mail: Mail, delivery: Delivery, hook: Webhook, about: About, tag: str | None) -> list[InboundEvent]:
    if reports := report_events(mail, about):
        return reports
    written_by = _author(mail.headers, hook)
    if loop := _loop(mail.headers, written_by, delivery, hook):
        return [ignored(about.id, loop, about.account)]
    if written_by is None:
        raise BadPayload("mail without a sender's address")
    automatic = _automatic(mail.headers, written_by, delivery)
    event = InboundEvent(
        "message",
        about.id,
        about.account,
        _sender(mail.headers, written_by, delivery),
        about.sent_at,
        _message(mail, delivery, tag, automatic),
        automatic=automatic is not None,
    )
    return [event, *_opt_out(event)]


def _author(headers: Headers, hook: Webhook) -> MailAddress | None:
    """Return who wrote: From, or Sender where From names several or nobody; Reply-To first where the channel says so."""
    fields = ["from", "sender"]
    if hook.settings.get(REPLY_TO_IS_SENDER.name, "").lower() in ("yes", "true", "1"):
        fields.insert(0, "reply-to")
    found = {name: addresses(headers.get(name)) for name in fields}
    single = next((boxes[0] for boxes in found.values() if len(boxes) == 1), None)
    return single or next((boxes[0] for boxes in found.values() if boxes), None)


def _loop(headers: Headers, written_by: MailAddress | None, delivery: Delivery, hook: Webhook) -> str | None:
    own = [hook.settings.get(MAILBOX.name, ""), *hook.settings.get(OWN_ADDRESSES.name, "").split(",")]
    ours = {without_tag(each)[0] for each in (*own, *delivery.recipients) if each.strip()}
    if written_by is not None and without_tag(written_by.address)[0] in ours:
        return "own_address"
    return "mail_loop" if len(headers.all("received")) > MAX_HOPS else None


def _automatic(headers: Headers, written_by: MailAddress, delivery: Delivery) -> str | None:
    """Return why this mail was not written by a person just now; None where nothing says so."""
    precedence = headers.get("precedence").lower()
    bounces_to = headers.get("return-path") if delivery.envelope_from is None else delivery.envelope_from or "<>"
    signs = {
        "auto_submitted": headers.get("auto-submitted").lower().partition(";")[0].strip() not in ("", "no"),
        "auto_response": any(map(headers.get, ("x-autoreply", "x-autorespond", "x-auto-response-suppress"))),
        "mailing_list": bool(headers.get("list-id")) or precedence == "list",
        "bulk": precedence in ("bulk", "junk", "auto_reply"),
        "null_sender": bounces_to.strip() == "<>",
        "report": headers.get("content-type").lower().startswith("multipart/report"),
        "own_message_id": _has_own_message_id(headers, written_by, delivery),
    }
    return next((name for name, found in signs.items() if found), None)


def _has_own_message_id(headers: Headers, written_by: MailAddress, delivery: Delivery) -> bool:
    """Return whether mail of ours came back under another name: its id is of our domain, its author is not."""
    own = {each.rpartition("@")[2] for each in delivery.recipients}
    ids = message_ids(headers.get("message-id"))
    return bool(ids) and ids[0].rpartition("@")[2].lower() in own and written_by.domain not in own


def _sender(headers: Headers, written_by: MailAddress, delivery: Delivery) -> Sender:
    # Two From fields, or two mailboxes in one, are a known way to show one sender and prove another.
    is_plain = len(headers.all("from")) == 1 and addresses(headers.get("from")) == [written_by]
    language = (headers.get("content-language") or headers.get("accept-language")).split(",")[0].strip()
    return Sender(
        # Mailboxes that tell upper from lower case are not met in practice; two contacts for one person are.
        written_by.key,
        email=written_by.address,
        display_name=written_by.name,
        language=language if _LANGUAGE.fullmatch(language) else None,
        verified=is_plain and delivery.verdict.proves(written_by.domain),
    )


def _message(mail: Mail, delivery: Delivery, tag: str | None, automatic: str | None) -> Message:
    headers = mail.headers
    details: dict[str, Any] = {
        "stripped_text": strip_reply(mail.text),
        "message_id": (message_ids(headers.get("message-id")) or [""])[0],
        "date": headers.get("date"),
        "from": headers.get("from"),
        "envelope_from": delivery.envelope_from,
        "mailbox_tag": tag,
        "automatic": automatic,
        "authentication": delivery.verdict.as_details(),
        "flags": list(delivery.flags),
        "inline": list(mail.inline),
        "is_cut": mail.is_cut,
    }
    for name in ("to", "cc", "reply-to"):
        details[name.replace("-", "_")] = [box.address for box in addresses(headers.get(name))]
    return Message(
        "email",
        mail.text,
        mail.attachments,
        subject=words(headers.get("subject")) or None,
        thread_ids=thread_ids(headers),
        details={name: value for name, value in details.items() if value},
    )


def _opt_out(event: InboundEvent) -> list[InboundEvent]:
    """Return the refusal that a person put into the subject or the first line, as an event beside the message."""
    if event.automatic or event.message is None:
        return []
    subject = _REPLY_PREFIX.sub("", event.message.subject or "")
    first_line = event.message.details.get("stripped_text", "").partition("\n")[0]
    if not (_UNSUBSCRIBE.fullmatch(subject) or _UNSUBSCRIBE.fullmatch(first_line)):
        return []
    name = f"{event.external_id}:opt_out"
    return [InboundEvent("opt_out", name, event.account, event.sender, event.sent_at, reason="unsubscribe")]
