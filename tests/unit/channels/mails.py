"""Mails written for tests, and the events they make."""

from dataclasses import replace
from datetime import UTC, datetime

from ingest.channels.base import Webhook
from ingest.channels.mail import Delivery, mail_events
from ingest.channels.mail_mime import read_mail
from ingest.domain.events import InboundEvent, Message, Sender

RECEIVED_AT = datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC)
BOX = "help@in.example.net"
HOOK = Webhook("POST", "", {}, b"", settings={"mailbox": BOX}, received_at=RECEIVED_AT)
TO_US = Delivery((BOX,))


def make_mail(body: str = "Hello there", **headers: str) -> bytes:
    """Return a mail of Tomas's. Underscores in header names stand for dashes."""
    given = {"From": "Tomas Berg <tomas.berg@example.org>", "Message-ID": "<fake-1@example.org>", "Subject": "Hej"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return (head + "\r\n" + body.replace("\n", "\r\n") + "\r\n").encode()


def events_of(raw: bytes, delivery: Delivery = TO_US, **settings: str) -> list[InboundEvent]:
    """Return the events of a mail to us, or of another delivery, at a channel with these settings."""
    return mail_events(read_mail(raw), delivery, replace(HOOK, settings={"mailbox": BOX, **settings}))


def message_in(event: InboundEvent) -> Message:
    """Return the event's message. Fails where it has none."""
    assert event.message is not None
    return event.message


def sender_in(event: InboundEvent) -> Sender:
    """Return the event's sender. Fails where it has none."""
    assert event.sender is not None
    return event.sender
