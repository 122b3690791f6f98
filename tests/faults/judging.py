"""The judgement that rows with faults of their own making share: wait until nothing waits, count, record, assert."""

import time
from collections.abc import Collection, Sequence
from typing import Any

from tests.faults.record import Figures, Row, record
from tests.faults.world import FaultySystem
from tests.system import Load, Verdict, until

# Since its acceptance: a job that was put off after a failure waits too.
OLDEST = """
    select coalesce(extract(epoch from now() - min(created_at)), 0) from job where queue = 'resolve' and body is not null
"""
YOUNG_SECONDS = 2.0
MOST_BACKOFF_SECONDS = 30.0


def recovered(system: FaultySystem, bound: float) -> float:
    """Return after how many seconds from now no accepted request has waited for longer than two, nor is in the spool.

    Fails after `bound`: the fault is over, so the backlog must drain without anybody's help.
    """
    started = time.monotonic()
    until(lambda: not any(system.spool.glob("*.spool")) and system.scalar(OLDEST) < YOUNG_SECONDS, bound)
    return time.monotonic() - started


def judged(
    system: FaultySystem,
    load: Load,
    row: Row,
    *,
    bound: float,
    refused: Collection[int] = (503,),
    dead: Sequence[str] = (),
    recovery: float | None = None,
    **more: Any,
) -> Verdict:
    """Wait for the recovery, record the row, and assert that nothing was lost, stored twice, invented or orphaned.

    Call it when the fault and the load are over. The recovery may take `bound` seconds; give `recovery` where it was taken
    before. `refused` are the answers other than 2xx that are right, `dead` the reasons of the dead letters there must be.
    """
    seconds = recovered(system, bound) if recovery is None else recovery
    system.drain(MOST_BACKOFF_SECONDS + bound)
    verdict = system.judge(load)
    orphans = system.orphan_count()
    report = load.join(1)
    p99 = report.percentile(99)
    asked = report.statuses.total() + report.failed
    figures = Figures(
        verdict.accepted,
        len(verdict.lost),
        len(verdict.duplicate),
        len(verdict.phantom),
        orphans,
        round(seconds, 2),
        bound,
        None if p99 is None else round(1000 * p99, 1),
        1 - report.accepted / asked if asked else None,
        rounded(more),
    )
    plan = load.plan
    record(row, figures, load=f"{plan.rate:g}/s from {plan.senders} senders for {report.seconds:.0f} s")
    assert verdict.is_clean, verdict
    assert verdict.accepted > 0
    assert set(verdict.refused) <= set(refused), verdict
    assert orphans == 0, orphans
    assert sorted(system.dead_reasons()) == sorted(dead), system.dead_reasons()
    system.assert_sound()
    return verdict


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures with words for names, and fractions to two places."""
    return {
        name.replace("_", " "): round(value, 2) if isinstance(value, float) else value
        for name, value in figures.items()
    }
