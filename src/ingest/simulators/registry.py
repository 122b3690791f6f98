"""The simulators there are, by channel code."""

from functools import cache
from importlib import import_module

from ingest.simulators.base import Simulate

CODES = (
    "whatsapp_cloud",
    "messenger",
    "instagram",
    "telegram",
    "twilio_sms",
    "line",
    "viber",
    "email_mailgun",
    "webchat",
    "custom",
)


@cache
def get_simulator(code: str) -> Simulate:
    """Return the simulator. Raises KeyError where the channel has none."""
    if code not in CODES:
        raise KeyError(code)
    simulate: Simulate = import_module(f"ingest.simulators.{code}").simulate
    return simulate
