"""WhatsApp as Meta would call: one text message in a signed request, by a person with a phone and a scoped user id."""

from collections.abc import Mapping

from ingest.simulators.base import Draft, SimulatedRequest
from ingest.simulators.meta import signed


def simulate(draft: Draft, settings: Mapping[str, str], url: str) -> SimulatedRequest:
    """Return the POST of one text message to `phone_number_id`, signed with `app_secret`."""
    digits, user_id = draft.phone[1:], f"MY.{7_000_000_000_000_000 + draft.sender}"
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "60 3-2000 0000", "phone_number_id": settings["phone_number_id"]},
        "contacts": [{"profile": {"name": draft.name}, "wa_id": digits, "user_id": user_id}],
        "messages": [
            {
                "from": digits,
                "from_user_id": user_id,
                "id": f"wamid.{draft.external_id}",
                "timestamp": str(int(draft.sent_at.timestamp())),
                "type": "text",
                "text": {"body": draft.text},
            }
        ],
    }
    change = {"field": "messages", "value": value}
    return signed({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}, settings)
