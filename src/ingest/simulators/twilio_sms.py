"""Twilio SMS as Twilio would forward it: a form, signed with the auth token over the URL and the fields."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlencode

from ingest.simulators.base import Draft, SimulatedRequest

OUR_NUMBER = "+15550199"


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one text message to the channel's `number`, signed with its `auth_token`."""
    sid = f"SM{hashlib.sha256(draft.external_id.encode()).hexdigest()[:32]}"
    fields = {
        "AccountSid": f"AC{'0' * 32}",
        "ApiVersion": "2010-04-01",
        "Body": draft.text,
        "From": draft.phone,
        "MessageSid": sid,
        "NumMedia": "0",
        "NumSegments": "1",
        "SmsMessageSid": sid,
        "SmsSid": sid,
        "SmsStatus": "received",
        "To": settings.get("number") or OUR_NUMBER,
    }
    signed = url + "".join(name + fields[name] for name in sorted(fields))
    signature = base64.b64encode(hmac.digest(settings["auth_token"].encode(), signed.encode(), "sha1")).decode()
    return SimulatedRequest(
        urlencode(fields).encode(),
        {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature},
    )
