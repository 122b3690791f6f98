"""What SMS channels share: which sender is a phone, and the words that stop and restart messages."""

import re
from collections.abc import Mapping

from ingest.channels.base import Setting
from ingest.domain.events import EventKind, InboundEvent

# The words carriers in North America act on; elsewhere an operator sets the local ones.
STOP_WORDS = "STOP,STOPALL,UNSUBSCRIBE,CANCEL,END,QUIT"
START_WORDS = "START,YES,UNSTOP"

WORD_SETTINGS = (
    Setting("stop_words", "Words that opt a person out, by commas", required=False, default=STOP_WORDS),
    Setting("start_words", "Words that opt a person in again, by commas", required=False, default=START_WORDS),
)

# What a caller without a number shows, spelt on a phone's keys: ANONYMOUS, RESTRICTED, UNKNOWN, UNAVAILABLE, BLOCKED.
_NOBODY = {"266696687", "7378742833", "8656696", "86282452253", "2562533"}
_WITH_PLUS = re.compile(r"\+([1-9][0-9]{6,14})", re.ASCII)
# Without the plus, up to seven digits are a short code.
_WITHOUT_PLUS = re.compile(r"\+?([1-9][0-9]{7,14})", re.ASCII)


def phone_in(address: str, *, plus: bool = True) -> str | None:
    """Return the address as +digits where it is a phone; None for short codes, alphanumeric and keypad senders.

    `plus` says whether the provider writes it: where it does, a number without one is a short code.
    """
    found = (_WITH_PLUS if plus else _WITHOUT_PLUS).fullmatch(address)
    return f"+{found[1]}" if found and found[1] not in _NOBODY else None


def with_opt_event(event: InboundEvent, settings: Mapping[str, str]) -> list[InboundEvent]:
    """Return the message, followed by an opt_out or opt_in when all of its text is one of the channel's words."""
    word = (event.message.text if event.message else "").strip().upper()
    if word in _words(settings, "stop_words", STOP_WORDS):
        return [event, opt_event(event, word, out=True)]
    if word in _words(settings, "start_words", START_WORDS):
        return [event, opt_event(event, word, out=False)]
    return [event]


def opt_event(event: InboundEvent, reason: str, *, out: bool) -> InboundEvent:
    """Return the opt_out, or opt_in, that the event stands for, with an id made from the event's."""
    kind: EventKind = "opt_out" if out else "opt_in"
    return InboundEvent(
        kind, f"{event.external_id}:{kind}", event.account, event.sender, sent_at=event.sent_at, reason=reason
    )


def _words(settings: Mapping[str, str], name: str, default: str) -> set[str]:
    return {word.strip().upper() for word in (settings.get(name) or default).split(",")} - {""}
