"""Telegram as its servers would call: one update with a text message, and the secret token in a header."""

import hashlib
from collections.abc import Mapping

import msgspec

from ingest.simulators.base import Draft, SimulatedRequest


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one text message in a private chat, with `secret_token`."""
    number = int.from_bytes(hashlib.blake2b(draft.external_id.encode(), digest_size=6).digest(), "big")
    first, _, last = draft.name.rpartition(" ")
    person = {"id": 7_000_000_000 + draft.sender, "first_name": first or last, "last_name": last}
    update = {
        "update_id": number,
        "message": {
            "message_id": number,
            "from": {**person, "is_bot": False, "language_code": "en"},
            "chat": {**person, "type": "private"},
            "date": int(draft.sent_at.timestamp()),
            "text": draft.text,
        },
    }
    headers = {"content-type": "application/json", "x-telegram-bot-api-secret-token": settings["secret_token"]}
    return SimulatedRequest(msgspec.json.encode(update), headers)
