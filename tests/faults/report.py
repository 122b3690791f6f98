"""The table of the fault matrix, from the recorded lines.

Example: python -m tests.faults.report, which reads docs/benchmarks/faults/results.jsonl, writes docs/benchmarks/faults.md
and prints the table. FAULTS_OUT names another directory; the page is then written beside it.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.record import DEFAULT_OUT, RESULTS

PREFACE = """# Faults

Written by `make faults`: processes, servers and networks are killed, stopped, cut off and filled up under load, and a
checker says what became of every message. The load generator keeps its own record of every answer; the checker compares
it with the database. Absolute times belong to the machine.

- *lost*: answered 2xx, and nowhere to be found when nothing waits any more. *twice*: stored in two rows. *phantom*: stored
  though refused. *orphans*: rows without the row they belong to. What got no answer may be stored or not, once at most.
- *recovery*: seconds from the fault's end until the oldest waiting request was younger than two seconds, and the bound
  that the run asserts; bold where it took longer. A machine that is busy with other things makes it longer.
- *p99*: of the answers to requests that were due during the fault, in milliseconds from when they were due. *non-2xx*:
  share of these requests that were refused or got no answer; providers send them again.
- *naive*: the same load and fault on one Celery task a webhook (late acknowledgement, rejected when its worker is lost,
  restored after five seconds): accepted messages it lost, and messages it stored twice. Its table has the same unique key.
"""
HEAD = (
    "| row | fault | expected | accepted | lost | twice | phantom | orphans | recovery s | p99 ms | non-2xx | "
    "naive: lost, twice | more | seed |"
)

Line = Mapping[str, Any]


def read_lines(path: Path) -> list[Line]:
    """Return the recorded lines, none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def newest(lines: Iterable[Line]) -> dict[tuple[str, str, str], Line]:
    """Return the last line of each row, case and system, in the order of the matrix."""
    found = {(line["row"], line["case"], line["system"]): line for line in lines}
    return dict(sorted(found.items(), key=lambda each: _order(each[0])))


def _order(key: tuple[str, str, str]) -> tuple[Any, ...]:
    letters, number = re.match(r"([A-Z]*)(\d*)", key[0]).groups()  # type: ignore[union-attr]
    return ("KGQDEMWNXVF".find(letters), int(number or 0), key[1])


def render(lines: Iterable[Line]) -> str:
    """Return the page."""
    known = newest(lines)
    ours = [line for (_, _, system), line in known.items() if system == "ours"]
    naive = {(row, case): line for (row, case, system), line in known.items() if system == "naive"}
    parts = [PREFACE, HEAD, "|" + " --- |" * HEAD.count(" | ") + " --- |"]
    parts += [_table_line(line, naive.get((line["row"], line["case"]))) for line in ours]
    return "\n".join([*parts, "", *_footnotes(known.values())])


def _table_line(line: Line, naive: Line | None) -> str:
    figures = line["figures"]
    share = figures["non_2xx_share"]
    cells = [
        line["row"], " — ".join(filter(None, (line["fault"], line["case"]))), line["expected"], figures["accepted"],
        figures["lost"], figures["stored_twice"], figures["phantom"], figures["orphans"],
        _recovery(figures), figures["accept_p99_ms"], None if share is None else f"{share:.1%}",
        _naive(naive), _more(figures["more"]), line["seed"],
    ]  # fmt: skip
    return "| " + " | ".join("" if each is None else str(each).replace("|", "/") for each in cells) + " |"


def _recovery(figures: Mapping[str, Any]) -> str:
    seconds, bound = figures["recovery_seconds"], figures["recovery_bound_seconds"]
    if seconds is None:
        return ""
    told = f"{seconds:.1f}" + (f" (≤ {bound:g})" if bound is not None else "")
    return f"**{told}**" if bound is not None and seconds > bound else told


def _naive(line: Line | None) -> str:
    if line is None:
        return ""
    figures = line["figures"]
    told = f"{figures['lost']}, {figures['stored_twice']} of {figures['accepted']}"
    return f"{told}; {more}" if (more := _more(figures["more"])) else told


def _more(more: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in more.items())


def _footnotes(lines: Iterable[Line]) -> list[str]:
    """Return the loads, and the machines and versions that the figures are of."""
    all_lines = list(lines)
    loads: dict[str, list[str]] = {}
    for line in all_lines:
        loads.setdefault(line["load"], []).append(line["row"])
    told = [f"- {load}: {', '.join(dict.fromkeys(rows))}" for load, rows in loads.items()]
    places = dict.fromkeys(_place(line) for line in all_lines)
    busy = [line["load_average"] for line in all_lines if "load_average" in line]
    shared = [f"Load average at the end of a row: {min(busy):g} to {max(busy):g}.", ""] if busy else []
    return ["Loads:", "", *told, "", "Measured on:", "", *(f"- {each}" for each in places), "", *shared]


def _place(line: Line) -> str:
    where = [*line["machine"].items(), *line["versions"].items()]
    return f"{line['at'][:10]}: " + ", ".join(f"{name} {value}" for name, value in where)


def main(_arguments: Sequence[str] = ()) -> None:
    """Write the page and print its table."""
    out = Path(os.environ.get("FAULTS_OUT") or DEFAULT_OUT)
    page = render(read_lines(out / RESULTS))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(page)
    print("\n".join(line for line in page.splitlines() if line.startswith("|")))
    print(f"written to {out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
