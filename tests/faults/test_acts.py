"""Acts on contacts while messages flow: blocks, merges, unmerges and deletions, all at once, against a model."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text

from ingest.domain.blocks import BlockTerms
from ingest.domain.messages import external_hash
from ingest.domain.refusals import Refused
from ingest.jobs.act_types import PurgeDeletion
from ingest.jobs.publisher import NoPublisher
from ingest.pipeline.block import block_contacts, unblock_contacts
from ingest.pipeline.delete import DeletionRequest, accept_deletion, purge_deletion
from ingest.pipeline.merge import MergeRequest, merge_contacts
from ingest.pipeline.resolve import Resolver, resolve_requests
from ingest.pipeline.unmerge import unmerge_contact
from ingest.runtime import make_engine, now
from ingest.simulators.traffic import Plan
from ingest.store.intake import encode_requests
from ingest.store.unit_of_work import UnitOfWork, unit_of_work
from ingest.store.views.queues import orphans
from tests import builders
from tests.builders import at
from tests.faults.judging import rounded
from tests.faults.record import SEED, Figures, Row, record
from tests.faults.world import FaultySystem, faulty_system
from tests.pipeline_world import SEALER, Pipeline
from tests.system import until
from workers.failures import is_transient

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]

TOGGLED = Row(
    "M5", "blocked and unblocked 50 times while 10,000 messages flow", "none committed after a block's commit"
)
MODELLED = Row(
    "M6", "merge, unmerge, delete, block and inbound at once on 50 contacts", "the state agrees with a model"
)
DELETED = Row(
    "X2",
    "the same contacts deleted twice, merged and written to at once",
    "joins or refuses; nothing else goes",
    "twice at once",
)

TOGGLES, MESSAGES = 50, 10_000


def act_on(system: FaultySystem, act: Callable[[UnitOfWork], Any]) -> Any:
    """Do the act in a transaction of its own, as often as a client would; a refusal is its result."""
    for _ in range(20):
        try:
            with unit_of_work(system.engine, NoPublisher(), now) as uow:
                return act(uow)
        except Refused as refusal:
            return refusal
        except Exception as failure:
            if not is_transient(failure):
                raise
    raise AssertionError("never came to rest")


def test_M5_no_message_is_committed_after_a_block() -> None:
    with faulty_system() as system:
        load = system.load(Plan(rate=400, count=MESSAGES, senders=5, seed=SEED, duplicates=0.05, connections=32))
        load.start()
        until(lambda: system.scalar("select count(*) from contact") == 5, 20)
        ids = [row.id for row in system.rows("select id from contact")]
        violations, dropped_while_blocked, stored_between = 0, [], []
        stored_when_blocked = dropped_before = 0

        def block(uow: UnitOfWork) -> tuple[int, int]:
            block_contacts(uow, system.workspace_id, ids, BlockTerms())
            # Under the contacts' locks: nobody stores for them now, and the commit follows.
            return count(uow, "message"), count(uow, "dropped_message")

        def unblock(uow: UnitOfWork) -> tuple[int, int]:
            unblock_contacts(uow, system.workspace_id, ids)
            return count(uow, "message"), count(uow, "dropped_message")

        def count(uow: UnitOfWork, table: str) -> int:
            return int(uow.tx.execute(text(f"select count(*) from {table}")).scalar_one())

        for _ in range(TOGGLES):
            stored_when_blocked, dropped_before = act_on(system, block)
            time.sleep(0.2)
            stored, dropped = act_on(system, unblock)
            violations += stored - stored_when_blocked
            dropped_while_blocked.append(dropped - dropped_before)
            stored_between.append(stored)
            time.sleep(0.2)
        report = load.join(120)
        load.ledger.close()
        system.drain(60)
        stored, dropped = (system.scalar(f"select count(*) from {table}") for table in ("message", "dropped_message"))
        both = system.scalar("select count(*) from message join dropped_message using (channel_id, external_hash)")
        sent = len(load.ledger.answers())
        p99 = report.percentile(99)
        figures = Figures(
            report.accepted,
            sent - stored - dropped,
            stored - system.scalar("select count(distinct (channel_id, external_hash)) from message"),
            0,
            system.orphan_count(),
            accept_p99_ms=None if p99 is None else round(1000 * p99, 1),
            non_2xx_share=report.rejected / MESSAGES,
            more={"violations": violations, "messages": sent, "stored": stored, "dropped": dropped, "toggles": TOGGLES},
        )
        record(TOGGLED, figures, load=f"400/s from 5 senders, {MESSAGES} requests, 5% of them repeated")
        assert violations == 0
        assert (figures.lost, figures.stored_twice, figures.orphans, both) == (0, 0, 0, 0)
        assert min(dropped, stored) > 500
        assert sum(dropped_while_blocked) > 0
        system.assert_sound()


# M6: what happened is put in the order of the locks, and played again in a model that knows nothing of SQL.

PAIRS, ACTORS, WRITERS, ACTS = 25, 4, 2, 150


@dataclass
class Deed:
    """An act that succeeded, with its place in the order of locks."""

    place: int
    kind: str
    ids: tuple[int, ...]
    message: str = ""
    sender: int = -1


@dataclass
class Model:
    """Who owns what, after every deed. Contacts come in pairs, of which the first may absorb the second."""

    owner: dict[int, int | None]
    """Whose contact a sender is; None once it was deleted and has not written since. Negative: a new contact."""
    home: dict[int, int]
    blocked: set[int] = field(default_factory=set)
    absorbed: dict[int, int] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    messages: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of a stored message: whose it is, and whose it was when it came."""
    dropped: set[str] = field(default_factory=set)

    def do(self, deed: Deed) -> None:
        """Do what was done."""
        getattr(self, deed.kind)(deed)

    def merge(self, deed: Deed) -> None:
        kept, absorbed = deed.ids
        if self.absorbed.get(absorbed) == kept:
            return
        self.absorbed[absorbed] = kept
        self.owner = {sender: kept if owner == absorbed else owner for sender, owner in self.owner.items()}
        self._move(absorbed, kept, lambda _origin: True)

    def unmerge(self, deed: Deed) -> None:
        kept, absorbed = deed.ids
        if self.absorbed.pop(absorbed, None) is None:
            return
        for sender, owner in self.owner.items():
            if owner == kept and self.home[sender] == absorbed:
                self.owner[sender] = absorbed
        self._move(kept, absorbed, lambda origin: origin == absorbed)

    def _move(self, source: int, target: int, which: Callable[[int], bool]) -> None:
        self.messages = {
            message: (target if owner == source and which(origin) else owner, origin)
            for message, (owner, origin) in self.messages.items()
        }

    def block(self, deed: Deed) -> None:
        self.blocked.update(deed.ids)

    def unblock(self, deed: Deed) -> None:
        self.blocked.difference_update(deed.ids)

    def delete(self, deed: Deed) -> None:
        gone = {each for each in self.owner.values() if each in deed.ids} | set(deed.ids)
        gone |= {absorbed for absorbed, kept in self.absorbed.items() if kept in gone}
        self.deleted |= gone
        self.owner = {sender: None if owner in gone else owner for sender, owner in self.owner.items()}
        self.messages = {message: each for message, each in self.messages.items() if each[0] not in gone}

    def write(self, deed: Deed) -> None:
        owner = self.owner[deed.sender]
        if owner is None:
            owner = self.owner[deed.sender] = -1 - deed.sender
        if owner in self.blocked:
            self.dropped.add(deed.message)
        else:
            self.messages[deed.message] = (owner, owner)


