"""Clocks that differ from machine to machine: a worker's, the upkeep's, the web process's."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.judging import judged
from tests.faults.record import SEED, Row
from tests.faults.world import faulty_system, python, timer_delay

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]

WORKER = Row(
    "W1", "the clocks of the resolver and of the upkeep are off", "no early redelivery, timers ring, stored once"
)
WEB = Row("W1", "the web process's clock is 6 minutes ahead", "accepted, times noted as told", "web +6 min")

# Found, not imported: what the package does to the importing process is for Python's own clock only.
PACKAGE = find_spec("libfaketime")


def off_by(skew: str, *arguments: str) -> tuple[str, ...]:
    """Return a command whose wall clock is off; durations are right, as on a machine with a wrong time."""
    assert PACKAGE is not None
    assert PACKAGE.origin is not None
    library = next(Path(PACKAGE.origin).parent.rglob("libfaketime.so.1"))
    return python(
        "-m", "ingest", *arguments,
        LD_PRELOAD=str(library), FAKETIME=skew, FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip


@pytest.mark.parametrize("skew", ["+1h", "-1h", "+2m", "-2m"])
def test_W1_workers_whose_clocks_are_off(skew: str) -> None:
    # No other worker is there that could do their work.
    wrong = {f"worker_{queue}": off_by(skew, "worker", queue) for queue in ("resolve", "upkeep")}
    with faulty_system(commands=wrong, resolvers=1) as system:
        load = system.load(Plan(rate=150, seconds=15, senders=1000, seed=SEED, duplicates=0.02))
        load.start()
        load.join(60)
        system.drain(30)
        delays = [timer_delay(system) for _ in range(3)]
        lost_leases = system.output.count('"lease.lost"')
        retried = system.output.count('"job.split"')
        judged(
            system,
            load,
            replace(WORKER, case=f"{skew.replace('m', ' min').replace('h', ' h')}"),
            bound=20,
            leases_lost=lost_leases,
            splits=retried,
            timers_late_s=max(delays),
        )
        assert (lost_leases, retried) == (0, 0)
        assert max(delays) < 5


def test_W1_a_web_process_that_is_six_minutes_ahead() -> None:
    with faulty_system(commands={"web": off_by("+6m", "web")}) as system:
        load = system.load(Plan(rate=150, seconds=15, senders=1000, seed=SEED))
        load.start()
        load.join(60)
        ahead = system.scalar("select extract(epoch from max(accepted_at) - now()) from message")
        late = system.scalar("select count(*) from message where is_late")
        judged(system, load, WEB, bound=20, refused=(), accepted_ahead_s=float(ahead), late=late)
        # Six minutes are less than the fifteen after which a message counts as late.
        assert late == 0
        assert ahead > 300
