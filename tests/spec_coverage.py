"""Writes docs/spec-coverage.md: which lines of the specification have a test that names them, and why the others have none.

    python tests/spec_coverage.py            # write the page
    python tests/spec_coverage.py --check    # exit with 1 where it is out of date

A test names a line by its id in the function's name: `test_a34_...`, `test_B24_B26_...`.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = ROOT / "tests" / "spec_lines.txt"
PAGE = ROOT / "docs" / "spec-coverage.md"
NAMED = re.compile(r"(?<![a-z0-9])([abc]\d{1,3})(?![a-z0-9])", re.IGNORECASE)
HEAD = """# Which lines of the specification are tested

Written by `python tests/spec_coverage.py` from the names of the tests; do not edit. Lines of other parts that tests name are
listed at the end.

| line | what must be true | tests |
| --- | --- | --- |
"""


def named_lines() -> dict[str, list[str]]:
    """Return the tests that name each line, by its id in capitals."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in test_names(path):
            for line in NAMED.findall(name.removeprefix("test")):
                found[line.upper()].append(f"`{path.relative_to(ROOT / 'tests')}` {name}")
    return found


def test_names(path: Path) -> Iterator[str]:
    """Yield the names of a file's test functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


def known_lines() -> list[tuple[str, str, str]]:
    """Return the listed lines: id, what must be true, and why no test names it."""
    rows = [line for line in LINES.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [(cells[0], cells[1], cells[2]) for row in rows for cells in ([cell.strip() for cell in row.split("|")],)]


def page() -> str:
    """Return the page. Raises SystemExit for a line that has neither a test nor a reason."""
    found = named_lines()
    known = known_lines()
    bare = [line for line, _, reason in known if line not in found and not reason]
    if bare:
        raise SystemExit(f"neither a test nor a reason: {', '.join(bare)}")
    rows = [f"| {line} | {what} | {_tests(found.get(line, []), reason)} |\n" for line, what, reason in known]
    others = sorted(set(found) - {line for line, _, _ in known}, key=_order)
    covered = sum(line in found for line, _, _ in known)
    rest = "".join(f"- {line}: {_tests(found[line], '')}\n" for line in others)
    told = f"{covered} of {len(known)} lines have a test of their own."
    return f"{HEAD}{''.join(rows)}\n{told}\n\n## Lines of other parts\n\n{rest}"


def _tests(names: list[str], reason: str) -> str:
    if not names:
        return f"none: {reason}"
    return "<br>".join(dict.fromkeys(names))


def _order(line: str) -> tuple[str, int]:
    return line[0], int(line[1:])


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page() else 1)
    PAGE.write_text(page(), encoding="utf-8")