@dataclass
class Arena:
    """A committed workspace with people on WhatsApp, and transactions of each thread's own."""

    engine: Engine
    pipeline: Pipeline
    contact_ids: list[int]
    deeds: list[Deed] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def workspace_id(self) -> int:
        return self.pipeline.workspace_id

    @contextmanager
    def uow(self) -> Iterator[UnitOfWork]:
        with unit_of_work(self.engine, NoPublisher(), now) as uow:
            yield uow

    def do(self, deed: Deed, act: Callable[[UnitOfWork], object]) -> None:
        """Do the act; note it with its place where it was not refused."""
        for _ in range(30):
            try:
                with self.uow() as uow:
                    act(uow)
                    # All locks are held: of two acts that touch the same contacts, the later one gets the higher number.
                    deed.place = int(uow.tx.exec_driver_sql("select nextval('deed')").scalar_one())
            except Refused as refusal:
                self.outcomes[refusal.word] += 1
                return
            except Exception as failure:
                if not is_transient(failure):
                    raise
                self.outcomes["repeated"] += 1
            else:
                self.outcomes[deed.kind] += 1
                self.deeds.append(deed)
                return
        raise AssertionError("never came to rest")

    def rows(self, statement: str, **given: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(statement), given))


def sender_of(number: int) -> str:
    return f"4477009{number:05}"


