"""Acts on contacts at the same time, on real connections: nobody deadlocks, every act ends as declared, nothing is lost."""

# ruff: noqa: N802 - the names carry the lines of the specification

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text

from ingest.domain.blocks import BlockTerms
from ingest.domain.refusals import Conflict, Refused
from ingest.jobs.act_types import PurgeDeletion
from ingest.jobs.publisher import NoPublisher
from ingest.pipeline.block import block_contacts, unblock_contacts
from ingest.pipeline.delete import DeletionRequest, accept_deletion, cancel_deletion, purge_deletion
from ingest.pipeline.merge import MergeRequest, merge_contacts
from ingest.pipeline.resolve import Resolver, resolve_requests
from ingest.pipeline.resolve.erased import free_detached
from ingest.pipeline.unmerge import unmerge_contact
from ingest.runtime import make_engine
from ingest.store.contacts import lock_contacts
from ingest.store.intake import encode_requests
from ingest.store.purges import purge_messages
from ingest.store.unit_of_work import UnitOfWork, unit_of_work
from ingest.store.views.queues import orphans
from tests import builders
from tests.acts_load import load_contacts
from tests.builders import at
from tests.pipeline_world import SEALER, Pipeline
from tests.system import until
from workers.failures import is_transient

PEOPLE = tuple(f"4477009005{number:02}" for number in range(10))


@dataclass
class Arena:
    """A committed workspace with people on WhatsApp, and transactions of each thread's own."""

    engine: Engine
    pipeline: Pipeline
    contact_ids: list[int]

    @property
    def workspace_id(self) -> int:
        return self.pipeline.workspace_id

    @contextmanager
    def uow(self) -> Iterator[UnitOfWork]:
        with unit_of_work(self.engine, NoPublisher(), lambda: datetime.now(UTC)) as uow:
            yield uow

    def do(self, act: Callable[[UnitOfWork], object]) -> object:
        """Do the act in a transaction of its own, as often as workers and clients would; a refusal is its result."""
        for _ in range(20):
            try:
                with self.uow() as uow:
                    return act(uow)
            except Refused as refusal:
                return refusal
            except Exception as failure:
                if not is_transient(failure):
                    raise
        raise AssertionError("never came to rest")

    def deliver(self, resolver: Resolver, sender: str, message_id: str) -> None:
        """Deliver a message."""
        body = builders.whatsapp_text(sender, message_id, message_id, at(0))
        raw = encode_requests([self.pipeline.request("whatsapp_cloud", body)])
        self.do(lambda uow: resolve_requests(uow, resolver, [raw]))

    def scalar(self, statement: str, **given: Any) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(text(statement), given).scalar()


@pytest.fixture
def arena(database_url: str) -> Iterator[Arena]:
    engine = make_engine(database_url, "races", pool_size=8)
    with engine.begin() as tx:
        pipeline = Pipeline(tx)
        for number, sender in enumerate(PEOPLE):
            pipeline.deliver("whatsapp_cloud", builders.whatsapp_text(sender, f"first.{number}", "Hello", at(0)))
        ids = [pipeline.contact_of("whatsapp_cloud", sender).id for sender in PEOPLE]
    yield Arena(engine, pipeline, ids)
    engine.dispose()


def together(*acts: Callable[[], object]) -> list[object]:
    """Do the acts in threads that start at the same moment; return their results."""
    gate = threading.Barrier(len(acts))

    def wait_and_do(act: Callable[[], object]) -> object:
        gate.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [each.result() for each in [pool.submit(wait_and_do, act) for act in acts]]


def test_B28_crossing_merges_end_with_one_winner_and_a_loser_that_is_told(arena: Arena) -> None:
    for one, other in zip(arena.contact_ids[::2], arena.contact_ids[1::2], strict=True):
        results = together(
            lambda one=one, other=other: arena.do(
                lambda uow: merge_contacts(uow, MergeRequest(arena.workspace_id, one, other))
            ),
            lambda one=one, other=other: arena.do(
                lambda uow: merge_contacts(uow, MergeRequest(arena.workspace_id, other, one))
            ),
        )
        losers = [each for each in results if isinstance(each, Refused)]
        assert len(losers) == 1
        assert isinstance(losers[0], Conflict)
        assert losers[0].word == "merged_into"
    assert arena.scalar("select count(*) from contact where merged_into is not null") == 5


