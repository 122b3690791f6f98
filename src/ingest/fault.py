"""Fault points: named places where a test makes this very process die, stop, wait or fail. In production they do nothing.

INGEST_FAULT_DIR names a directory. A file in it that is named like a point arms it once: the process that passes first
takes the file away and does what it says: `kill`, `stop`, `raise`, or `sleep` and a number of seconds. Each `pass` before
it lets one pass: `pass pass kill` strikes the third. Without the variable, which only tests set, `point` is an empty function.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

DIRECTORY = os.environ.get("INGEST_FAULT_DIR", "")


class Fault(Exception):
    """What an armed point raises."""


def _pass(name: str) -> None:
    """Do nothing."""


def _strike(name: str) -> None:
    """Do what the point's file says, if there is one and nobody took it before."""
    armed = Path(DIRECTORY, name)
    try:
        order = armed.read_text(encoding="ascii").split()
        if order[0] == "pass":
            armed.write_text(" ".join(order[1:]), encoding="ascii")
            return
        armed.unlink()
    except FileNotFoundError:
        return
    if order[0] == "sleep":
        time.sleep(float(order[1]))
    elif order[0] == "raise":
        raise Fault(name)
    else:
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[order[0]])


point: Callable[[str], None] = _strike if DIRECTORY else _pass
