"""Jobs on the real database: nobody does one twice, none is lost, and a bad one is set aside without its neighbours."""

# ruff: noqa: N802 - the names carry the lessons and promises

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, make_url, text

from ingest.domain.blocks import BlockTerms
from ingest.errors import Permanent
from ingest.jobs.celery import make_celery
from ingest.jobs.publisher import QUIET_SECONDS, CeleryPublisher
from ingest.jobs.queues import RESOLVE, TRANSFER
from ingest.jobs.types import JobType
from ingest.pipeline.block import block_contacts
from ingest.runtime import SESSION_SETTINGS, Runtime
from ingest.settings import read_settings
from ingest.store.dead_letters import list_dead_letters, replay_dead_letters
from ingest.store.due_jobs import list_coming_queues, oldest_due_seconds
from ingest.store.intake import RawRequest, encode_requests
from ingest.store.jobs import LeaseLost, add_jobs, claim_jobs, complete_jobs
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.views.queues import conservation, orphans, queue_figures
from tests import builders
from tests.builders import at
from tests.faults.fault_proxy import FaultProxy
from tests.pipeline_world import Pipeline
from workers import failures, handling, resolve
from workers.chores import CHORES, do_chore, ring_due

pytestmark = pytest.mark.database

ADA = "447700900451"
# The module that registers the queue's handlers.
assert resolve.resolver_of


@dataclass(frozen=True, slots=True)
class TestJob(JobType):
    """A job of these tests."""

    __test__: ClassVar[bool] = False
    queue: ClassVar[str] = TRANSFER
    name: ClassVar[str] = "test_job"

    number: int = 0


@dataclass
class Bells:
    """Notes who was rung for."""

    rung: list[str] = field(default_factory=list)

    def hush(self, queue: str) -> None:
        """Do nothing."""

    def ring(self, queues: Any) -> None:
        self.rung += queues


class House:
    """A database of this test's own with a workspace and a channel, and workers that run in threads."""

    def __init__(self, database_url: str, directory: Path, lease_seconds: int = 20, batch_events: int = 500) -> None:
        self.settings = read_settings(
            database_url=database_url,
            broker_url="redis://unused",
            secret_key=Fernet.generate_key().decode(),
            data_dir=directory,
            lease_seconds=lease_seconds,
            batch_events=batch_events,
        )
        self.bells = Bells()
        self.runtime = self.make_runtime()
        with self.runtime.begin() as tx:
            pipeline = Pipeline(tx, self.runtime.sealer)
            self.channel_id = pipeline.channel("whatsapp_cloud")
            self.workspace_id = pipeline.workspace_id

    def make_runtime(self) -> Runtime:
        """Return a runtime with connections of its own."""
        runtime = Runtime(self.settings, "test")
        runtime.__dict__["publisher"] = self.bells
        return runtime

    def request(self, body: builders.JSON | bytes, number: int = 0) -> RawRequest:
        raw = body if isinstance(body, bytes) else builders.encode(body)
        return RawRequest(
            self.workspace_id, self.channel_id, 0, at(number / 1000), number.to_bytes(16, "big"), "POST", "", {}, raw
        )

    def accept(self, *bodies: builders.JSON | bytes, group: int = 500) -> None:
        """Add jobs as the edge does, each of `group` requests."""
        requests = [self.request(body, number) for number, body in enumerate(bodies)]
        with self.runtime.begin() as tx:
            for start in range(0, len(requests), group):
                some = requests[start : start + group]
                tx.execute(
                    text(
                        "insert into job (workspace_id, queue, name, body, weight) "
                        "values (:w, 'resolve', 'resolve_requests', :body, :weight)"
                    ),
                    {"w": self.workspace_id, "body": encode_requests(some), "weight": len(some)},
                )
            tx.execute(
                text("insert into tally (workspace_id, channel_id, outcome, count) values (:w, :c, 'accepted', :n)"),
                {"w": self.workspace_id, "c": self.channel_id, "n": len(requests)},
            )

    def add(self, *jobs: JobType) -> None:
        with self.runtime.begin() as tx:
            add_jobs(tx, jobs)

    def run(self, statement: str, **given: Any) -> None:
        with self.runtime.begin() as tx:
            tx.execute(text(statement), given)

    def scalar(self, statement: str) -> Any:
        with self.runtime.begin() as tx:
            return tx.execute(text(statement)).scalar()

    def work_off(self, queue: str = RESOLVE, seconds: float = 30) -> None:
        """Claim and handle until no job of the queue is left, due or not."""
        ends_at = time.monotonic() + seconds
        while self.scalar(f"select count(*) from job where queue = '{queue}' and name <> 'apply_effects'"):
            assert time.monotonic() < ends_at, "jobs are left"
            if not handling.drain(self.runtime, queue):
                time.sleep(0.02)

    def texts(self) -> list[str]:
        with self.runtime.begin() as tx:
            return list(tx.scalars(text("select text from message order by sent_at, accepted_at, sequence, id")))

    def dead(self) -> list[str]:
        with self.runtime.begin() as tx:
            return [letter.reason for letter in list_dead_letters(tx)]

    def check(self) -> None:
        """Assert that everything accepted is accounted for and nothing is orphaned."""
        with self.runtime.begin() as tx:
            assert conservation(tx).is_exact
            assert not any(orphans(tx).values())

    def close(self) -> None:
        self.runtime.engine.dispose()


