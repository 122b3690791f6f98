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
PEOPLE = st.integers(0, 1)
SECONDS = st.integers(-1000, 60)
WORDS = st.sampled_from(["one", "two", "three"])
EMOJIS = st.sampled_from(["👍", "❤️", ""])
STATUSES = st.sampled_from(["sent", "delivered", "read", "failed"])

Sent = tuple[str, JSON]
"""A channel's name and a request's body."""
Kinds = dict[str, Callable[[], JSON]]


def _sent_second(*parts: object) -> int:
    """Return when a message was sent: one message has one time, however often it is delivered."""
    return sum(map(ord, "".join(map(str, parts)))) % 900 - 850


def _story(draw: st.DrawFn, channel: str, always: str, kinds: Kinds) -> list[Sent]:
    """Return deliveries about one message: itself, and two to five things of these kinds."""
    chosen = [always, *draw(st.lists(st.sampled_from(sorted(kinds)), min_size=2, max_size=5))]
    return [(channel, kinds[kind]()) for kind in chosen]


@st.composite
def whatsapp_stories(draw: st.DrawFn) -> list[Sent]:
    sender, number = DIGITS[draw(PEOPLE)], draw(NUMBERS)
    wrote, echoed = f"m.{sender}.{number}", f"e.{sender}.{number}"
    sent_at = at(_sent_second(wrote))
    # The name changes from message to message, and some messages bring none.
    name = (None, "Ada Test", "Bo Test", None)[number]
    kinds: Kinds = {
        "text": lambda: builders.whatsapp_text(sender, wrote, f"text {number}", sent_at, name),
        "edit": lambda: builders.whatsapp_edit(sender, wrote, draw(WORDS), at(draw(SECONDS))),
        "edit again": lambda: builders.whatsapp_edit(sender, wrote, draw(WORDS), at(draw(SECONDS))),
        "unsend": lambda: builders.whatsapp_unsend(sender, wrote, at(draw(SECONDS))),
        "reaction": lambda: builders.whatsapp_reaction(sender, wrote, draw(EMOJIS), at(draw(SECONDS))),
        "echo": lambda: builders.whatsapp_echo(sender, echoed, "ours", at(_sent_second(echoed))),
        "status": lambda: builders.whatsapp_status(sender, echoed, draw(STATUSES), at(draw(SECONDS))),
        "wish": lambda: builders.whatsapp_preference(
            sender, draw(st.sampled_from(["stop", "resume"])), at(draw(SECONDS))
        ),
    }
    return _story(draw, "whatsapp_cloud", "text", kinds)


@st.composite
def echo_stories(draw: st.DrawFn) -> list[Sent]:
    sender, number = DIGITS[draw(PEOPLE)], draw(NUMBERS)
    echoed = f"e.{sender}.{number}"
    kinds: Kinds = {
        "echo": lambda: builders.whatsapp_echo(sender, echoed, "ours", at(_sent_second(echoed))),
        "status": lambda: builders.whatsapp_status(sender, echoed, draw(STATUSES), at(draw(SECONDS))),
        "reaction": lambda: builders.whatsapp_reaction(sender, echoed, draw(EMOJIS), at(draw(SECONDS))),
    }
    return _story(draw, "whatsapp_cloud", "echo", kinds)


@st.composite
def scoped_stories(draw: st.DrawFn) -> list[Sent]:
    user_id = SCOPED[draw(PEOPLE)]

    def text() -> JSON:
        message_id = f"m.{user_id}.{draw(NUMBERS)}"
        return builders.whatsapp_scoped_text(
            user_id, message_id, f"44770090046{user_id[-1]}", at(_sent_second(message_id))
        )

    return _story(draw, "whatsapp_cloud", "text", {"text": text})


@st.composite
def messenger_stories(draw: st.DrawFn) -> list[Sent]:
    sender, number = PAGE_PEOPLE[draw(PEOPLE)], draw(NUMBERS)
    wrote, echoed = f"m.{sender}.{number}", f"e.{sender}.{number}"
    sent_at = at(_sent_second(wrote))
    kinds: Kinds = {
        "text": lambda: builders.messenger_text(sender, wrote, f"text {number}", sent_at),
        "echo": lambda: builders.messenger_echo(sender, echoed, "ours", sent_at),
        "read": lambda: builders.messenger_read(sender, at(draw(SECONDS))),
        "unsend": lambda: builders.messenger_unsend(sender, wrote, at(draw(SECONDS))),
    }
    return _story(draw, "messenger", draw(st.sampled_from(["text", "echo"])), kinds)


@st.composite
def telegram_stories(draw: st.DrawFn) -> list[Sent]:
    sender, number = TELEGRAM_PEOPLE[draw(PEOPLE)], draw(NUMBERS)
    sent_at = at(_sent_second(sender, number))
    first_name, language = ("", "Di", "Ed", "Flo")[number], (None, "en", "nl", None)[number]
    kinds: Kinds = {
        "text": lambda: builders.telegram_text(sender, number, f"text {number}", sent_at, first_name, language),
        "edit": lambda: builders.telegram_edit(sender, number, draw(WORDS), sent_at, at(draw(SECONDS))),
        "phone": lambda: builders.telegram_shared_phone(sender, 10 + number, f"+4477009004{sender % 100}7", sent_at),
        "stop or go": lambda: builders.telegram_membership(
            sender, draw(st.integers(1, 9)), draw(st.sampled_from(["kicked", "member"])), at(draw(SECONDS))
        ),
    }
    return _story(draw, "telegram", "text", kinds)


@st.composite
def custom_stories(draw: st.DrawFn) -> list[Sent]:
    key = KEYS[draw(PEOPLE)]
    told: dict[int, dict[str, str]] = {
        1: {"name": "Gil Test", "email": f"{key}@example.com"},
        2: {"language": "fr", "phone": f"+4477009006{key[-1]}0"},
        3: {"name": "Hal Test", "language": "de"},
    }

    def text() -> JSON:
        number = draw(NUMBERS)
        message_id = f"m.{key}.{number}"
        sent_at = at(_sent_second(message_id))
        return builders.envelope_text(key, message_id, f"text {number}", sent_at, **told[number])

    return _story(draw, "custom", "text", {"text": text})


STORIES = (
    whatsapp_stories(),
    echo_stories(),
    scoped_stories(),
    messenger_stories(),
    telegram_stories(),
    custom_stories(),
)


@dataclass(frozen=True)
class Arrival:
    """Deliveries, and the same in another order with repetitions, cut into requests and batches in another way."""

    sent: list[Sent]
    again: list[Sent]
    sizes: list[int]


@st.composite
def arrivals(draw: st.DrawFn) -> Arrival:
    # Mostly of one kind, so that several are about the same few people.
    some = draw(st.sampled_from(STORIES))
    stories = draw(st.lists(st.one_of(some, some, *STORIES), min_size=1, max_size=4))
    sent = [delivery for story in stories for delivery in story]
    chance = draw(st.randoms(use_true_random=True))
    again = [*sent, *chance.choices(sent, k=3)]
    chance.shuffle(again)
    sizes = [chance.randint(1, 6) for _ in range(4)]
    return Arrival(sent, joined(again, [chance.random() < 0.3 for _ in again]), sizes)


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
