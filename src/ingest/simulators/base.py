"""What every provider simulator shares: a draft of a message in, the request the provider would send out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to simulate. `sender` numbers the person: the same number is the same person on every channel.

    `phone` is E.164 with the plus, `external_id` unique for each message, `sent_at` aware UTC.
    """

    sender: int
    external_id: str
    text: str
    sent_at: datetime
    name: str
    phone: str
    email: str


@dataclass(frozen=True, slots=True)
class SimulatedRequest:
    """A request ready to be sent to the channel's webhook URL, which `query` is appended to."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    query: str = ""


# Given the draft, the channel's settings and secrets in one mapping (newest value), and the channel's public webhook URL.
Simulate = Callable[[Draft, Mapping[str, str], str], SimulatedRequest]