MakeHouse = Callable[..., House]


@pytest.fixture(scope="module")
def shared_database(make_database: Callable[[], str]) -> str:
    """One database for all tests here: emptying it is quicker than making another."""
    return make_database()


EMPTY = """
    do $$ declare each text; begin
        set local session_replication_role = replica;
        drop trigger if exists refuse on message;
        for each in select tablename from pg_tables where schemaname = 'public' and tablename <> 'alembic_version' loop
            execute format('delete from %I', each);
        end loop;
    end $$
"""


@pytest.fixture
def make_house(shared_database: str, tmp_path: Path) -> Iterator[MakeHouse]:
    made: list[House] = []
    engine = create_engine(shared_database)
    with engine.begin() as connection:
        connection.execute(text(EMPTY))
    engine.dispose()

    def make(**options: int) -> House:
        made.append(House(shared_database, tmp_path, **options))
        return made[-1]

    yield make
    for house in made:
        house.close()


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return make_house()


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[UnitOfWork, Sequence[TestJob]], object]], None]:
    """A function that says how this test's jobs are handled."""

    def register(function: Callable[[UnitOfWork, Sequence[TestJob]], object]) -> None:
        def run(_runtime: Runtime, uow: UnitOfWork, rows: Sequence[Any]) -> None:
            function(uow, [TestJob(row.workspace_id, row.args["number"]) for row in rows])

        monkeypatch.setitem(handling.HANDLERS, (TRANSFER, TestJob.name), handling.Handler(run))

    return register


def wrote(number: int, words: str | None = None, sender: str = ADA) -> builders.JSON:
    return builders.whatsapp_text(sender, f"m{number}", words or str(number), at(number / 10))


# Claims


def test_no_job_is_claimed_twice_by_many_at_once(house: House) -> None:
    house.add(*(TestJob(house.workspace_id, number) for number in range(300)))
    taken: Counter[int] = Counter()
    start = threading.Barrier(8)

    def claim_all() -> None:
        start.wait()
        for _ in range(200):
            with house.runtime.begin() as tx:
                claim = claim_jobs(tx, TRANSFER, 7, 20)
            if not claim:
                return
            taken.update(claim.ids)

    house.runtime.engine.dispose()
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(claim_all) for _ in range(8)]:
            done.result()
    # Whoever meets only rows that others are just taking comes back empty-handed; a bell or the beat sends it again.
    claim_all_left = Counter(taken)
    with house.runtime.begin() as tx:
        claim_all_left.update(claim_jobs(tx, TRANSFER, 1000, 20, rows=1000).ids)
    assert len(claim_all_left) == 300
    assert set(claim_all_left.values()) == {1}


def test_a_claim_takes_as_much_as_its_weight_and_at_least_one(house: House) -> None:
    house.accept(*(wrote(number) for number in range(30)), group=10)
    with house.runtime.begin() as tx:
        assert [job.weight for job in claim_jobs(tx, RESOLVE, 20, 20).jobs] == [10, 10]
        assert [job.weight for job in claim_jobs(tx, RESOLVE, 1, 20).jobs] == [10]
        assert not claim_jobs(tx, RESOLVE, 500, 20)


