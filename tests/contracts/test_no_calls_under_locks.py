"""T32: whatever runs inside a transaction cannot call out, so that no lock is ever held for somebody else's server."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "ingest"
CALLING_OUT = {
    "httpx2",
    "httpx",
    "requests",
    "aiohttp",
    "urllib.request",
    "http.client",
    "socket",
    "smtplib",
    "subprocess",
}
# Steps and statements run under locks; the edge is no part of it and only writes.
UNDER_LOCKS = sorted(
    {*(SOURCE / "pipeline").rglob("*.py"), *(SOURCE / "store").glob("*.py"), *(SOURCE / "domain").glob("*.py")}
)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


@pytest.mark.parametrize("path", UNDER_LOCKS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_T32_nothing_that_runs_under_a_lock_can_call_out(path: Path) -> None:  # noqa: N802
    assert not imported(path) & CALLING_OUT
