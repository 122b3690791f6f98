"""The same event again and again, events in every order, and many first messages of one person."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection

from ingest.pipeline.resolve import Resolver
from ingest.simulators.drafts import make_draft
from ingest.simulators.registry import get_simulator
from ingest.simulators.traffic import Delivery, Plan, raw_request
from tests import builders
from tests.builders import JSON, at
from tests.faults.judging import judged
from tests.faults.record import SEED, Figures, Row, record
from tests.faults.world import FaultySystem, faulty_system
from tests.pipeline_world import SEALER, Pipeline
from tests.system import Ledger, Load

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]

REPEATED = Row("M2", "one event again and again, also with another body", "one row, the first body stays")
SHUFFLED = Row("M3", "8 events of one sender in every order, some an hour late", "one state")
TOGETHER = Row(
    "M4", "100 first messages of one new sender at once, on 4 workers", "1 contact, 1 conversation, 100 messages"
)
PERMUTATIONS = 200


def deliver(system: FaultySystem, bodies: Iterator[str], message_id: str, plan: Plan) -> Load:
    """Return a load of one message's id with these texts, one a request."""

    def requests() -> Iterator[Delivery]:
        simulate, to = get_simulator("whatsapp_cloud"), system.whatsapp
        for words in bodies:
            draft = make_draft(7_000_000, message_id, words, datetime.now(UTC))
            yield Delivery(to, draft, raw_request(to.url, simulate(draft, to.settings, to.url)))

    return Load(Ledger(system.home / f"ledger-{time.time_ns()}"), requests(), plan)


@pytest.mark.parametrize(("case", "count", "rate", "connections"), [
    ("twice", 2, 1.0, 1), ("50 in parallel", 50, 10_000.0, 50), ("1000, with a fault every 3 s", 1000, 50.0, 8),
])  # fmt: skip
def test_M2_one_event_again_and_again_is_one_row(case: str, count: int, rate: float, connections: int) -> None:
    with faulty_system() as system:
        bodies = itertools.chain(itertools.repeat("the first body", count - 1), ["another body"])
        load = deliver(system, bodies, "again", Plan(rate=rate, count=count, connections=connections))
        load.start()
        faults = 0
        while not load.is_over:
            time.sleep(3 if count == 1000 else 0.1)
            if count == 1000:
                # As if hours had passed: what remembers only for a while has forgotten.
                faults += 1
                system.flush_broker() if faults % 2 else system.kill(*system.pool_children())
        load.join(60)
        judged(system, load, replace(REPEATED, case=case), bound=30, deliveries=count, faults=faults)
        assert [row.text for row in system.rows("select text from message")] == ["the first body"]
        duplicates = system.scalar("select coalesce(sum(count), 0) from tally where outcome = 'duplicate'")
        assert duplicates == load.join(1).accepted - 1


EVENTS: list[tuple[str, JSON]] = [
    ("whatsapp_cloud", builders.whatsapp_text("447700900451", "a", "one", at(0))),
    ("whatsapp_cloud", builders.whatsapp_text("447700900451", "b", "two", at(10))),
    ("whatsapp_cloud", builders.whatsapp_text("447700900451", "c", "three", at(20))),
    ("whatsapp_cloud", builders.whatsapp_edit("447700900451", "a", "one, edited", at(30))),
    ("whatsapp_cloud", builders.whatsapp_edit("447700900451", "a", "one, edited again", at(40))),
    ("whatsapp_cloud", builders.whatsapp_unsend("447700900451", "b", at(50))),
    ("whatsapp_cloud", builders.whatsapp_reaction("447700900451", "c", "👍", at(55))),
    ("whatsapp_cloud", builders.whatsapp_preference("447700900451", "stop", at(60))),
]


def test_M3_eight_events_of_one_sender_in_any_order_give_one_state(tx: Connection) -> None:
    pipeline = Pipeline(tx)
    pipeline.channel("whatsapp_cloud")
    dice = random.Random(SEED)
    orders = [tuple(range(8)), *(tuple(dice.sample(range(8), 8)) for _ in range(PERMUTATIONS - 1))]
    states, late = [], 0
    for order in orders:
        with tx.begin_nested() as savepoint:
            pipeline.resolver = Resolver(SEALER)
            # The hold-up is the provider's: an event that comes an hour later than its neighbours, in a batch of its own.
            held_up = {number for number in order if dice.random() < 0.01}
            late += len(held_up)
            for number in [each for each in order if each not in held_up] + sorted(held_up):
                pipeline.deliver(EVENTS[number][0], EVENTS[number][1], accepted_at=at(100))
            states.append(pipeline.state())
            savepoint.rollback()
    violations = sum(state != states[0] for state in states)
    record(
        SHUFFLED,
        Figures(
            8 * PERMUTATIONS,
            sum(3 - len(state["messages"]) for state in states),
            0,
            more={"violations": violations, "orders": len(set(orders)), "of": 40320, "held up": late},
        ),
        load="batches of one",
    )
    assert violations == 0
    assert [each["text"] for each in states[0]["messages"].values()].count("one, edited again") == 1


def test_M4_a_hundred_first_messages_of_one_new_sender_make_one_contact() -> None:
    with faulty_system(resolvers=4) as system:
        load = system.load(Plan(rate=10_000, count=100, senders=1, seed=SEED, connections=100))
        load.start()
        load.join(60)
        system.drain(30)
        counts = {
            table: system.scalar(f"select count(*) from {table}") for table in ("contact", "conversation", "message")
        }
        judged(system, load, TOGETHER, bound=30, **{f"{table}s": count for table, count in counts.items()})
        assert counts == {"contact": 1, "conversation": 1, "message": 100}
