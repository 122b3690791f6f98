"""Mailgun routes: one POST a recipient, as parsed fields or as the raw mail; and Mailgun's events about mail we sent.

Source: Mailgun documentation, "Receiving, forwarding and storing messages", "Webhooks", "Securing webhooks". A route to
a URL that ends in `mime` sends the raw mail, which is the better choice: nothing is lost on the way.

Mailgun takes 200 as success, 406 as "never again", and repeats after anything else for 8 hours. An unproved request is
answered 401 and not 406: when the cause is a wrong key on our side, no mail is lost while it is put right.
"""

from ingest.channels.base import (
    Adapter,
    BadPayload,
    BadSignature,
    Setting,
    Webhook,
    moment,
    require_hmac,
    require_recent,
    unhex,
)
from ingest.channels.fields import (
    as_object,
    as_text,
    attachment_kind,
    count_in,
    object_in,
    objects_in,
    text_in,
    words_in,
)
from ingest.channels.mail import (
    MAIL_SETTINGS,
    MAILBOX,
    MAX_BODY,
    Delivery,
    mail_events,
    mailbox_of,
    signed_time,
    unproved_json,
)
from ingest.channels.mail_form import Form, read_form
from ingest.channels.mail_headers import Headers, addresses, headers_of, message_ids
from ingest.channels.mail_mime import Mail, assemble, file_of, read_mail
from ingest.channels.mail_reports import About, opted_out, status_changed
from ingest.channels.mail_text import html_to_text
from ingest.channels.mail_trust import Verdict, domain_of, proved_signers
from ingest.domain.events import JSON, Attachment, InboundEvent, StatusValue, ignored

SIGNING_KEY = Setting("signing_key", "Mailgun's HTTP webhook signing key (Sending, Webhooks)", secret=True)
# Retries go on for 8 hours and may repeat the first attempt's signature.
WINDOW_SECONDS = 12 * 3600

_STATUSES: dict[str, StatusValue] = {
    "delivered": "delivered",
    "opened": "read",
    "failed": "failed",
    "rejected": "failed",
}
_HEADER_FIELDS = {
    "from": "from",
    "subject": "subject",
    "message-id": "Message-Id",
    "date": "Date",
    "in-reply-to": "In-Reply-To",
    "references": "References",
}


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless timestamp and token are signed with the signing key, and the time is within 12 hours.

    The signature covers neither mail nor recipient; the webhook's secret URL and HTTPS have to.
    """
    timestamp, token, signature = _proof(hook)
    signed = (timestamp + token).encode()
    require_hmac(unhex(signature), signed, "sha256", *hook.accepted(SIGNING_KEY.name))
    require_recent(signed_time(timestamp), hook.received_at, WINDOW_SECONDS)


def _proof(hook: Webhook) -> tuple[str, str, str]:
    try:
        if _is_json(hook):
            given = object_in(as_object(unproved_json(hook)), "signature")
            return words_in(given, "timestamp"), words_in(given, "token"), words_in(given, "signature")
        form = read_form(hook)
    except BadPayload as unreadable:
        raise BadSignature("request cannot be read") from unreadable
    return form.text("timestamp"), form.text("token"), form.text("signature")


def _is_json(hook: Webhook) -> bool:
    return hook.header("content-type").lower().startswith("application/json")


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the mail's message (or what a report or loop makes of it), or the event about a mail of ours.

    Raises BadPayload for a form that cannot be taken apart and for a mail that names no sender.
    """
    if _is_json(hook):
        return [_tracking_event(object_in(as_object(hook.json()), "event-data"), hook)]
    form = read_form(hook)
    mail = read_mail(form.fields["body-mime"]) if "body-mime" in form.fields else _parsed_mail(form)
    spam = _added(mail.headers).get("x-mailgun-sflag").lower() == "yes"
    delivery = Delivery(
        recipients=tuple(box.address for box in addresses(form.text("recipient"))),
        envelope_from=form.text("sender").strip() if "sender" in form.fields else None,
        verdict=_verdict(mail.headers, form.text("sender")),
        at=moment(form.text("timestamp"), hook.received_at),
        flags=("spam",) if spam else (),
    )
    return mail_events(mail, delivery, hook)