def test_B52_merge_while_deleting_ends_with_one_of_two_declared_outcomes(arena: Arena) -> None:
    for kept, absorbed in zip(arena.contact_ids[::2], arena.contact_ids[1::2], strict=True):
        merged, deleted = together(
            lambda kept=kept, absorbed=absorbed: arena.do(
                lambda uow: merge_contacts(uow, MergeRequest(arena.workspace_id, kept, absorbed))
            ),
            lambda absorbed=absorbed: arena.do(
                lambda uow: accept_deletion(uow, DeletionRequest(arena.workspace_id, [absorbed]))
            ),
        )
        words = {each.word for each in (merged, deleted) if isinstance(each, Refused)}
        assert words in ({"gone"}, {"merged_into"})


def test_B53_an_address_asked_for_while_its_deletion_is_being_cancelled_stays_with_its_contact(arena: Arena) -> None:
    """Whoever came with it found the contact detached, and takes the address off it only if that is still so."""
    contact_id = arena.contact_ids[0]
    request = DeletionRequest(arena.workspace_id, [contact_id], grace=timedelta(hours=1))
    with arena.uow() as uow:
        job_id = accept_deletion(uow, request).deletion_job_id
    with arena.uow() as uow:
        found = lock_contacts(uow.tx, {(arena.workspace_id, contact_id)})

    def free() -> None:
        with arena.uow() as uow:
            free_detached(uow.tx, (b"salt",), found.values())

    somebody = threading.Thread(target=free)
    with arena.uow() as uow:
        assert cancel_deletion(uow, arena.workspace_id, job_id) == "cancelled"
        somebody.start()
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        until(lambda: bool(arena.scalar(waiting)) or not somebody.is_alive(), 10)
    somebody.join()
    assert arena.scalar("select address from identity where contact_id = :id", id=contact_id) == PEOPLE[0]
    assert arena.scalar("select count(*) from erased_address") == 0


def test_B48_a_message_that_changes_while_its_part_is_purged_goes_with_the_next_part(arena: Arena) -> None:
    contact_id = arena.contact_ids[0]
    arena.deliver(Resolver(SEALER), PEOPLE[0], "m-1")
    arena.deliver(Resolver(SEALER), PEOPLE[0], "m-2")
    with arena.uow() as uow:
        job_id = accept_deletion(uow, DeletionRequest(arena.workspace_id, [contact_id])).deletion_job_id
    count = "select count(*) from message where contact_id = :id"
    before = arena.scalar(count, id=contact_id)
    found: list[tuple[dict[str, int], bool]] = []

    def purge() -> None:
        with arena.uow() as uow:
            ids, remember = [contact_id], timedelta(days=1)
            found.append(purge_messages(uow.tx, arena.workspace_id, ids, rows=10, now=uow.now, remember=remember))

    somebody = threading.Thread(target=purge)
    with arena.uow() as uow:
        change = "update message set text = 'changed' where contact_id = :id and text = 'm-1'"
        assert uow.tx.execute(text(change), {"id": contact_id}).rowcount == 1
        somebody.start()
        waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        until(lambda: bool(arena.scalar(waits)) or not somebody.is_alive(), 10)
    somebody.join()
    assert found == [({"message": before - 1, "message_effect": 0}, False)]
    assert arena.scalar(count, id=contact_id) == 1
    arena.do(lambda uow: purge_deletion(uow, PurgeDeletion(arena.workspace_id, job_id)))
    assert arena.scalar(count, id=contact_id) == 0
    assert arena.scalar("select count(*) from deletion_failure") == 0


