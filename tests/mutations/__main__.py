"""Plants each bug in a copy of the tree, runs the tests that must find it, and writes docs/benchmarks/mutations.md.

    python -m tests.mutations                       all, and the report
    python -m tests.mutations no_fence body_limit   those whose names contain one of these words; no report

Ends with status 1 when a bug survives: a test is missing.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutations.planted import BUGS, Bug

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "benchmarks" / "mutations.md"
SECONDS = 600
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a planted bug: the test that found it, or "" where it survived."""

    bug: Bug
    found_by: str
    seconds: float


class Moved(Exception):
    """The text that a bug replaces is not in its file once."""


def main() -> int:
    """Try the bugs and return the status to exit with."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutations",
        description=__doc__,
        epilog="bugs: " + ", ".join(bug.name for bug in BUGS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", help="of names; default: all bugs")
    words = parser.parse_args().words
    chosen = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    if not chosen:
        parser.error("no bug has such a name")
    for bug in chosen:
        planted(bug)
    findings = []
    for bug in chosen:
        findings.append(try_bug(bug))
        found = findings[-1].found_by or "SURVIVED"
        print(f"{bug.name:40} {findings[-1].seconds:6.1f} s  {found}", flush=True)
    survived = [each.bug.name for each in findings if not each.found_by]
    if survived:
        print(f"survived, so a test is missing: {', '.join(survived)}")
    elif not words:
        REPORT.write_text(report(findings))
    return 1 if survived else 0


def planted(bug: Bug) -> str:
    """Return the file's text with the bug in it. Raises Moved when the text has changed."""
    text = (ROOT / bug.file).read_text()
    if text.count(bug.before) != 1:
        raise Moved(f"{bug.name}: its text is {text.count(bug.before)} times in {bug.file}; plant it anew")
    return text.replace(bug.before, bug.after)


def try_bug(bug: Bug) -> Finding:
    """Plant the bug in a copy and run its tests there."""
    with tempfile.TemporaryDirectory(prefix="ingest-bug-") as name:
        copy = Path(name)
        copy.chmod(0o755)
        copy_tree(tracked_files(), copy)
        (copy / bug.file).write_text(planted(bug))
        started = time.monotonic()
        done = run_tests(copy, bug.tests)
        seconds = time.monotonic() - started
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{bug.name}: the tests did not run\n{done.stdout}\n{done.stderr}")
    found = FAILED.search(done.stdout)
    return Finding(bug, found[1] if found else "", seconds)


def tracked_files() -> list[str]:
    """Return the files of the tree, those not yet committed included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [each for each in listed if (ROOT / each).is_file()]


def copy_tree(files: Iterable[str], to: Path) -> None:
    """Copy the files, with their directories."""
    for each in files:
        target = to / each
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / each, target)


def run_tests(copy: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the tests in the copy, which comes before the installed package."""
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    where = [sys.executable, "-c", "import ingest, workers; print(ingest.__file__, workers.__file__)"]
    imported = subprocess.run(where, cwd=copy, env=environment, check=True, capture_output=True, text=True).stdout
    if not all(each.startswith(str(copy)) for each in imported.split()):
        raise SystemExit(f"the tests would run against {imported}")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=copy, env=environment, check=False, capture_output=True, text=True, timeout=SECONDS
    )


def report(findings: Sequence[Finding]) -> str:
    """Return the page."""
    lines = [
        "# Planted bugs",
        "",
        "`make mutations` plants each of these bugs in a copy of the tree, one at a time, and runs the tests that must find",
        "it. A bug that survives is a missing test. The seconds are those of one run, servers and all; the machine was not",
        "idle, so they say how much a look costs, nothing more.",
        "",
        "| planted bug | found by | s |",
        "| --- | --- | ---: |",
        *(
            f"| {each.bug.meaning} | `{each.found_by.removeprefix('tests/')}` | {each.seconds:.0f} |"
            for each in findings
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
