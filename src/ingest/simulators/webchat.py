"""The web chat widget as it would call: one message, with a visitor token and who the site says the visitor is."""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from ingest.channels.webchat import issue_visitor_token
from ingest.simulators.base import Draft, SimulatedRequest

FIRST_VISIT = datetime(2025, 1, 1, tzinfo=UTC)
VALID_SECONDS = 3600


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one message to the inbox `inbox_key`, its token signed with `session_key`.

    The visitor's email and phone are proved where the channel has an `identity_secret`, else they are claims.
    """
    sid = f"visitor-{draft.sender}"
    token = issue_visitor_token(settings["inbox_key"], sid, FIRST_VISIT, settings["session_key"])
    at = int(draft.sent_at.timestamp() * 1000)
    body = {
        "v": 1,
        "sid": sid,
        "context": {"locale": "en"},
        "identity": _identity(draft, settings.get("identity_secret", "")),
        "events": [{"id": draft.external_id, "type": "message", "at": at, "message": {"text": draft.text}}],
    }
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    return SimulatedRequest(msgspec.json.encode(body), headers)


def _identity(draft: Draft, secret: str) -> dict[str, object]:
    user_id, expires_at = f"customer-{draft.sender}", int(draft.sent_at.timestamp()) + VALID_SECONDS
    told: dict[str, object] = {"user_id": user_id, "name": draft.name, "email": draft.email, "phone": draft.phone}
    if not secret:
        return told
    signed = f"{user_id}\n{draft.email}\n{draft.phone}\n{expires_at}".encode()
    return {**told, "exp": expires_at, "proof": hmac.digest(secret.encode(), signed, "sha256").hex()}
