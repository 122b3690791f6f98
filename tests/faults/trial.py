"""A trial: a load, faults in it, the verdict, and a recorded row of the matrix.

    with trial(system, ROW, Plan(rate=150, senders=500), bound=15) as run:
        with run.fault():
            system.servers.valkey.kill()
            system.servers.valkey.start()

The load runs until the block ends. Leaving `run.fault()` waits until the system has caught up, which is the recovery time,
and fails where that takes longer than the bound. At the end everything waits to be worked off, the checker judges, the
figures are recorded, and whatever is bad fails the test; of a comparator they are only recorded.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest

from ingest.simulators.traffic import Plan
from tests.faults.record import SEED, Figures, Row, record
from tests.system import Load, System, Verdict

IS_LONG = bool(os.environ.get("FAULTS_LONG"))
WARM_SECONDS = 2.0
YOUNG_SECONDS = 2.0
STEADY_SECONDS = 1.0
LOOK_SECONDS = 0.1
DRAIN_SECONDS = 120.0
# How long a comparator is waited for.
PATIENCE_SECONDS = 45.0


@cache
def _wanted(
    kind: type[System], options: tuple[tuple[str, Any], ...]
) -> tuple[type[System], tuple[tuple[str, Any], ...]]:
    """Return what the fixture is asked for; the same object for the same wish, so that tests share one system."""
    return kind, options


def on(*kinds: type[System], **options: Any) -> pytest.MarkDecorator:
    """Return a mark that has a test done to the module's system of each kind, made with these options."""
    wanted = [_wanted(kind, tuple(options.items())) for kind in kinds]
    return pytest.mark.parametrize("system", wanted, indirect=True, scope="module", ids=[kind.name for kind in kinds])


@dataclass
class Trial:
    """A running load and what its faults have shown so far."""

    system: System
    row: Row
    load: Load
    bound: float
    windows: list[tuple[float, float]] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    """Further figures for the table."""

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Mark the time that the fault lasts; afterwards wait until the system has recovered."""
        print(f"  {self.row.id} {self.row.case}: {self.row.fault}, {self.system.name} ...", flush=True)
        started = time.monotonic()
        yield
        ended = time.monotonic()
        self.windows.append((started, ended))
        self.recoveries.append(round(self._recover(ended), 2))
        print(f"    {ended - started:.1f} s, recovered after {self.recoveries[-1]:.1f} s", flush=True)

    def _recover(self, ended: float) -> float:
        """Return the seconds until the oldest waiting request was young, and stayed so for a second; the bound plus that."""
        young_since: float | None = None
        while (now := time.monotonic()) < ended + self.bound + STEADY_SECONDS:
            if self.system.oldest_waiting_seconds() >= YOUNG_SECONDS:
                young_since = None
            elif young_since is None:
                young_since = now
            elif now - young_since >= STEADY_SECONDS:
                return young_since - ended
            time.sleep(LOOK_SECONDS)
        return self.bound + STEADY_SECONDS

    def during(self) -> tuple[float | None, float | None]:
        """Return the 99th percentile in ms of the answers to what was due during the faults, and the share not answered 2xx."""
        due = [
            each
            for each in list(self.load.ledger.requests)
            if any(started <= each.due_at <= ended for started, ended in self.windows)
        ]
        seconds = sorted(each.seconds for each in due if each.status)
        p99 = round(1000 * seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))], 1) if seconds else None
        share = sum(not each.is_accepted for each in due) / len(due) if due else None
        return p99, share

    def figures(self, verdict: Verdict) -> Figures:
        """Return the row's figures."""
        p99, share = self.during()
        return Figures(
            verdict.accepted,
            len(verdict.lost),
            len(verdict.duplicate),
            len(verdict.phantom),
            sum(self.system.orphans().values()),
            max(self.recoveries, default=None),
            self.bound if self.recoveries else None,
            p99,
            share,
            self.more,
        )


@contextmanager
def trial(
    system: System, row: Row, plan: Plan, *, bound: float, drain_seconds: float = DRAIN_SECONDS
) -> Iterator[Trial]:
    """Give a trial under this load; judge, record and assert at the end."""
    system.clear()
    load = system.load(replace(plan, seed=SEED), system.whatsapp, *system.others)
    load.start()
    run = Trial(system, row, load, bound)
    try:
        time.sleep(WARM_SECONDS)
        yield run
    finally:
        load.stop()
    conclude(run, drain_seconds)


def conclude(run: Trial, drain_seconds: float = DRAIN_SECONDS) -> Verdict:
    """Wait until nothing waits, judge and record. Of our own system, fail where anything bad happened."""
    system = run.system
    is_drained = system.is_drained(drain_seconds if system.name == "ours" else PATIENCE_SECONDS)
    # Looked at before what is stored: what is worked off in between is then in both, and not in neither.
    held = set() if is_drained else system.held()
    verdict = system.judge(run.load)
    figures = run.figures(verdict)
    if not is_drained:
        waiting = len(held.intersection(verdict.lost))
        figures = replace(figures, lost=len(verdict.lost) - waiting, more={**run.more, "still waiting": waiting})
    record(run.row, figures, load=told(run.load.plan), system=system.name)
    if system.name == "ours":
        assert is_drained, f"{system.waiting()} requests still wait after {drain_seconds:.0f} s"
        assert verdict.is_clean, verdict
        assert set(verdict.refused) <= {503}, verdict
        assert figures.orphans == 0, system.orphans()
        assert verdict.accepted > 0
        assert all(each <= run.bound for each in run.recoveries), f"recovered after {run.recoveries} s"
        assert system.is_accounted_for(), system.ingest("check")
    return verdict


def told(plan: Plan) -> str:
    """Return the load in words."""
    count = f"{plan.count} requests" if plan.count else "requests"
    repeated = f", {plan.duplicates:.0%} of them repeated" if plan.duplicates else ""
    return f"{count} at {plan.rate:g}/s from {plan.senders} senders over {plan.connections} connections{repeated}"
