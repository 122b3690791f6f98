"""Drafts of messages by obviously invented people, the same ones for the same seed."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime

from ingest.simulators.base import Draft

TEXTS = (
    "Hello, is anyone there?",
    "What are your opening hours?",
    "My order has not arrived yet.",
    "Thank you!",
    "Can I change my appointment?",
    "Where can I find the invoice?",
    "Yes please",
    "How much is delivery?",
)


def make_draft(sender: int, external_id: str, text: str, sent_at: datetime) -> Draft:
    """Return a draft by the person of that number, whose name, phone and address follow from the number."""
    return Draft(
        sender=sender,
        external_id=external_id,
        text=text,
        sent_at=sent_at,
        name=f"Test Person {sender}",
        # A Malaysian mobile range with room for ten million people.
        phone=f"+6011{10_000_000 + sender % 10_000_000:08d}",
        email=f"person{sender}@example.com",
    )


def drafts(run: str, senders: int, seed: int) -> Iterator[Draft]:
    """Give drafts without end, sent now by random people of 0 to `senders` - 1. `run` makes the ids unique."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        text = f"{chance.choice(TEXTS)} ({number})"
        yield make_draft(chance.randrange(senders), f"{run}.{number}", text, datetime.now(UTC))