def test_B24_block_while_merging_never_merges_a_blocked_contact(arena: Arena) -> None:
    for kept, absorbed in zip(arena.contact_ids[::2], arena.contact_ids[1::2], strict=True):
        together(
            lambda kept=kept, absorbed=absorbed: arena.do(
                lambda uow: merge_contacts(uow, MergeRequest(arena.workspace_id, kept, absorbed))
            ),
            lambda absorbed=absorbed: arena.do(
                lambda uow: block_contacts(uow, arena.workspace_id, [absorbed], BlockTerms())
            ),
        )
    both = "select count(*) from contact where merged_into is not null and blocked_at is not null"
    assert arena.scalar(both) == 0


def test_B27_B37_and_T34_two_hundred_messages_during_merge_and_unmerge_are_all_stored(arena: Arena) -> None:
    kept, absorbed = arena.contact_ids[:2]
    stop = threading.Event()

    def write(sender: str) -> None:
        resolver = Resolver(SEALER)
        for number in range(100):
            arena.deliver(resolver, sender, f"{sender}.{number}")

    def act() -> int:
        count = 0
        while not stop.is_set():
            arena.do(lambda uow: merge_contacts(uow, MergeRequest(arena.workspace_id, kept, absorbed)))
            arena.do(lambda uow: unmerge_contact(uow, arena.workspace_id, kept, absorbed))
            count += 1
            stop.wait(0.02)
        return count

    with ThreadPoolExecutor(3) as pool:
        acts = pool.submit(act)
        writers = [pool.submit(write, sender) for sender in PEOPLE[:2]]
        for writer in writers:
            writer.result()
        stop.set()
        assert acts.result() > 1
    assert arena.scalar("select count(*) from message where text like '%.%'") == 200
    # The first sender's are all on the kept contact; the other's are where their identity was at that moment.
    own = "select count(*) from message where text like :who and contact_id = :id"
    assert arena.scalar(own, who=f"{PEOPLE[0]}.%", id=kept) == 100
    there = sum(arena.scalar(own, who=f"{PEOPLE[1]}.%", id=each) for each in (kept, absorbed))
    assert there == 100
    wrong = (
        "select count(*) from message join conversation on conversation.id = message.conversation_id "
        "where conversation.contact_id <> message.contact_id"
    )
    assert arena.scalar(wrong) == 0
    # Whatever is on the absorbed contact was written to it: what came while it was merged stayed with the kept one.
    misplaced = "select count(*) from message where contact_id = :id and origin_contact_id <> :id"
    assert arena.scalar(misplaced, id=absorbed) == 0


ACTS: dict[str, Callable[..., object]] = {
    "block": lambda uow, workspace_id, one, kept: block_contacts(uow, workspace_id, [one], BlockTerms()),
    "delete": lambda uow, workspace_id, one, kept: accept_deletion(uow, DeletionRequest(workspace_id, [one])),
    "merge": lambda uow, workspace_id, one, kept: merge_contacts(uow, MergeRequest(workspace_id, kept, one)),
}


@pytest.mark.parametrize("act", ACTS)
def test_B28_acts_lock_suggestions_in_the_order_of_their_ids_as_detection_does(arena: Arena, act: str) -> None:
    one, kept, *others = arena.contact_ids[:4]
    make_suggestions_of_others(arena)
    with arena.uow() as uow:
        low, high = (
            uow.tx.execute(
                text(
                    "insert into merge_suggestion (workspace_id, low_contact_id, high_contact_id, kind, keys, state) "
                    "values (:workspace_id, :low, :high, 'exact', '{tel:+1}', 'closed') returning id"
                ),
                {"workspace_id": arena.workspace_id, "low": one, "high": other},
            ).scalar_one()
            for other in reversed(others)
        )
        # The first row comes behind the second, on disk and by its pair: whoever takes them as found takes the second first.
        for each in (high, low):
            uow.tx.execute(text("update merge_suggestion set state = 'open' where id = :id"), {"id": each})
    lock = text("select 1 from merge_suggestion where id = :id for no key update")
    with ThreadPoolExecutor(1) as pool, arena.engine.connect() as detection:
        detection.execute(lock, {"id": low})
        done = pool.submit(one_try, arena, partial(ACTS[act], workspace_id=arena.workspace_id, one=one, kept=kept))
        until(lambda: arena.scalar("select count(*) from pg_locks where not granted"), 10)
        detection.execute(lock, {"id": high})
        detection.commit()
        done.result()
    assert (
        arena.scalar("select count(*) from merge_suggestion where state = 'open' and low_contact_id = :id", id=one) == 0
    )


