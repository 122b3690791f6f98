"""Another system writing to a custom channel: an envelope with one message, signed, or with the bearer token."""

import hmac
import time
from collections.abc import Mapping

import msgspec

from ingest.simulators.base import Draft, SimulatedRequest


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one message, signed now with `secret` where the channel has one, else with `token`."""
    event = {
        "id": draft.external_id,
        "type": "message",
        "at": int(draft.sent_at.timestamp() * 1000),
        "contact": {"key": f"person-{draft.sender}", "name": draft.name, "phone": draft.phone, "email": draft.email},
        "message": {"text": draft.text},
    }
    body = msgspec.json.encode({"v": 1, "events": [event]})
    headers = {"content-type": "application/json"}
    if settings.get("secret"):
        # The signature has the time of the request, which may be long after that of the message.
        signed_at = int(time.time())
        digest = hmac.digest(settings["secret"].encode(), f"{signed_at}.".encode() + body, "sha256").hex()
        headers["x-ingest-signature"] = f"t={signed_at},v1={digest}"
    else:
        headers["authorization"] = f"Bearer {settings['token']}"
    return SimulatedRequest(body, headers)
