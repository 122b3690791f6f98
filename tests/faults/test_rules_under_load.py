"""Rules that concurrency could break: one contact for first messages at once, a block while messages flow."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import pytest

from ingest.domain.blocks import BlockTerms
from ingest.jobs.publisher import NoPublisher
from ingest.pipeline.block import block_contacts
from ingest.runtime import now
from ingest.simulators.traffic import Plan
from ingest.store.unit_of_work import unit_of_work
from tests.faults.record import SEED
from tests.system import running_system, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]


def test_T27_fifty_first_messages_of_one_new_sender_on_four_workers() -> None:
    with running_system(resolvers=4) as system:
        load = system.load(Plan(rate=10_000, count=50, senders=1, seed=SEED, connections=50))
        load.start()
        load.join(60)
        system.drain(60)
        verdict = system.judge(load)
        print(f"\n50 first messages at once, seed {SEED}: {verdict}")
        assert verdict.is_clean, verdict
        for table, expected in (("contact", 1), ("conversation", 1), ("message", 50)):
            assert system.scalar(f"select count(*) from {table}") == expected
        system.assert_sound()


def test_P3_and_M5_a_block_committed_while_ten_thousand_messages_flow() -> None:
    with running_system() as system:
        load = system.load(Plan(rate=500, count=10_000, senders=5, seed=SEED, connections=32))
        load.start()
        until(lambda: system.scalar("select count(*) from message") > 2000, 60)
        ids = [row.id for row in system.rows("select id from contact")]
        with unit_of_work(system.engine, NoPublisher(), now) as uow:
            block_contacts(uow, system.workspace_id, ids, BlockTerms())
            # Under the contacts' locks: nobody is storing for them right now, and the commit follows.
            stored = uow.tx.exec_driver_sql("select count(*) from message").scalar_one()
        load.join(120)
        load.ledger.close()
        system.drain(60)
        final = system.scalar("select count(*) from message")
        dropped = system.scalar("select count(*) from dropped_message")
        print(f"\n{stored} stored before the block, {final - stored} after it, {dropped} dropped")
        assert (final, final + dropped) == (stored, 10_000)
        assert system.scalar("select count(distinct contact_id) from message") == len(ids) == 5
        system.assert_sound()
