"""Instagram Direct as Meta would call: one text message to an account in a signed request."""

from collections.abc import Mapping

from ingest.simulators.base import Draft, SimulatedRequest
from ingest.simulators.meta import messaging, signed


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one text message to `account_id`, signed with `app_secret`."""
    message = {"mid": f"aWdf{draft.external_id}", "text": draft.text}
    person = str(1_320_000_000_000_000 + draft.sender)
    return signed(messaging("instagram", settings["account_id"], person, draft.sent_at, message), settings)
