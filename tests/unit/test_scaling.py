"""The model of the system under load runs, and more of anything never makes it claim less than it should."""

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling import Costs, Machine, capacity, plan, read_costs, simulate, table

COSTS = Costs(210, 122, 120, 6, 0.002, 0.00002, 0.006, 0.0003, 1_500, 900, 1_800)
TWO_CORES = Machine(1, 1, 2)


def test_more_of_anything_is_never_less_capacity() -> None:
    machines = [
        Machine(1, 1, 1),
        Machine(1, 1, 2),
        Machine(2, 1, 2),
        Machine(2, 2, 2),
        Machine(2, 2, 8),
        Machine(8, 8, 8),
    ]
    most = [capacity(COSTS, each)[0] for each in machines]
    assert most == sorted(most)


def test_what_stops_first_is_named() -> None:
    assert capacity(COSTS, Machine(8, 8, 1))[1] == "processors"
    assert capacity(COSTS, Machine(1, 8, 32))[1] == "web processes"
    assert capacity(COSTS, Machine(8, 1, 32))[1] == "resolve workers"


def test_a_higher_rate_needs_no_less_of_anything() -> None:
    plans = [plan(COSTS, rate) for rate in (1, 100, 1_000, 10_000, 100_000)]
    for name in scaling.Plan.__dataclass_fields__:
        values = [getattr(each, name) for each in plans]
        assert values == sorted(values), name
    assert plans[-1].workers > 1
    assert plans[-1].database_nodes >= 1


def test_what_is_planned_carries_its_rate() -> None:
    for rate in (1_000, 10_000, 100_000):
        each = plan(COSTS, rate)
        cores = each.web_cores + each.worker_cores + each.database_cores
        assert capacity(COSTS, Machine(each.web_processes, each.workers, cores))[0] > rate


def test_latency_grows_with_the_load_and_is_infinite_beyond_capacity() -> None:
    most, _ = capacity(COSTS, TWO_CORES)
    for name in ("answer_95", "stored_95"):
        waits = [simulate(COSTS, share * most, TWO_CORES)[name] for share in (0.3, 0.5, 0.7, 0.9)]
        assert waits == sorted(waits)
        assert simulate(COSTS, 1.01 * most, TWO_CORES)[name] == math.inf


def test_nothing_is_quicker_than_the_work_itself() -> None:
    waits = simulate(COSTS, 10, Machine(1, 1, 64))
    alone_ms = COSTS.web_us / 1000 + 1000 * (COSTS.commit_seconds + COSTS.request_seconds)
    assert waits["answer_50"] == pytest.approx(alone_ms, rel=0.01)
    assert waits["stored_50"] == pytest.approx(
        alone_ms + 1000 * (COSTS.claim_seconds + COSTS.message_seconds), rel=0.01
    )


def test_every_message_is_stored_once_in_the_simulation() -> None:
    accepted = [(number / 1000, number / 1000 + 0.002) for number in range(3_000)]
    for workers in (1, 3):
        assert len(scaling._store_all(COSTS, workers, 1.0, accepted)) == 3_000


def test_a_second_worker_makes_nobody_wait_longer_when_processors_are_plenty() -> None:
    rate = 0.8 * COSTS.worker_rate
    one, two = (simulate(COSTS, rate, Machine(2, workers, 64))["stored_95"] for workers in (1, 2))
    assert two <= one


def test_the_command_runs_on_costs_that_were_measured(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"scaling": {"series": {"costs": COSTS.__dict__}}}))
    assert read_costs(results) == COSTS
    assert len(table(COSTS)) == 2 + len(scaling.RATES)
    assert read_costs().total_us > 0


def test_the_model_foretells_the_published_maximum() -> None:
    known = json.loads(scaling.RESULTS.read_text())["known"]
    runs = [run for run in known["runs"] if run["system"] == "ours"]
    measured = statistics.median(run["stored_per_second"] for run in runs)
    spent = {name: statistics.median(run["cpu_us"][name] for run in runs) for name in runs[0]["cpu_us"]}
    costs = replace(
        scaling.PUBLISHED,
        web_us=spent.pop("web"),
        worker_us=spent.pop("worker resolve"),
        database_us=spent.pop("postgres"),
        other_us=sum(spent.values()),
    )
    foretold, stops = capacity(costs, Machine(1, 1, float(known["machine"]["cpus"])))
    assert foretold == pytest.approx(measured, rel=0.25), stops