def test_a_job_due_later_is_not_claimed_before(house: House) -> None:
    with house.runtime.begin() as tx:
        add_jobs(tx, [TestJob(house.workspace_id)], due_at=house.runtime.clock() + timedelta(hours=1))
        assert not claim_jobs(tx, TRANSFER, 1, 20)
        assert list_coming_queues(tx, 0) == {}


def test_T38_a_workspace_with_a_backlog_does_not_hold_back_another(house: House) -> None:
    house.add(*(TestJob(house.workspace_id, number) for number in range(100)))
    house.add(TestJob(house.workspace_id + 1, 7))
    with house.runtime.begin() as tx:
        claim = claim_jobs(tx, TRANSFER, 2, 20)
    assert {job.workspace_id for job in claim.jobs} == {house.workspace_id, house.workspace_id + 1}


def test_a_key_that_waits_already_is_not_added_again(house: House) -> None:
    with house.runtime.begin() as tx:
        add_jobs(tx, [TestJob(house.workspace_id, 1), TestJob(house.workspace_id, 2)], keys=["a", "b"])
        add_jobs(tx, [TestJob(house.workspace_id, 3), TestJob(house.workspace_id, 4)], keys=["b", None])
        assert [job.args["number"] for job in claim_jobs(tx, TRANSFER, 10, 20).jobs] == [1, 2, 4]


# Leases


def test_T74_and_T78_a_lease_ends_and_its_job_can_be_claimed_again(house: House) -> None:
    house.add(TestJob(house.workspace_id))
    with house.runtime.begin() as tx:
        first = claim_jobs(tx, TRANSFER, 1, 0.2)
    with house.runtime.begin() as tx:
        assert not claim_jobs(tx, TRANSFER, 1, 20)
    time.sleep(0.3)
    with house.runtime.begin() as tx:
        second = claim_jobs(tx, TRANSFER, 1, 20)
        assert oldest_due_seconds(tx, [TRANSFER]) == 0
    assert (second.ids, second.jobs[0].attempts) == (first.ids, 2)


def test_N2_and_T30_a_worker_that_slept_past_its_lease_changes_nothing(house: House) -> None:
    house.accept(wrote(1))
    with house.runtime.begin() as tx:
        slept = claim_jobs(tx, RESOLVE, 500, 0.1)
    time.sleep(0.2)
    with house.runtime.begin() as tx:
        holder = claim_jobs(tx, RESOLVE, 500, 20)
    handling.handle_claim(house.runtime, RESOLVE, slept)
    assert house.texts() == []
    handling.handle_claim(house.runtime, RESOLVE, holder)
    house.work_off()
    assert house.texts() == ["1"]
    house.check()


def test_N2_and_T31_completing_without_the_lease_raises(house: House) -> None:
    house.add(TestJob(house.workspace_id))
    with house.runtime.begin() as tx:
        claim = claim_jobs(tx, TRANSFER, 1, 20)
        complete_jobs(tx, claim)
        with pytest.raises(LeaseLost):
            complete_jobs(tx, claim)


# Failures


def refuse(house: House, words: str, error: str) -> None:
    """Have the database refuse messages of these words with this error."""
    house.run(
        f"""create or replace function refuse() returns trigger language plpgsql as $$
            begin if new.text like '{words}' then raise exception using errcode = '{error}'; end if; return new; end $$"""
    )
    house.run("create trigger refuse before insert on message for each row execute function refuse()")


def test_6_a_message_that_the_database_refuses_is_found_and_set_aside_alone(make_house: MakeHouse) -> None:
    house = make_house(batch_events=64)
    refuse(house, "%poison%", "23514")
    house.accept(*(wrote(number, "poison" if number == 37 else None) for number in range(64)), group=16)
    house.work_off()
    assert house.texts() == [str(number) for number in range(64) if number != 37]
    assert house.dead() == ["CheckViolation"]
    house.check()