@pytest.fixture
def arena(database_url: str) -> Iterator[Arena]:
    engine = make_engine(database_url, "model", pool_size=8)
    with engine.begin() as tx:
        tx.exec_driver_sql("create sequence deed")
        pipeline = Pipeline(tx)
        senders = [sender_of(number) for number in range(2 * PAIRS)]
        firsts = [builders.whatsapp_text(each, f"first.{each}", "Hello", at(0)) for each in senders]
        pipeline.deliver("whatsapp_cloud", *firsts)
        ids = [int(pipeline.contact_of("whatsapp_cloud", each).id) for each in senders]
    yield Arena(engine, pipeline, ids)
    engine.dispose()


def act_at_random(arena: Arena, number: int) -> None:
    """Act on random pairs."""
    dice = random.Random(f"{SEED}.act.{number}")
    for _ in range(ACTS):
        pair = dice.randrange(PAIRS)
        kept, absorbed = arena.contact_ids[2 * pair : 2 * pair + 2]
        one = dice.choice([kept, absorbed])
        w = arena.workspace_id
        match dice.choices(["merge", "unmerge", "block", "unblock", "delete"], [6, 5, 3, 4, 0.5])[0]:
            case "merge":
                merge = partial(merge_contacts, request=MergeRequest(w, kept, absorbed))
                arena.do(Deed(0, "merge", (kept, absorbed)), merge)
            case "unmerge":
                unmerge = partial(unmerge_contact, workspace_id=w, kept_id=kept, absorbed_id=absorbed)
                arena.do(Deed(0, "unmerge", (kept, absorbed)), unmerge)
            case "delete":
                arena.do(Deed(0, "delete", (one,)), partial(accept_deletion, request=DeletionRequest(w, [one])))
            case kind:
                toggle(arena, kind, one)


def toggle(arena: Arena, kind: str, one: int) -> None:
    """Block or unblock a contact; one that is absorbed or deleted is passed over, and that is no deed."""
    deed = Deed(0, kind, ())

    def act(uow: UnitOfWork) -> None:
        if kind == "block":
            result = block_contacts(uow, arena.workspace_id, [one], BlockTerms())
        else:
            result = unblock_contacts(uow, arena.workspace_id, [one])
        deed.ids = () if result.missing else (one,)

    arena.do(deed, act)


def write_at_random(arena: Arena, number: int) -> None:
    """Deliver messages of random people."""
    dice, resolver = random.Random(f"{SEED}.write.{number}"), Resolver(SEALER)
    for count in range(2 * ACTS):
        sender, message = dice.randrange(2 * PAIRS), f"m{number}.{count}"
        body = builders.whatsapp_text(sender_of(sender), message, message, at(count))
        raw = encode_requests([arena.pipeline.request("whatsapp_cloud", body)])
        arena.do(Deed(0, "write", (), message, sender), lambda uow, raw=raw: resolve_requests(uow, resolver, [raw]))


def test_M6_everything_at_once_on_fifty_contacts_agrees_with_a_model(arena: Arena) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(ACTORS + WRITERS) as pool:
        running = [pool.submit(act_at_random, arena, number) for number in range(ACTORS)]
        running += [pool.submit(write_at_random, arena, number) for number in range(WRITERS)]
        for each in running:
            each.result()
    for row in arena.rows("select id from deletion_job"):
        state = "running"
        while state == "running":
            with arena.uow() as uow:
                state = purge_deletion(uow, PurgeDeletion(arena.workspace_id, row.id))
        assert state == "completed"
    model = Model(dict(enumerate(arena.contact_ids)), dict(enumerate(arena.contact_ids)))
    for number, contact_id in enumerate(arena.contact_ids):
        model.messages[f"first.{sender_of(number)}"] = (contact_id, contact_id)
    for deed in sorted(arena.deeds, key=lambda each: each.place):
        model.do(deed)

    contacts = {row.id: row for row in arena.rows("select * from contact")}
    owners = {row.address: row.contact_id for row in arena.rows("select address, contact_id from identity")}
    new = {number: owners.get(sender_of(number), 0) for number in range(2 * PAIRS)}
    named = {new[number]: -1 - number for number in new if new[number] not in arena.contact_ids}
    stored = {
        row.external_id.removeprefix("wamid."): tuple(
            named.get(each, each) for each in (row.contact_id, row.origin_contact_id)
        )
        for row in arena.rows("select external_id, contact_id, origin_contact_id from message")
    }
    dropped = {row.external_hash for row in arena.rows("select external_hash from dropped_message")}
    with arena.engine.connect() as connection:
        orphan_count = sum(orphans(connection).values())
    differences = {
        "owners": {
            number: (named.get(new[number], new[number]) or None, owner)
            for number, owner in model.owner.items()
            if (named.get(new[number], new[number]) or None) != owner
        },
        "blocked": {each for each, row in contacts.items() if row.blocked_at} ^ (model.blocked - model.deleted),
        "absorbed": {each: row.merged_into for each, row in contacts.items() if row.merged_into}.items()
        ^ {each: kept for each, kept in model.absorbed.items() if each not in model.deleted}.items(),
        "deleted": (set(arena.contact_ids) - set(contacts)) ^ model.deleted,
        "messages": stored.items() ^ model.messages.items(),
    }
    wrong = {name: each for name, each in differences.items() if each}
    sent = sum(deed.kind == "write" for deed in arena.deeds)
    record(
        MODELLED,
        Figures(
            sent,
            len(model.messages.keys() - stored.keys()),
            0,
            len(stored.keys() - model.messages.keys()),
            orphan_count,
            more={
                "violations": sum(map(len, wrong.values())),
                "seconds": round(time.monotonic() - began, 1),
                **arena.outcomes,
            },
        ),
        load=f"{ACTORS} threads of acts and {WRITERS} of messages",
    )
    assert wrong == {}
    assert orphan_count == 0
    assert len(dropped) <= len(model.dropped)
    assert all(arena.outcomes[kind] > 3 for kind in ("merge", "unmerge", "block", "unblock", "delete", "write"))


