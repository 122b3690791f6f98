"""Mailgun as it looks from outside: the form of a route with forward(), signed with the channel's key.

Source: Mailgun documentation, "Receiving, forwarding and storing messages", "Securing webhooks".
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from email.utils import format_datetime, formataddr
from urllib.parse import urlencode

from ingest.simulators.base import Draft, SimulatedRequest


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST by which Mailgun hands over the draft as a mail to the channel's mailbox, SPF and DKIM passed."""
    message_id = f"<{draft.external_id}@{draft.email.rpartition('@')[2]}>"
    headers = [
        ("X-Mailgun-Dkim-Check-Result", "Pass"),
        ("X-Mailgun-Spf", "Pass"),
        ("X-Mailgun-Incoming", "Yes"),
        ("Received", f"from mx.example.org by mxa.mailgun.org; {format_datetime(draft.sent_at)}"),
        ("Message-Id", message_id),
        ("Date", format_datetime(draft.sent_at)),
        ("From", formataddr((draft.name, draft.email))),
        ("To", settings["mailbox"]),
        ("Subject", "A question"),
    ]
    fields = {
        "recipient": settings["mailbox"],
        "sender": draft.email,
        "from": formataddr((draft.name, draft.email)),
        "subject": "A question",
        "Message-Id": message_id,
        "body-plain": draft.text,
        "stripped-text": draft.text,
        "message-headers": json.dumps(headers),
        **_proof(draft, settings["signing_key"]),
    }
    return SimulatedRequest(urlencode(fields).encode(), {"content-type": "application/x-www-form-urlencoded"})


def _proof(draft: Draft, key: str) -> dict[str, str]:
    timestamp = str(int(draft.sent_at.timestamp()))
    token = hashlib.sha256(draft.external_id.encode()).hexdigest()[:50]
    signature = hmac.new(key.encode(), (timestamp + token).encode(), "sha256").hexdigest()
    return {"timestamp": timestamp, "token": token, "signature": signature}