def test_M1_what_was_set_aside_is_stored_when_it_is_replayed_after_the_cause_is_gone(house: House) -> None:
    refuse(house, "%poison%", "23514")
    house.accept(wrote(1, "poison"))
    house.work_off()
    house.run("drop trigger refuse on message")
    with house.runtime.begin() as tx:
        (letter,) = list_dead_letters(tx)
        assert replay_dead_letters(tx, [letter.id]) == {letter.id: RESOLVE}
    house.work_off()
    assert house.texts() == ["poison"]
    house.check()


@pytest.mark.parametrize("error", ["40001", "40P01", "55P03"])
def test_D3_and_T29_faults_of_the_moment_are_retried_until_everything_is_stored(house: House, error: str) -> None:
    house.run(
        f"""create or replace function refuse() returns trigger language plpgsql as $$
            begin if random() < 0.2 then raise exception using errcode = '{error}'; end if; return null; end $$"""
    )
    house.run("create trigger refuse after insert on message for each statement execute function refuse()")
    house.accept(*(wrote(number) for number in range(60)), group=1)
    house.runtime.settings.__dict__["batch_events"] = 3
    house.work_off()
    assert (len(house.texts()), house.dead()) == (60, [])
    house.check()


@pytest.fixture
def impatient(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """A house whose workers wait for a lock for a fifth of a second only, and ask again at once."""
    monkeypatch.setitem(SESSION_SETTINGS, "lock_timeout", "200ms")
    monkeypatch.setattr(handling, "HELD_DELAY_SECONDS", (0.0, 0.1))
    patience = failures.Patience()
    monkeypatch.setattr(handling, "PATIENCE", patience)
    monkeypatch.setattr(failures, "PATIENCE", patience)
    house.runtime.engine.dispose()
    return house


@contextmanager
def holding(house: House, statement: str) -> Iterator[None]:
    """Hold the locks of a statement meanwhile."""
    engine = create_engine(house.settings.database_url)
    with engine.connect() as holder, holder.begin() as held:
        holder.execute(text(statement))
        yield
        held.rollback()
    engine.dispose()


def test_D6_messages_of_a_contact_that_somebody_holds_wait_and_their_neighbours_are_stored(impatient: House) -> None:
    impatient.accept(wrote(0))
    impatient.work_off()
    others = [builders.whatsapp_text(f"4477009006{number:02}", f"other.{number}", "other") for number in range(40)]
    impatient.accept(*others[:25], wrote(1), *others[25:], group=10)
    with holding(impatient, "select from contact for update"):
        ends_at = time.monotonic() + 15
        while len(impatient.texts()) < 41:
            assert time.monotonic() < ends_at, "neighbours wait too"
            handling.drain(impatient.runtime, RESOLVE)
        assert "1" not in impatient.texts()
    impatient.work_off()
    assert (len(impatient.texts()), impatient.dead()) == (42, [])
    impatient.check()


def test_D6_neighbours_of_a_message_whose_contact_is_held_are_stored_under_the_same_claim(impatient: House) -> None:
    impatient.accept(wrote(0))
    impatient.work_off()
    others = [builders.whatsapp_text(f"4477009006{number:02}", f"other.{number}", "other") for number in range(40)]
    impatient.accept(*others[:25], wrote(1), *others[25:], group=1)
    with holding(impatient, "select from contact for update"):
        with impatient.runtime.begin() as tx:
            claim = claim_jobs(tx, RESOLVE, 500, 20)
        handling.handle_claim(impatient.runtime, RESOLVE, claim)
        assert len(impatient.texts()) == 41
        waiting = "select array_agg((weight, is_solo)::text) from job where body is not null"
        assert impatient.scalar(waiting) == ["(1,t)"]
        # The next batch does not wait for long where the last one waited in vain.
        assert failures.lock_wait_of(claim.jobs, is_piece=False) == failures.IMPATIENT_WAIT_MILLISECONDS
    impatient.work_off()
    assert (len(impatient.texts()), impatient.dead()) == (42, [])
    impatient.check()


def test_D6_while_a_whole_table_is_held_no_batch_is_taken_apart(
    impatient: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "backoff_seconds", lambda _attempts: 0.0)
    impatient.accept(*(wrote(number) for number in range(20)), group=5)
    with holding(impatient, "lock table contact in access exclusive mode"):
        for _ in range(3):
            with impatient.runtime.begin() as tx:
                claim = claim_jobs(tx, RESOLVE, 500, 20)
            handling.handle_claim(impatient.runtime, RESOLVE, claim)
    assert impatient.scalar("select array_agg((weight, is_solo)::text) from job") == ["(5,f)"] * 4
    impatient.work_off()
    assert (len(impatient.texts()), impatient.dead()) == (20, [])


def test_N2_a_worker_that_slept_past_its_lease_over_a_batch_under_suspicion_changes_nothing(house: House) -> None:
    """It finds out while it takes the batch apart, and not while it handles it."""
    house.accept(*(wrote(number) for number in range(5)))
    die_with(house)
    with house.runtime.begin() as tx:
        slept = claim_jobs(tx, RESOLVE, 500, 0.1)
    time.sleep(0.2)
    with house.runtime.begin() as tx:
        holder = claim_jobs(tx, RESOLVE, 500, 20)
    assert slept.jobs
    handling.handle_claim(house.runtime, RESOLVE, slept)
    assert house.scalar("select count(*) from job where is_solo") == 0
    handling.handle_claim(house.runtime, RESOLVE, holder)
    house.work_off()
    assert len(house.texts()) == 5
    house.check()


def die_with(house: House, lease_seconds: float = 0.05) -> None:
    """Claim like a worker that is killed before it has done anything."""
    with house.runtime.begin() as tx:
        assert claim_jobs(tx, RESOLVE, 500, lease_seconds)
    time.sleep(lease_seconds + 0.02)


def test_6_a_batch_whose_worker_died_is_split_and_its_requests_are_stored_one_by_one(house: House) -> None:
    house.accept(*(wrote(number) for number in range(5)))
    die_with(house)
    with house.runtime.begin() as tx:
        handling_claim = claim_jobs(tx, RESOLVE, 500, 20)
    handling.handle_claim(house.runtime, RESOLVE, handling_claim)
    assert house.scalar("select count(*) from job where is_solo and weight = 1") == 5
    house.work_off()
    assert (len(house.texts()), house.dead()) == (5, [])
    house.check()


def test_M1_and_T79_a_request_that_kills_its_worker_is_set_aside_after_three_tries_alone(house: House) -> None:
    house.accept(wrote(1))
    die_with(house)
    handling.drain(house.runtime, TRANSFER)
    with house.runtime.begin() as tx:
        claim = claim_jobs(tx, RESOLVE, 500, 20)
    # The second time it is not even begun, but given back to be handled alone.
    handling.handle_claim(house.runtime, RESOLVE, claim)
    assert (house.texts(), house.scalar("select is_solo from job")) == ([], True)
    for _ in range(3):
        assert house.dead() == []
        die_with(house)
    house.work_off()
    assert (house.texts(), house.dead()) == ([], ["worker_died"])
    house.check()


def test_M1_who_comes_after_a_job_that_died_alone_goes_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "AGAIN_SECONDS", 0.3)
    house.accept(wrote(1))
    die_with(house)
    with house.runtime.begin() as tx:
        claim = claim_jobs(tx, RESOLVE, 500, 20)
    handling.handle_claim(house.runtime, RESOLVE, claim)
    die_with(house)
    house.accept(wrote(2))
    handling.drain(house.runtime, RESOLVE)
    assert house.texts() == ["2"]
    time.sleep(0.3)
    handling.drain(house.runtime, RESOLVE)
    assert (sorted(house.texts()), house.dead()) == (["1", "2"], [])
    house.check()


