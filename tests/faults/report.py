"""The page of the fault matrix, from the recorded lines.

Example: python -m tests.faults.report, which reads docs/benchmarks/faults/results.jsonl, writes docs/benchmarks/faults.md
and prints its tables. FAULTS_OUT names another directory; the page is then written beside it.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.faults.record import DEFAULT_OUT, NIGHTLY, RESULTS

PREFACE = """# Faults

What becomes of messages when something breaks. Each row below is one run: the whole system in real processes, with its own
PostgreSQL and broker, under a load of webhook calls; then something is killed, stopped, cut off or filled up, and at the
end a checker says what became of every message. The load generator keeps its own record of every answer it got; the
checker compares that with the database. `make faults` does all of this again, in less than an hour and a half, and writes
this page. Absolute times belong to the machine named at the end.
"""
LEGEND = """
How to read the tables:

- *accepted*: messages whose webhook call was answered 2xx (in the rows X: messages that were to be deleted).
- *lost*: accepted, and nowhere to be found when nothing waits any more. *twice*: stored in two rows. *phantom*: stored
  though refused. *orphans*: rows without the row they belong to. A message that got no answer may be stored or not, but
  once at most. A run in which any of the four is not 0 fails. A row whose run failed, for this or any other reason, says so.
- *recovery*: seconds from the fault's end until no accepted message had waited for two seconds or more; in brackets the
  most that the run allows.
- *p99*: milliseconds within which 99 of 100 calls were answered, counted from when each was due: in the rows K1,
  K2, K4, K6, Q, D1, D2, D7 and N of the calls during the fault, in the others of all calls of the run.
- *not 2xx*: share of these calls that were refused or got no answer. Providers send them again; so does the checker in K1.
- *when*: *quick* rows run with every `make test`, *nightly* ones with `make faults`, *soak* ones there too, with
  FAULTS_SOAK_SECONDS or FAULTS_LONG set.
"""
BESIDE = """## Beside a plain Celery application

The same load and fault on *naive*, one Celery task a webhook: late acknowledgement, a task whose worker is lost is rejected
and comes back, what a lost worker held is restored after five seconds instead of an hour, and a unique key on the message's
id. *lost*: accepted, and neither stored nor in the broker any more. *waiting*: still in the broker 45 s after the load's end.
*recovery* of naive: seconds until fewer than 200 tasks waited, which is two seconds' work.
"""

GROUPS = {
    "K": "Processes are killed",
    "G": "Processes are told to end",
    "Q": "The broker fails",
    "D": "PostgreSQL fails",
    "E": "The spool's disk fails while PostgreSQL is away",
    "N": "The network falls silent",
    "M": "Messages are poisonous, too many, repeated or out of order",
    "X": "Large deletions",
    "W": "Clocks are wrong",
    "V": "Two releases at once",
    "F": "A long run",
}
HEAD = (
    "row", "what is done", "what must come of it", "accepted", "lost", "twice", "phantom", "orphans", "recovery s", "p99 ms",
    "not 2xx", "more", "when", "seed",
)  # fmt: skip
BESIDE_HEAD = (
    "row", "what is done", "ours: lost, twice of accepted", "recovery s", "naive: lost, twice of accepted", "waiting",
    "recovery s",
)  # fmt: skip
WAITING = "still waiting"

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
    return ("".join(GROUPS).find(letters), int(number or 0), key[1])


def render(lines: Iterable[Line]) -> str:
    """Return the page."""
    known = newest(lines)
    ours = [line for (_, _, system), line in known.items() if system == "ours"]
    naive = {(row, case): line for (row, case, system), line in known.items() if system == "naive"}
    parts = [PREFACE, *_sums(ours, naive.values()), LEGEND]
    for letter, group in groupby(ours, key=lambda line: line["row"][0]):
        parts += [f"## {GROUPS[letter]}", "", *_table(HEAD, (_cells(line) for line in group)), ""]
    pairs = [(line, naive[line["row"], line["case"]]) for line in ours if (line["row"], line["case"]) in naive]
    if pairs:
        parts += [BESIDE, *_table(BESIDE_HEAD, (_cells_beside(*pair) for pair in pairs)), ""]
    return "\n".join([*parts, *_footnotes(known.values())])


def _sums(ours: Sequence[Line], naive: Iterable[Line]) -> list[str]:
    """Return all rows in a sentence, and naive's in another."""
    if not ours:
        return []
    lost, twice, phantom, orphans = (_sum(ours, name) for name in ("lost", "stored_twice", "phantom", "orphans"))
    told = [
        f"**{len(ours)} rows, {_sum(ours, 'accepted'):,} messages: {lost} lost, {twice} stored twice, {phantom} phantoms, "
        f"{orphans} orphans.**"
    ]
    if failed := [line["row"] for line in ours if line.get("failed")]:
        told.append(f"Failed: {', '.join(failed)}.")
    slowest = max(ours, key=lambda line: line["figures"]["recovery_seconds"] or 0.0)
    if slowest["figures"]["recovery_seconds"] is not None:
        told.append(f"The slowest recovery took {_recovery(slowest['figures'])} s: {slowest['row']}, {_done(slowest)}.")
    if compared := list(naive):
        told.append(
            f"A plain Celery application lost {_sum(compared, 'lost'):,} of {_sum(compared, 'accepted'):,} in "
            f"{len(compared)} of these rows."
        )
    return told


