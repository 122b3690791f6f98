"""CPU time and resident memory of processes with all their descendants. Source: proc(5)."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time of the processes and their descendants, those that have ended and been waited for included."""
    # Fields 14 to 17: user, system, and both of the children that were waited for.
    return sum(sum(map(int, fields[11:15])) for fields in map(_fields, _trees(pids)) if fields) / TICKS


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size: memory shared by several processes counts once."""
    return sum(_pss(pid) for pid in _trees(pids))


def parent_of(pid: int) -> int:
    """Return the parent's id, 0 where the process is gone."""
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _trees(pids: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            children[parent_of(int(entry.name))].append(int(entry.name))
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children[pid]
    return found


def _fields(pid: int) -> list[str]:
    """Return the fields of the process's status line after its name, none where it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _pss(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
