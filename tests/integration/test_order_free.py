"""Any permutation, repetition and splitting of the same deliveries gives one final state."""

# ruff: noqa: N802 - the names carry the promises and lessons

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from ingest.pipeline.resolve import Resolver
from ingest.store.views.queues import conservation, orphans
from tests import builders
from tests.builders import JSON, at
from tests.pipeline_world import SEALER, Pipeline, State, in_batches

pytestmark = pytest.mark.database

# Few people, messages and moments, so that things meet.
DIGITS = ("447700900451", "447700900452")
SCOPED = ("GB.1001", "GB.1002")
PAGE_PEOPLE = ("6100000000000041", "6100000000000042")
TELEGRAM_PEOPLE = (7001, 7002)
KEYS = ("person-1", "person-2")
NUMBERS = st.integers(1, 3)
SECONDS = st.integers(-1000, 60)
WORDS = st.sampled_from(["one", "two", "three"])
EMOJIS = st.sampled_from(["👍", "❤️", ""])
STATUSES = st.sampled_from(["sent", "delivered", "read", "failed"])

Sent = tuple[str, JSON]
"""A channel's name and a request's body."""


def _sent_second(*parts: object) -> int:
    """Return when a message was sent: one message has one time, however often it is delivered."""
    return sum(map(ord, "".join(map(str, parts)))) % 900 - 850


def _message_id(person: object, number: int) -> str:
    return f"m.{person}.{number}"


@st.composite
def whatsapp_requests(draw: st.DrawFn) -> Sent:
    index = draw(st.integers(0, 1))
    sender, number = DIGITS[index], draw(NUMBERS)
    target = _message_id(sender, number)
    sent_at = at(_sent_second(target))
    # The name changes from message to message, and some messages bring none.
    name = (None, "Ada Test", "Bo Test", "Cy Test")[number]
    made: dict[str, Callable[[], JSON]] = {
        "text": lambda: builders.whatsapp_text(sender, target, f"text {number}", sent_at, name),
        "echo": lambda: builders.whatsapp_echo(sender, f"echo.{target}", "ours", sent_at),
        "status": lambda: builders.whatsapp_status(sender, f"echo.{target}", draw(STATUSES), at(draw(SECONDS))),
        "edit": lambda: builders.whatsapp_edit(sender, target, draw(WORDS), at(draw(SECONDS))),
        "unsend": lambda: builders.whatsapp_unsend(sender, target, at(draw(SECONDS))),
        "reaction": lambda: builders.whatsapp_reaction(sender, f"echo.{target}", draw(EMOJIS), at(draw(SECONDS))),
        "preference": lambda: builders.whatsapp_preference(
            sender, draw(st.sampled_from(["stop", "resume"])), at(draw(SECONDS))
        ),
    }
    return "whatsapp_cloud", made[draw(st.sampled_from(sorted(made)))]()


@st.composite
def scoped_requests(draw: st.DrawFn) -> Sent:
    user_id, number = draw(st.sampled_from(SCOPED)), draw(NUMBERS)
    digits = f"44770090046{user_id[-1]}"
    message_id = _message_id(user_id, number)
    return "whatsapp_cloud", builders.whatsapp_scoped_text(user_id, message_id, digits, at(_sent_second(message_id)))


@st.composite
def messenger_requests(draw: st.DrawFn) -> Sent:
    sender, number = draw(st.sampled_from(PAGE_PEOPLE)), draw(NUMBERS)
    target = _message_id(sender, number)
    sent_at = at(_sent_second(target))
    made: dict[str, Callable[[], JSON]] = {
        "text": lambda: builders.messenger_text(sender, target, f"text {number}", sent_at),
        "echo": lambda: builders.messenger_echo(sender, f"echo.{target}", "ours", sent_at),
        "read": lambda: builders.messenger_read(sender, at(draw(SECONDS))),
        "unsend": lambda: builders.messenger_unsend(sender, target, at(draw(SECONDS))),
    }
    return "messenger", made[draw(st.sampled_from(sorted(made)))]()


@st.composite
def telegram_requests(draw: st.DrawFn) -> Sent:
    sender, number = draw(st.sampled_from(TELEGRAM_PEOPLE)), draw(NUMBERS)
    sent_at = at(_sent_second(sender, number))
    language = (None, "en", "nl", None)[number]
    made: dict[str, Callable[[], JSON]] = {
        "text": lambda: builders.telegram_text(
            sender, number, f"text {number}", sent_at, ("", "Di", "Ed", "Flo")[number], language
        ),
        "edit": lambda: builders.telegram_edit(sender, number, draw(WORDS), sent_at, at(draw(SECONDS))),
        "phone": lambda: builders.telegram_shared_phone(sender, 10 + number, f"+4477009004{sender % 100}7", sent_at),
        "membership": lambda: builders.telegram_membership(
            sender, draw(st.integers(1, 9)), draw(st.sampled_from(["kicked", "member"])), at(draw(SECONDS))
        ),
    }
    return "telegram", made[draw(st.sampled_from(sorted(made)))]()


@st.composite
def custom_requests(draw: st.DrawFn) -> Sent:
    key, number = draw(st.sampled_from(KEYS)), draw(NUMBERS)
    message_id = _message_id(key, number)
    told: dict[int, dict[str, str]] = {
        1: {"name": "Gil Test", "email": f"{key}@example.com"},
        2: {"language": "fr", "phone": f"+4477009006{key[-1]}0"},
        3: {"name": "Hal Test", "language": "de"},
    }
    return "custom", builders.envelope_text(
        key, message_id, f"text {number}", at(_sent_second(message_id)), **told[number]
    )