def test_6_waiting_out_faults_does_not_count_as_a_try(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "HELD_DELAY_SECONDS", (0.0, 0.0))
    refuse(house, "%", "55P03")
    house.accept(wrote(1))
    for _ in range(6):
        with house.runtime.begin() as tx:
            claim = claim_jobs(tx, RESOLVE, 500, 20)
        handling.handle_claim(house.runtime, RESOLVE, claim)
    house.run("drop trigger refuse on message")
    die_with(house)
    house.work_off()
    assert (house.texts(), house.dead()) == (["1"], [])


def test_D1_what_a_worker_held_while_the_database_went_away_is_given_back_when_it_answers_and_not_when_the_lease_ends(
    house: House, handle: Any
) -> None:
    given = make_url(house.settings.database_url)
    with FaultProxy(f"{given.query['host']}/.s.PGSQL.{given.query['port']}") as proxy:
        through = given.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False)
        worker = Runtime(house.settings.model_copy(update={"database_url": through}), "test")
        worker.__dict__["publisher"] = house.bells
        upstream = proxy.upstream

        def lose(uow: UnitOfWork, _jobs: Sequence[TestJob]) -> None:
            proxy.upstream = "/nowhere"
            proxy.reset()
            threading.Timer(1.5, setattr, (proxy, "upstream", upstream)).start()
            uow.tx.execute(text("select 1"))

        handle(lose)
        with house.runtime.begin() as tx:
            add_jobs(tx, [TestJob(house.workspace_id, 1)])
            claim = claim_jobs(tx, TRANSFER, 500, 20)
        started = time.monotonic()
        handling.handle_claim(worker, TRANSFER, claim)
        assert 1 < time.monotonic() - started < 10
        worker.engine.dispose()
    given_back = "select lease_id is null and last_error is not null and not is_solo from job"
    assert house.scalar(given_back) is True