def make_suggestions_of_others(arena: Arena) -> None:
    """Have enough suggestions that they are looked up by their parties, as in any larger workspace."""
    with arena.uow() as uow:
        ids = load_contacts(uow.tx, arena.workspace_id, arena.scalar("select min(id) from channel"), 2000, 0)
        uow.tx.execute(
            text(
                "insert into merge_suggestion (workspace_id, low_contact_id, high_contact_id, kind, keys) "
                "select :workspace_id, id, id + 1, 'exact', '{tel:+1}' from unnest(cast(:ids as bigint[])) as id"
            ),
            {"workspace_id": arena.workspace_id, "ids": ids[:-1]},
        )
    with arena.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("analyze merge_suggestion"))


def one_try(arena: Arena, act: Callable[[UnitOfWork], object]) -> None:
    with arena.uow() as uow:
        act(uow)


@pytest.mark.parametrize("seed", range(3))
def test_M6_everything_at_once_loses_nothing_and_leaves_no_orphans(arena: Arena, seed: int) -> None:
    outcomes: Counter[str] = Counter()
    sent: list[str] = []

    def one_act(dice: random.Random, uow: UnitOfWork) -> object:
        one, other = dice.sample(arena.contact_ids, 2)
        match dice.choice(["merge", "merge", "unmerge", "block", "unblock", "delete"]):
            case "merge":
                return merge_contacts(uow, MergeRequest(arena.workspace_id, one, other))
            case "unmerge":
                return unmerge_contact(uow, arena.workspace_id, one, other)
            case "block":
                return block_contacts(uow, arena.workspace_id, [one, other], BlockTerms())
            case "unblock":
                return unblock_contacts(uow, arena.workspace_id, [one, other])
            case _:
                if dice.random() < 0.3:
                    return accept_deletion(uow, DeletionRequest(arena.workspace_id, [one]))
                return None

    def acting(number: int) -> None:
        dice = random.Random(f"{seed}.{number}")
        for _ in range(60):
            result = arena.do(lambda uow: one_act(dice, uow))
            outcomes[result.word if isinstance(result, Refused) else "done"] += 1

    def writing(number: int) -> None:
        dice, resolver = random.Random(f"w{seed}.{number}"), Resolver(SEALER)
        for count in range(60):
            message_id = f"m{number}.{count}"
            arena.deliver(resolver, dice.choice(PEOPLE), message_id)
            sent.append(message_id)

    actors = [partial(acting, number) for number in range(3)]
    together(*actors, *(partial(writing, number) for number in range(2)))
    assert outcomes["done"] > 0
    stored = arena.scalar("select count(*) from message where text ~ '^m[01]\\.'")
    dropped = arena.scalar("select count(*) from dropped_message")
    assert stored + dropped == len(sent) == 120
    for job_id in range(1, 1 + (arena.scalar("select max(id) from deletion_job") or 0)):
        state = "running"
        while state == "running":
            with arena.uow() as uow:
                state = purge_deletion(uow, PurgeDeletion(arena.workspace_id, job_id))
        assert state == "completed"
    with arena.engine.connect() as connection:
        assert sum(orphans(connection).values()) == 0
    astray = (
        "select count(*) from identity join contact on contact.id = identity.contact_id "
        "where contact.merged_into is not null or contact.deletion_job_id is not null"
    )
    assert arena.scalar(astray) == 0
