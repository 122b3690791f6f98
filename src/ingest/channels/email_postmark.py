"""Postmark inbound: one JSON POST a mail, files in base64, the raw mail beside it where the stream includes it.

Source: Postmark developer documentation, "Inbound webhook", "Parse an email". Postmark signs nothing: the proof is the
basic authentication in the webhook URL. "Include raw email content" is the better choice.

Postmark repeats for about 10 hours and gives up at once on 403. An unproved request is answered 401: when the cause is
a wrong password on our side, no mail is lost while it is put right.
"""

import binascii
import re

from ingest.channels.base import Adapter, BadPayload, Webhook
from ingest.channels.fields import as_object, object_in, objects_in, required, text_in, words_in
from ingest.channels.mail import BASIC_AUTH, MAIL_SETTINGS, MAILBOX, MAX_BODY, Delivery, mail_events, require_basic
from ingest.channels.mail_headers import Headers, headers_of, written_address
from ingest.channels.mail_mime import Mail, assemble, file_of, read_mail
from ingest.channels.mail_text import html_to_text
from ingest.channels.mail_trust import Verdict, domain_of
from ingest.domain.events import JSON, Attachment, InboundEvent, ignored

_ENVELOPE_FROM = re.compile(r"envelope-from=\"?<?([^\s;>\"]+)", re.IGNORECASE)


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the request carries the user and password of the webhook URL."""
    require_basic(hook)


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the mail's events. Postmark's events about mail we sent have streams of their own and are ignored here.

    Raises BadPayload without Postmark's MessageID, and for a mail that names no sender.
    """
    body = as_object(hook.json())
    name = required(body, "MessageID")
    if text_in(body, "RecordType") not in (None, "Inbound"):
        return [ignored(f"{name}:{text_in(body, 'RecordType')}", "tracking_event")]
    raw = words_in(body, "RawEmail")
    mail = read_mail(raw.encode()) if raw else _parsed_mail(body)
    headers = _headers(body)
    delivery = Delivery(
        recipients=_recipients(body),
        envelope_from=headers.get("return-path").strip("<> ") if headers.get("return-path") else None,
        verdict=_verdict(headers),
        id=name,
        flags=("spam",) if headers.get("x-spam-status").lower().startswith("yes") else (),
    )
    return mail_events(mail, delivery, hook)


def _recipients(body: JSON) -> tuple[str, ...]:
    """Return the envelope's recipient, else whom the mail was written to."""
    recipient = text_in(body, "OriginalRecipient")
    if recipient:
        return (recipient,)
    return tuple(filter(None, (text_in(each, "Email") for each in objects_in(body, "ToFull"))))


def _verdict(headers: Headers) -> Verdict:
    """Return what Postmark's SPF check and SpamAssassin wrote; both stand above anything the sender wrote."""
    spf = headers.get("received-spf")
    tests = {each.strip() for each in headers.get("x-spam-tests").upper().split(",")}
    domain = _ENVELOPE_FROM.search(spf)
    # DKIM_VALID_AU: a signature of the author's own domain holds, which is what DMARC asks of DKIM.
    return Verdict(
        spf.partition(" ")[0].lower() or None,
        "pass" if "DKIM_VALID" in tests else None,
        "pass" if "DKIM_VALID_AU" in tests else None,
        domain_of(domain[1]) if domain else "",
    )


def _parsed_mail(body: JSON) -> Mail:
    html, plain = words_in(body, "HtmlBody"), words_in(body, "TextBody")
    files = [_file(each) for each in objects_in(body, "Attachments")]
    return assemble(_headers(body), plain if plain.strip() else html_to_text(html), [html], files)


def _headers(body: JSON) -> Headers:
    """Return the mail's fields: those Postmark lists, and those it has read into places of their own."""
    listed = headers_of((words_in(each, "Name"), words_in(each, "Value")) for each in objects_in(body, "Headers"))
    read = [
        ("from", [object_in(body, "FromFull")]),
        ("to", objects_in(body, "ToFull")),
        ("cc", objects_in(body, "CcFull")),
    ]
    pairs = [(name, ", ".join(filter(None, map(_written, boxes)))) for name, boxes in read]
    pairs += [
        (name, words_in(body, key)) for name, key in (("subject", "Subject"), ("date", "Date"), ("reply-to", "ReplyTo"))
    ]
    missing = headers_of((name, value) for name, value in pairs if value and not listed.get(name))
    return Headers(listed.pairs + missing.pairs)


def _written(box: JSON) -> str:
    address = text_in(box, "Email")
    return written_address(address, words_in(box, "Name")) if address else ""


def _file(given: JSON) -> tuple[Attachment, str]:
    encoded = words_in(given, "Content") or words_in(given, "Data")
    try:
        content = binascii.a2b_base64(encoded)
    except ValueError:
        raise BadPayload("attachment is not base64") from None
    return (
        file_of(words_in(given, "Name"), words_in(given, "ContentType"), content),
        words_in(given, "ContentID").strip("<> "),
    )


ADAPTER = Adapter(
    "email_postmark",
    verify,
    parse,
    settings=(*MAIL_SETTINGS, BASIC_AUTH),
    account_setting=MAILBOX.name,
    address_kind="email",
    startable=True,
    source="other_email",
    max_body=MAX_BODY,
)