def test_a_permanent_failure_is_set_aside_at_once(house: House, handle: Any) -> None:
    tries: list[int] = []

    def fail(_uow: UnitOfWork, jobs: Sequence[TestJob]) -> None:
        tries.append(len(jobs))
        raise Permanent("the other side is gone")

    handle(fail)
    house.add(TestJob(house.workspace_id, 1))
    house.work_off(TRANSFER)
    assert (tries, house.dead()) == ([1], ["Permanent: the other side is gone"])


def test_an_unknown_job_becomes_a_dead_letter_and_can_be_replayed(house: House, handle: Any) -> None:
    house.add(TestJob(house.workspace_id, 7))
    house.work_off(TRANSFER)
    assert house.dead() == ["Permanent: unknown_job: test_job"]
    done: list[int] = []
    handle(lambda _uow, jobs: done.extend(job.number for job in jobs))
    with house.runtime.begin() as tx:
        replay_dead_letters(tx, [letter.id for letter in list_dead_letters(tx)])
    house.work_off(TRANSFER)
    assert done == [7]


def test_V1_a_body_that_this_release_cannot_read_is_set_aside(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "backoff_seconds", lambda _attempts: 0.0)
    house.accept(wrote(1), wrote(2))
    house.run("update job set body = 'of another release'")
    house.accept(wrote(3))
    house.work_off()
    assert (house.texts(), house.dead()) == (["3"], ["ValidationError"])


def test_the_failure_of_one_job_leaves_the_others_of_its_claim_done(
    house: House, handle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "backoff_seconds", lambda _attempts: 0.0)

    def work(uow: UnitOfWork, jobs: Sequence[TestJob]) -> None:
        for job in jobs:
            uow.tx.execute(text("select 1 / :n"), {"n": job.number})

    handle(work)
    house.add(*(TestJob(house.workspace_id, number) for number in (1, 0, 2)))
    house.work_off(TRANSFER)
    assert house.dead() == ["DivisionByZero"]


def test_follow_up_jobs_exist_exactly_when_their_cause_does(house: House, handle: Any) -> None:
    def work(uow: UnitOfWork, jobs: Sequence[TestJob]) -> None:
        uow.add_job(TestJob(house.workspace_id, 99))
        raise Permanent("after all not")

    handle(work)
    house.add(TestJob(house.workspace_id, 1))
    house.work_off(TRANSFER)
    assert house.scalar("select count(*) from job") == 0
    assert TRANSFER not in house.bells.rung


# Races of the pipeline


def resolve_in_threads(house: House, count: int) -> None:
    """Work off the queue with so many workers, each with connections and memory of its own."""
    house.runtime.engine.dispose()
    start = threading.Barrier(count)

    def work() -> None:
        runtime = house.make_runtime()
        resolver = resolve.Resolver(runtime.sealer)
        start.wait()
        try:
            for _ in range(200):
                with runtime.begin() as tx:
                    claim = claim_jobs(tx, RESOLVE, 1, 20)
                if not claim:
                    return
                if claim.jobs[0].body is None:
                    # On a slow machine an effect is tried once more while the messages are still being stored.
                    handling.handle_claim(runtime, RESOLVE, claim)
                else:
                    run_claim(runtime, resolver, claim)
        finally:
            runtime.engine.dispose()

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work) for _ in range(count)]:
            done.result()
    house.work_off()


