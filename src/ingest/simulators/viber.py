"""Viber as Viber would call: one text message in a request signed with the bot's token."""

import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from ingest.simulators.base import Draft, SimulatedRequest


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one text message, signed with `auth_token`. Its token is a 64-bit number, as Viber's are."""
    digest = hashlib.sha256(draft.external_id.encode()).digest()
    body = msgspec.json.encode(
        {
            "event": "message",
            "timestamp": int(draft.sent_at.timestamp() * 1000),
            "chat_hostname": "SIMULATED",
            "message_token": int.from_bytes(digest[:8], "big"),
            "sender": {"id": f"{draft.sender:020d}AB==", "name": draft.name, "api_version": 10},
            "message": {"type": "text", "text": draft.text},
            "silent": False,
        }
    )
    signature = hmac.digest(settings["auth_token"].encode(), body, "sha256").hex()
    return SimulatedRequest(body, {"content-type": "application/json", "x-viber-content-signature": signature})
