"""What a row of the fault matrix showed: printed, and kept as one JSON line.

    record(Row("K9", "the web process is struck by lightning", "taken over"), verdict_figures(...), load="200/s for 20 s")

A line names the row, the fault, what is expected, the system it was done to, the figures, the load, the seed, the machine
and the versions. FAULTS_OUT is the directory of `results.jsonl`; `make faults` sets it to docs/benchmarks/faults. Without
it nothing is kept, so that a trial leaves no trace. `python -m tests.faults.report` makes the table.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.report import PACKAGES, machine

SEED = int(os.environ.get("FAULTS_SEED", "1"))
RESULTS = "results.jsonl"
DEFAULT_OUT = Path("docs/benchmarks/faults")
# When a row is run: with every test run, by `make faults`, or there and only with
# FAULTS_SOAK_SECONDS or FAULTS_LONG.
QUICK, NIGHTLY, SOAK = "quick", "nightly", "soak"

_lines_of_test: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the matrix: its id (K4, Q1), what is done, and what must come of it. `case` tells its variants apart."""

    id: str
    fault: str
    expected: str
    case: str = ""
    when: str = NIGHTLY


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted. None stands for "does not apply".

    `lost` was answered 2xx and is nowhere; `stored_twice` has two rows; `phantom` was refused and is stored; `orphans` are
    rows without their parent. `recovery_seconds` run from the fault's end until the oldest waiting request is younger than
    two seconds and stays so for a second. `accept_p99_ms` and `non_2xx_share` are of the requests that were due during
    the fault; one without any answer counts as non-2xx. `more` holds whatever else a row wants to tell.
    """

    accepted: int
    lost: int | None
    stored_twice: int | None
    phantom: int | None = None
    orphans: int | None = None
    recovery_seconds: float | None = None
    recovery_bound_seconds: float | None = None
    accept_p99_ms: float | None = None
    non_2xx_share: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def record(row: Row, figures: Figures, *, load: str, system: str = "ours") -> None:
    """Print a row's figures and keep them, where FAULTS_OUT says. A later line for the same row, case and system counts."""
    counted = {name: value for name, value in asdict(figures).items() if name != "more" and value is not None}
    told = ", ".join(f"{name} {value}" for name, value in {**counted, **figures.more}.items())
    print(f"\n[{row.id}{f' {row.case}' if row.case else ''}] {system}: {told} (seed {SEED})", flush=True)
    directory = os.environ.get("FAULTS_OUT", "")
    if not directory:
        return
    known = machine()
    line = {
        **{
            "row": row.id,
            "case": row.case,
            "fault": row.fault,
            "expected": row.expected,
            "system": system,
            "when": row.when,
        },
        **{
            "figures": asdict(figures),
            "load": load,
            "seed": SEED,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "load_average": round(os.getloadavg()[0], 1),
        "machine": {name: value for name, value in known.items() if name not in PACKAGES},
        "versions": {name: value for name, value in known.items() if name in PACKAGES} | {"ingest": version("ingest")},
    }
    _lines_of_test.append(line)
    _keep(line, Path(directory))


def end_test(*, has_failed: bool) -> None:
    """Say how the test ended that recorded the latest rows: those of one that failed are kept once more, and marked so."""
    lines = [{**line, "failed": True} for line in _lines_of_test] if has_failed else []
    _lines_of_test.clear()
    for line in lines:
        _keep(line, Path(os.environ["FAULTS_OUT"]))


def _keep(line: Mapping[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / RESULTS).open("a") as file:
        # Several workers of one run may write at once.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(line, default=str) + "\n")