def run_claim(runtime: Runtime, resolver: Any, claim: Any) -> None:
    def run(_runtime: Runtime, uow: UnitOfWork, rows: Sequence[Any]) -> None:
        resolve.resolve_requests(uow, resolver, [row.body for row in rows])

    handling._run_with_retries(runtime, claim, claim.jobs, handling.Handler(run))


def test_T27_and_P4_fifty_first_messages_at_once_are_one_contact_and_one_conversation(house: House) -> None:
    house.accept(*(wrote(number) for number in range(50)), group=1)
    resolve_in_threads(house, 4)
    assert house.texts() == [str(number) for number in range(50)]
    for table in ("contact", "conversation", "identity", "contact_key"):
        assert house.scalar(f"select count(*) from {table}") == 1, table
    house.check()


def test_T33_and_T28_twenty_deliveries_of_one_id_at_once_are_one_row(house: House) -> None:
    house.accept(*(wrote(1) for _ in range(20)), group=1)
    resolve_in_threads(house, 4)
    assert (house.texts(), house.dead()) == (["1"], [])
    assert house.scalar("select sum(count) from tally where outcome = 'duplicate'") == 19


def test_T43_twenty_messages_resolved_by_four_workers_are_read_in_order(house: House) -> None:
    house.accept(*(wrote(number) for number in range(1, 21)), group=1)
    resolve_in_threads(house, 4)
    assert house.texts() == [str(number) for number in range(1, 21)]


def test_T44_effects_and_messages_that_miss_each_other_meet_later(house: House) -> None:
    bodies = [
        body
        for number in range(40)
        for body in (wrote(number), builders.whatsapp_edit(ADA, f"m{number}", "edited", at(99)))
    ]
    house.accept(*bodies, group=1)
    resolve_in_threads(house, 4)
    house.run("update job set due_at = now()")
    handling.drain(house.runtime, RESOLVE)
    assert set(house.texts()) == {"edited"}


def test_P3_no_message_is_stored_by_a_transaction_that_commits_after_the_block(house: House) -> None:
    house.accept(wrote(0))
    house.work_off()
    contact_id = house.scalar("select id from contact")
    house.accept(*(wrote(number) for number in range(1, 121)), group=1)
    stored_at_block: list[int] = []

    def block() -> None:
        runtime = house.make_runtime()
        time.sleep(0.15)
        with runtime.unit_of_work() as uow:
            block_contacts(uow, house.workspace_id, [contact_id], BlockTerms())
            # Under the contact's lock: nobody is storing for it right now.
            stored_at_block.append(uow.tx.execute(text("select count(*) from message")).scalar_one())
        runtime.engine.dispose()

    with ThreadPoolExecutor(1) as pool:
        blocking = pool.submit(block)
        resolve_in_threads(house, 3)
        blocking.result()
    assert stored_at_block == [len(house.texts())]
    assert house.scalar("select count(*) from dropped_message") == 121 - len(house.texts())
    house.check()


# Bells


