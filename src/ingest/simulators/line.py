"""LINE as LINE would call: one text message in a request signed with the channel secret."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from ingest.simulators.base import Draft, SimulatedRequest

BOT_USER_ID = f"U{'0' * 29}b07"


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one text message to the bot `bot_user_id`, signed with `channel_secret`."""
    digest = hashlib.sha256(draft.external_id.encode()).hexdigest()
    event = {
        "type": "message",
        "mode": "active",
        "timestamp": int(draft.sent_at.timestamp() * 1000),
        "webhookEventId": f"01{digest[:24].upper()}",
        "deliveryContext": {"isRedelivery": False},
        "replyToken": digest[:32],
        "source": {"type": "user", "userId": f"U{draft.sender:032x}"},
        # Digits beyond what a float holds, as LINE's own ids are.
        "message": {"type": "text", "id": str(int(digest[:15], 16)), "text": draft.text, "quoteToken": digest[32:]},
    }
    body = msgspec.json.encode({"destination": settings.get("bot_user_id") or BOT_USER_ID, "events": [event]})
    signature = base64.b64encode(hmac.digest(settings["channel_secret"].encode(), body, "sha256")).decode()
    return SimulatedRequest(body, {"content-type": "application/json; charset=utf-8", "x-line-signature": signature})
