"""Messenger as Meta would call: one text message to a page in a signed request."""

from collections.abc import Mapping

from ingest.simulators.base import Draft, SimulatedRequest
from ingest.simulators.meta import messaging, signed


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one text message to `page_id`, signed with `app_secret`."""
    message = {"mid": f"m_{draft.external_id}", "text": draft.text}
    person = str(6_100_000_000_000_000 + draft.sender)
    return signed(messaging("page", settings["page_id"], person, draft.sent_at, message), settings)