CHANNELS = (whatsapp_requests(), scoped_requests(), messenger_requests(), telegram_requests(), custom_requests())
anything = st.one_of(*CHANNELS)


@dataclass(frozen=True)
class Arrival:
    """Deliveries, and the same in another order with repetitions, cut into requests and batches in another way."""

    sent: list[Sent]
    again: list[Sent]
    sizes: list[int]


@st.composite
def arrivals(draw: st.DrawFn) -> Arrival:
    # Mostly one channel, so that the deliveries are about the same few messages.
    some = draw(st.sampled_from(CHANNELS))
    sent = draw(st.lists(st.one_of(some, some, some, anything), min_size=2, max_size=12))
    repeated = draw(st.lists(st.sampled_from(sent), max_size=4))
    again = joined(draw(st.permutations([*sent, *repeated])), draw(st.lists(st.booleans(), max_size=6)))
    return Arrival(sent, again, draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))


def joined(sent: Sequence[Sent], choices: Sequence[bool]) -> list[Sent]:
    """Return the deliveries with some of Meta's, which may hold several entries, put into one request with the next."""
    found: list[Sent] = []
    for number, (code, body) in enumerate(sent):
        wanted = number < len(choices) and choices[number]
        if wanted and found and found[-1][0] == code and "entry" in body:
            before = found.pop()[1]
            found.append((code, {**before, "entry": [*before["entry"], *body["entry"]]}))
        else:
            found.append((code, body))
    return found


CODES = ("whatsapp_cloud", "messenger", "telegram", "custom")


# Long enough ago for some messages to be late, and never just at the border.
ACCEPTED_AT = at(100.5)


class Replays:
    """Plays deliveries into a workspace and takes everything back again."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        for code in CODES:
            pipeline.channel(code)

    @contextmanager
    def fresh(self) -> Iterator[Pipeline]:
        """Give the workspace without contacts; nothing of what happens stays."""
        with self.pipeline.tx.begin_nested() as savepoint:
            self.pipeline.resolver = Resolver(SEALER)
            self.pipeline.now = ACCEPTED_AT
            yield self.pipeline
            savepoint.rollback()

    def play(self, sent: Sequence[Sent], sizes: Sequence[int]) -> None:
        """Deliver everything in batches of these sizes, each delivery a moment later than the one before it."""
        requests = [
            self.pipeline.request(code, body, ACCEPTED_AT + timedelta(milliseconds=number))
            for number, (code, body) in enumerate(sent)
        ]
        for batch in in_batches(requests, sizes):
            self.pipeline.resolve(*batch)


@pytest.fixture(scope="module")
def replays(engine: Engine) -> Iterator[Replays]:
    with engine.connect() as connection, connection.begin() as transaction:
        yield Replays(Pipeline(connection))
        transaction.rollback()


PROPERTY = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


def tell(arrival: Arrival) -> None:
    """Show the deliveries when the test fails."""
    for name, requests in (("first", arrival.sent), ("again", arrival.again)):
        for code, body in requests:
            note(f"{name}: {code} {json.dumps(body)}")
    note(f"sizes: {arrival.sizes}")


@settings(PROPERTY, max_examples=150)
@given(arrivals())
def test_P6_order_repetition_and_splitting_do_not_matter(replays: Replays, arrival: Arrival) -> None:
    tell(arrival)
    with replays.fresh() as pipeline:
        replays.play(arrival.sent, [len(arrival.sent)])
        expected = pipeline.state()
    with replays.fresh() as pipeline:
        replays.play(arrival.again, arrival.sizes)
        assert pipeline.state() == expected


FIRST_MESSAGES: list[Sent] = [
    ("whatsapp_cloud", builders.whatsapp_text(DIGITS[0], "first.w", sent_at=at(-30))),
    ("messenger", builders.messenger_text(PAGE_PEOPLE[0], "first.m", sent_at=at(-20))),
    ("telegram", builders.telegram_text(TELEGRAM_PEOPLE[0], 99, sent_at=at(-10))),
]
BLOCKED = (("whatsapp_cloud", DIGITS[0]), ("messenger", PAGE_PEOPLE[0]), ("telegram", str(TELEGRAM_PEOPLE[0])))


@settings(PROPERTY, max_examples=60)
@given(arrivals(), arrivals())
def test_P6_holds_for_what_comes_during_a_block_and_for_what_comes_after_it(
    replays: Replays, during: Arrival, after: Arrival
) -> None:
    tell(during)
    tell(after)

    def final_state(first: tuple[list[Sent], list[int]], then: tuple[list[Sent], list[int]]) -> State:
        with replays.fresh() as pipeline:
            replays.play(FIRST_MESSAGES, [3])
            blocked = [pipeline.contact_of(*each).id for each in BLOCKED]
            for contact_id in blocked:
                pipeline.block(contact_id)
            replays.play(*first)
            pipeline.unblock(blocked[0])
            replays.play(*then)
            return pipeline.state()

    expected = final_state((during.sent, [len(during.sent)]), (after.sent, [len(after.sent)]))
    assert final_state((during.again, during.sizes), (after.again, after.sizes)) == expected


@settings(PROPERTY, max_examples=25)
@given(arrivals())
def test_T20_no_contact_is_without_an_identity_and_everything_accepted_has_an_outcome(
    replays: Replays, arrival: Arrival
) -> None:
    with replays.fresh() as pipeline:
        replays.play(arrival.again, arrival.sizes)
        assert {name: count for name, count in orphans(pipeline.tx).items() if count} == {}
        account = conservation(pipeline.tx, pipeline.workspace_id)
        assert account.resolved == len(arrival.again)
        assert sum(sum(reasons.values()) for reasons in account.items.values()) >= account.resolved
