"""What the simulators of Meta's products share: the signature."""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ingest.simulators.base import SimulatedRequest

ENCODER = msgspec.json.Encoder()


def signed(payload: Any, settings: Mapping[str, str]) -> SimulatedRequest:
    """Return the POST of the payload, signed with `app_secret`."""
    body = ENCODER.encode(payload)
    digest = hmac.digest(settings["app_secret"].encode(), body, "sha256").hex()
    return SimulatedRequest(body, {"content-type": "application/json", "x-hub-signature-256": f"sha256={digest}"})


def messaging(object_: str, account: str, person: str, sent_at: datetime, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of one message of a person to a page or account."""
    at = int(sent_at.timestamp() * 1000)
    item = {"sender": {"id": person}, "recipient": {"id": account}, "timestamp": at, "message": message}
    return {"object": object_, "entry": [{"id": account, "time": at, "messaging": [item]}]}