def _added(headers: Headers) -> Headers:
    """Return the fields that Mailgun itself wrote: further down the sender may have written them."""
    return headers.above("received") if headers.get("received") else Headers()


def _verdict(headers: Headers, envelope_from: str) -> Verdict:
    ours = _added(headers)
    spf = ours.get("x-mailgun-spf").lower() or None
    dkim = ours.get("x-mailgun-dkim-check-result").lower() or None
    return Verdict(spf, dkim, None, domain_of(envelope_from), proved_signers(headers, dkim))


def _parsed_mail(form: Form) -> Mail:
    html = form.text("body-html")
    plain = form.text("body-plain")
    files = [*_files(form), *_stored_files(form)]
    return assemble(_headers(form), plain if plain.strip() else html_to_text(html), [html], files)


def _headers(form: Form) -> Headers:
    given = form.json("message-headers")
    pairs = [pair for pair in given if isinstance(pair, list) and len(pair) == 2] if isinstance(given, list) else []
    headers = headers_of((str(name), str(value)) for name, value in pairs)
    missing = [(name, form.text(field)) for name, field in _HEADER_FIELDS.items() if not headers.get(name)]
    return Headers(headers.pairs + headers_of(missing).pairs)


def _files(form: Form) -> list[tuple[Attachment, str]]:
    """Return the files in the form, each with its Content-ID."""
    given = form.json("content-id-map")
    cids = {field: cid.strip("<>") for cid, field in given.items()} if isinstance(given, dict) else {}
    return [(file_of(each.name, each.mime_type, each.content), cids.get(each.field, "")) for each in form.files]


def _stored_files(form: Form) -> list[tuple[Attachment, str]]:
    """Return the files that Mailgun keeps for us to fetch: `attachments` of a route with store()."""
    given = {"items": form.json("attachments")}
    return [
        (
            Attachment(
                attachment_kind(words_in(each, "content-type")),
                url=text_in(each, "url"),
                name=text_in(each, "name"),
                mime_type=text_in(each, "content-type"),
                size=count_in(each, "size"),
            ),
            "",
        )
        for each in objects_in(given, "items")
    ]


def _tracking_event(data: JSON, hook: Webhook) -> InboundEvent:
    """Return what an event of Mailgun's says of a mail we sent: a refusal, a status, or nothing of interest."""
    headers = object_in(object_in(data, "message"), "headers")
    sent_by = addresses(words_in(headers, "from"))
    account = mailbox_of(sent_by[0].address, hook)[0] if sent_by else ""
    name, kind = text_in(data, "id"), text_in(data, "event") or ""
    targets = message_ids(words_in(headers, "message-id"))
    if name is None:
        raise BadPayload("event without id")
    about = About(name, account, moment(data.get("timestamp"), hook.received_at))
    if kind in ("complained", "unsubscribed"):
        return opted_out(about, text_in(data, "recipient") or "", kind)
    is_final = kind != "failed" or text_in(data, "severity") == "permanent"
    if kind not in _STATUSES or not targets or not is_final:
        return ignored(name, "tracking_event", account)
    told = object_in(data, "delivery-status")
    error = " ".join(filter(None, (as_text(told.get("code")), text_in(told, "message", "description"))))
    return status_changed(about, targets[0], _STATUSES[kind], error)


ADAPTER = Adapter(
    "email_mailgun",
    verify,
    parse,
    settings=(*MAIL_SETTINGS, SIGNING_KEY),
    account_setting=MAILBOX.name,
    address_kind="email",
    startable=True,
    source="other_email",
    max_body=MAX_BODY,
)