LIVE = "select id from contact where merged_into is null and deletion_job_id is null order by id"


def test_X2_contacts_are_deleted_twice_merged_and_written_to_at_once() -> None:
    processes = ("web", "worker_resolve", "worker_delete", "worker_upkeep", "beat")
    with faulty_system(processes=processes) as system:
        load = system.load(Plan(rate=200, seconds=25, senders=200, seed=SEED))
        load.start()
        until(lambda: system.scalar("select count(*) from contact") > 150, 30)
        dice, outcomes, jobs = random.Random(SEED), Counter[str](), set[int]()

        def note(what: str, result: Any) -> None:
            if isinstance(result, Refused):
                outcomes[f"{what}: {result.word or type(result).__name__}"] += 1
                return
            outcomes[f"{what}: done"] += 1
            if what == "delete":
                jobs.add(result.deletion_job_id)

        def delete(ids: list[int]) -> None:
            request = DeletionRequest(system.workspace_id, ids)
            note("delete", act_on(system, lambda uow: accept_deletion(uow, request)))

        def merge(ids: list[int]) -> None:
            for kept, absorbed in zip(ids[::2], ids[1::2], strict=True):
                request = MergeRequest(system.workspace_id, kept, absorbed)
                note("merge", act_on(system, lambda uow, request=request: merge_contacts(uow, request)))

        while not load.is_over:
            live = [row.id for row in system.rows(LIVE)]
            chosen = dice.sample(live, min(20, len(live) // 2 * 2))
            acts = [threading.Thread(target=act, args=(chosen,)) for act in (delete, delete, merge)]
            for each in acts:
                each.start()
            for each in acts:
                each.join()
            time.sleep(0.5)
        report = load.join(60)
        system.drain(30)
        started = time.monotonic()
        until(lambda: not system.rows("select 1 from deletion_job where state not in ('completed', 'cancelled')"), 60)
        purged = time.monotonic() - started
        answers = load.ledger.answers()
        load.ledger.close()
        accepted = {each for each, statuses in answers.items() if 200 in statuses}
        known = {
            row.external_hash.hex
            for table in ("message", "message_fingerprint")
            for row in system.rows(f"select external_hash from {table}")
        }
        missing = [each for each in accepted if external_hash(f"wamid.{each}") not in known]
        # Accepted before their contact's deletion, and waiting until afterwards: they went with it, and are counted.
        erased = system.ingest("check")["items"].get("dropped", {}).get("erased", 0)
        twice = system.scalar("select count(*) - count(distinct (channel_id, external_hash)) from message")
        left = system.scalar("select count(*) from contact where deletion_job_id is not null")
        stones = system.scalar("select count(*) from tombstone")
        doubles = system.scalar("select count(*) - count(distinct contact_id) from tombstone")
        figures = Figures(
            len(accepted),
            abs(len(missing) - erased),
            twice,
            0,
            system.orphan_count(),
            non_2xx_share=report.rejected / len(answers),
            more=rounded(
                {
                    "jobs": len(jobs),
                    "tombstones": stones,
                    "erased while they waited": erased,
                    "purged s after the load": purged,
                    **outcomes,
                }
            ),
        )
        record(DELETED, figures, load="200/s from 200 senders for 25 s")
        assert (figures.lost, twice, figures.orphans, left, doubles) == (0, 0, 0, 0, 0)
        assert outcomes["delete: done"] > 10
        assert stones > 100
        system.assert_sound()
