"""Raw mail from a mail server of one's own: an RFC 5322 message per POST, or per LMTP delivery.

Ours: the message is the body (`Content-Type: message/rfc822`), its envelope recipient stands in `X-Envelope-To` (several
by commas), its envelope sender, where known, in `X-Envelope-From` ("<>" for bounces). Proof is a bearer token or basic
authentication. A mail server's pipe transport needs one line of curl; `ingest.lmtp` speaks LMTP instead.
"""

from dataclasses import replace

from ingest.channels.base import Adapter, BadPayload, Setting, Webhook, require_equal
from ingest.channels.mail import (
    MAIL_SETTINGS,
    MAILBOX,
    MAX_BODY,
    OPTIONAL_BASIC_AUTH,
    Delivery,
    mail_events,
    require_basic,
)
from ingest.channels.mail_headers import Headers, addresses
from ingest.channels.mail_mime import read_mail
from ingest.channels.mail_text import decode_bytes
from ingest.channels.mail_trust import authentication_results
from ingest.domain.events import InboundEvent

TOKEN = Setting("token", "Bearer token of your mail server; this or basic_auth", secret=True, required=False)
AUTHSERV_ID = Setting(
    "authserv_id",
    "The name your mail server signs Authentication-Results with; without it every sender counts as unproved",
    required=False,
)
ENVELOPE_TO = "x-envelope-to"
ENVELOPE_FROM = "x-envelope-from"


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the request carries the channel's bearer token, or its basic authentication."""
    scheme, _, given = hook.header("authorization").partition(" ")
    if scheme.lower() == "basic":
        require_basic(hook)
    else:
        require_equal(given if scheme.lower() == "bearer" else "", *hook.accepted(TOKEN.name))


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the mail's events for each recipient of its envelope. Raises BadPayload for a mail that names no sender."""
    if not hook.body.strip():
        raise BadPayload("body is empty")
    mail = read_mail(hook.body)
    envelope_from = hook.headers.get(ENVELOPE_FROM)
    delivery = Delivery(
        recipients=_recipients(hook, mail.headers),
        envelope_from=None if envelope_from is None else _utf8(envelope_from).strip().strip("<>"),
        verdict=authentication_results(mail.headers, hook.settings.get(AUTHSERV_ID.name, "").strip()),
    )
    return mail_events(mail, delivery, hook)


def _recipients(hook: Webhook, headers: Headers) -> tuple[str, ...]:
    """Return the envelope's recipients; second best, those a server noted in the mail. `To` may not name us at all."""
    given = (_utf8(hook.header(ENVELOPE_TO)), headers.get("delivered-to"), headers.get("x-original-to"))
    found = next((boxes for boxes in map(addresses, given) if boxes), [])
    return tuple(box.address for box in found)


def _utf8(value: str) -> str:
    """Return a header's value as the text it stands for: HTTP servers hand header bytes over as Latin-1."""
    return decode_bytes(value.encode("latin-1")) if max(value, default="") <= "\xff" else value


ADAPTER = Adapter(
    "email_mime",
    verify,
    parse,
    settings=(*MAIL_SETTINGS, TOKEN, replace(OPTIONAL_BASIC_AUTH, help="user:password; this or token"), AUTHSERV_ID),
    account_setting=MAILBOX.name,
    address_kind="email",
    startable=True,
    source="other_email",
    max_body=MAX_BODY,
    content_types=("message/rfc822",),
)