def _sum(lines: Iterable[Line], name: str) -> int:
    return sum(line["figures"][name] or 0 for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    told = [["" if each is None else str(each).replace("|", "/") for each in cells] for cells in rows]
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *told)]


def _cells(line: Line) -> Sequence[object]:
    figures = line["figures"]
    share = figures["non_2xx_share"]
    return [
        _name(line), _done(line), line["expected"], figures["accepted"], figures["lost"], figures["stored_twice"],
        figures["phantom"], figures["orphans"], _recovery(figures), figures["accept_p99_ms"],
        None if share is None else f"{share:.1%}", _more(figures["more"]), line.get("when", NIGHTLY), line["seed"],
    ]  # fmt: skip


def _name(line: Line) -> str:
    return f"{line['row']} **failed**" if line.get("failed") else str(line["row"])


def _cells_beside(ours: Line, naive: Line) -> Sequence[object]:
    both = [ours["figures"], naive["figures"]]
    lost = [f"{each['lost']}, {each['stored_twice']} of {each['accepted']}" for each in both]
    waiting = both[1]["more"].get(WAITING, 0)
    return [ours["row"], _done(ours), lost[0], _recovery(both[0]), lost[1], waiting, _recovery(both[1])]


def _done(line: Line) -> str:
    return " — ".join(filter(None, (line["fault"], line["case"])))


def _recovery(figures: Mapping[str, Any]) -> str:
    seconds, bound = figures["recovery_seconds"], figures["recovery_bound_seconds"]
    if seconds is None:
        return ""
    if bound is None:
        return f"{seconds:.1f}"
    return f"**more than {bound:g}**" if seconds > bound else f"{seconds:.1f} (≤ {bound:g})"


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
    return ["## Loads", "", *told, "", "## Measured on", "", *(f"- {each}" for each in places), "", *shared]


def _place(line: Line) -> str:
    where = [*line["machine"].items(), *line["versions"].items()]
    return f"{line['at'][:10]}: " + ", ".join(f"{name} {value}" for name, value in where)


def main(_arguments: Sequence[str] = ()) -> None:
    """Write the page and print its tables."""
    out = Path(os.environ.get("FAULTS_OUT") or DEFAULT_OUT)
    page = render(read_lines(out / RESULTS))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(page)
    print("\n".join(line for line in page.splitlines() if line.startswith("|")))
    print(f"written to {out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