class SlowApp:
    """Counts bells; each takes as long as a network would."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def send_task(self, name: str, **_options: Any) -> None:
        self.rung.append(name)


def test_many_bells_within_a_moment_are_two() -> None:
    app = SlowApp()
    publisher = CeleryPublisher(app)  # type: ignore[arg-type]
    publisher.ring([RESOLVE])
    time.sleep(QUIET_SECONDS / 4)
    for _ in range(100):
        publisher.ring([RESOLVE])
    time.sleep(3 * QUIET_SECONDS)
    publisher.close()
    # The first at once, and one after the last.
    assert app.rung == ["ingest.resolve", "ingest.resolve"]


def test_bells_that_nobody_has_heard_can_be_thrown_away(broker_url: str) -> None:
    app = make_celery(broker_url, "hushed", "publisher")
    publisher = CeleryPublisher(app)
    publisher.ring([RESOLVE])
    publisher.close()

    def waiting() -> int:
        with app.connection_for_read() as connection:
            return int(connection.default_channel._size(RESOLVE))  # type: ignore[attr-defined]

    assert waiting() == 1
    publisher.hush(RESOLVE)
    assert waiting() == 0
    app.close()


def test_a_long_drain_throws_its_bells_away_and_then_looks_once_more(
    house: House, handle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "BUSY_SECONDS", 0.0)
    done: list[int] = []
    handle(lambda _uow, jobs: done.extend(job.number for job in jobs))

    def add(number: int) -> None:
        with house.runtime.begin() as tx:
            add_jobs(tx, [TestJob(house.workspace_id, number)])

    hushed: list[str] = []

    def hush(queue: str) -> None:
        # Added a moment before, so that its bell is among those thrown away.
        add(2)
        hushed.append(queue)

    monkeypatch.setattr(house.bells, "hush", hush)
    add(1)
    handling.drain(house.runtime, TRANSFER)
    assert (done, hushed) == ([1, 2], [TRANSFER])


def test_a_bell_that_waits_is_rung_when_the_publisher_closes() -> None:
    app = SlowApp()
    publisher = CeleryPublisher(app)  # type: ignore[arg-type]
    for _ in range(2):
        publisher.ring([RESOLVE, TRANSFER])
    publisher.close()
    assert set(app.rung) == {"ingest.resolve", "ingest.transfer"}


def test_T76_the_beat_rings_for_what_is_due_and_for_nothing_else(house: House) -> None:
    assert ring_due(house.runtime) == []
    house.accept(wrote(1))
    house.bells.rung.clear()
    assert ring_due(house.runtime) == house.bells.rung == [RESOLVE]


def test_a_worker_with_more_than_one_batch_to_do_wakes_another(make_house: MakeHouse) -> None:
    house = make_house(batch_events=5)
    house.accept(*(wrote(number) for number in range(20)), group=5)
    handling.drain(house.runtime, RESOLVE)
    assert RESOLVE in house.bells.rung


# Chores and figures


def test_B58_a_chore_is_done_by_one_worker_at_a_time(house: House) -> None:
    holder = house.make_runtime()
    with holder.begin() as tx:
        tx.execute(text("select pg_advisory_xact_lock(hashtext('ingest.chore'), hashtext('compact_tallies'))"))
        assert do_chore(house.runtime, "compact_tallies") is False
    assert do_chore(house.runtime, "compact_tallies") is True
    holder.engine.dispose()


def test_adding_up_tallies_changes_no_sum(house: House) -> None:
    house.accept(*(wrote(number) for number in range(10)), group=1)
    house.work_off()
    with house.runtime.begin() as tx:
        before = conservation(tx)
    house.run("update tally set at = at - interval '1 hour'")
    for name in CHORES:
        if name == "compact_tallies":
            do_chore(house.runtime, name)
    with house.runtime.begin() as tx:
        assert conservation(tx) == before
        assert tx.execute(text("select count(*) from tally")).scalar_one() <= 3


def test_T46_an_effect_that_nobody_claimed_within_a_day_is_dropped(house: House) -> None:
    house.accept(builders.whatsapp_status(ADA, "e1", "read"))
    house.work_off()
    house.run("update message_effect set expires_at = now() - interval '1 second'")
    assert do_chore(house.runtime, "expire_effects") is True
    assert house.scalar("select count(*) from message_effect") == 0


def test_operators_see_what_waits_since_when_and_what_is_dead(house: House) -> None:
    house.accept(*(wrote(number) for number in range(4)), group=2)
    house.run("update job set due_at = now() - interval '90 seconds'")
    house.add(TestJob(house.workspace_id))
    handling.drain(house.runtime, TRANSFER)
    with house.runtime.begin() as tx:
        claim_jobs(tx, RESOLVE, 1, 20)
        figures = {each.queue: each for each in queue_figures(tx)}
    waiting = figures[RESOLVE]
    assert (waiting.waiting, waiting.waiting_items, waiting.leased) == (1, 2, 1)
    assert waiting.oldest_age_seconds == pytest.approx(90, abs=5)
    assert figures[TRANSFER].dead == 1
