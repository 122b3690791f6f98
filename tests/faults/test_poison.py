"""Messages that no worker survives, and events whose workspace, channel or contact goes while they wait."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import os
import signal
import time
from dataclasses import replace

import pytest
from sqlalchemy import text

from ingest.jobs.publisher import NoPublisher
from ingest.pipeline import administer
from ingest.pipeline.delete import DeletionRequest, accept_deletion
from ingest.runtime import Runtime, now
from ingest.settings import read_settings
from ingest.simulators.traffic import Plan
from ingest.store.sealing import Sealer
from ingest.store.unit_of_work import unit_of_work
from tests.faults import poisoned_worker
from tests.faults.judging import judged
from tests.faults.record import SEED, Row
from tests.faults.world import faulty_system, python
from tests.system import WHATSAPP, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]

POISON = Row("M1", "two poisonous messages under load", "set aside after 3 tries alone, neighbours stored")
OWNERS_GONE = Row(
    "M9", "workspace, channel and contacts deleted while their events wait", "set aside or erased; no orphans"
)
SOLO_TRIES = 3
POISONED = python("-m", "tests.faults.poisoned_worker", "resolve", POISONED_LIMITS="1")
# Each kind: what it becomes, and how long a neighbour may wait at most. Claims are leased for 5 s; what never ends holds its
# process until the hard limit, and both processes at worst.
KINDS = {
    "poison-raises": ("KeyError", 5.0),
    "poison-kills": ("worker_died", 15.0),
    "poison-sleeps": ("worker_died", 4 * poisoned_worker.HARD_LIMIT_SECONDS),
    "poison-spins": ("worker_died", 4 * poisoned_worker.HARD_LIMIT_SECONDS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_M1_a_poisonous_message_is_set_aside_after_three_tries_alone(kind: str) -> None:
    reason, bound = KINDS[kind]
    with faulty_system(commands={"worker_resolve": POISONED, "worker_resolve_1": POISONED}) as system:
        load = system.load(Plan(rate=100, seconds=120, senders=500, seed=SEED))
        load.start()
        time.sleep(2)
        started = time.monotonic()
        assert [system.send(number, kind, f"poison{number}") for number in range(2)] == [200, 200]
        oldest = 0.0
        while len(system.dead_reasons()) < 2:
            assert time.monotonic() - started < 100
            oldest = max(oldest, system.oldest_waiting_seconds_but(kind.encode()))
            time.sleep(0.2)
        seconds = time.monotonic() - started
        load.stop()
        judged(
            system,
            load,
            replace(POISON, case=kind),
            bound=40,
            dead=[reason] * 2,
            tries=system.scalar("select max(attempts) from dead_letter"),
            set_aside_s=seconds,
            neighbour_delay_s=oldest,
        )
        assert system.scalar("select max(attempts) from dead_letter") <= SOLO_TRIES + 1
        assert oldest < bound


def test_M9_workspace_channel_and_contacts_go_while_their_events_wait() -> None:
    with faulty_system(processes=("web", "worker_resolve", "worker_delete", "worker_upkeep", "beat")) as system:
        sealer = Sealer([system.secret_key])
        with system.engine.begin() as tx:
            doomed_channel = system._add_channel(tx, sealer, "whatsapp_cloud", WHATSAPP, "app_secret", verify_token="v")
            ours, system.workspace_id = system.workspace_id, administer.create_workspace(tx, "Doomed")
            foreign = system._add_channel(tx, sealer, "whatsapp_cloud", WHATSAPP, "app_secret", verify_token="v")
            doomed_workspace, system.workspace_id = system.workspace_id, ours
        for number in range(10):
            assert system.send(number, "before", f"before{number}") == 200
        system.drain(20)
        old = {row.id for row in system.rows("select id from contact")}
        stopped = system.stop_resolvers()
        load = system.load(Plan(rate=300, count=600, senders=200, seed=SEED))
        load.start()
        for number in range(10):
            for target in (system.whatsapp, doomed_channel, foreign):
                assert system.send(number, "waiting", f"waiting{number}", target) == 200
        load.join(60)
        salt = Runtime.from_settings(
            read_settings(database_url=system.servers.database_url, secret_key=system.secret_key)
        ).salts[0]
        with unit_of_work(system.engine, NoPublisher(), now) as uow:
            accept_deletion(uow, DeletionRequest(system.workspace_id, sorted(old), salt=salt))
            uow.tx.execute(text("delete from channel where id = any(:ids)"),
                           {"ids": [doomed_channel.channel_id, foreign.channel_id]})  # fmt: skip
            uow.tx.execute(text("delete from workspace where id = :id"), {"id": doomed_workspace})
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        until(lambda: not system.rows("select 1 from deletion_job where state <> 'completed'"), 60)
        for number in range(10):
            assert system.send(number, "after", f"after{number}") == 200
        system.drain(20)
        late = system.rows("select contact_id from message where text = 'after'")
        judged(
            system,
            load,
            OWNERS_GONE,
            bound=30,
            # What waited for the channel that is gone names people who are gone; those of the other workspace are not.
            dead=["erased"] * 10 + ["unknown_channel"] * 10,
            new_contacts=len({row.contact_id for row in late} - old),
            tombstones=system.scalar("select count(*) from tombstone"),
        )
        # What the deleted had written before goes with them; what they write afterwards makes new contacts.
        assert len({row.contact_id for row in late} - old) == 10
        assert not system.rows("select 1 from message where text in ('before', 'waiting')")
