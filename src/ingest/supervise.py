"""Runs the Procfile's processes on one machine and starts again whichever dies.

honcho reads the Procfile and prints the lines, but its own manager stops everything as soon as one process ends. Any
process of ours may be killed at any instant and must come back by itself, so the watching is done here. A production
host does the same with systemd, Kubernetes or `docker compose`.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TextIO

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from ingest.embedded.processes import LAUNCHER
from ingest.errors import BadSetting

FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 30.0
# A process that ran this long has recovered from whatever killed it before.
STEADY_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 40.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """A line of the Procfile: a process's name and its command, as words."""

    name: str
    command: tuple[str, ...]


def read_procfile(text: str, only: Sequence[str] = ()) -> list[ProcessLine]:
    """Return the processes in the file's order, or those of `only`. Raises BadSetting for a name that is not there."""
    lines = [ProcessLine(name, tuple(shlex.split(command))) for name, command in parse_procfile(text).processes.items()]
    known = [each.name for each in lines]
    if unknown := [name for name in only if name not in known]:
        raise BadSetting(f"no process {', '.join(unknown)} in the Procfile: use {', '.join(known)}")
    return [each for each in lines if not only or each.name in only]


def find_procfile() -> str:
    """Return the Procfile's text: that of the current directory, else the one beside or inside the package."""
    for each in (Path("Procfile"), Path(__file__).parents[2] / "Procfile", Path(str(files("ingest") / "Procfile"))):
        if each.is_file():
            return each.read_text(encoding="utf-8")
    raise BadSetting("no Procfile here: run this in the project's directory")


@dataclass(slots=True)
class _Child:
    """A supervised process: running, or waiting for its next start."""

    line: ProcessLine
    colour: str
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    backoff_seconds: float = 0.0
    starts: int = 0


@dataclass(slots=True)
class Supervisor:
    """Keeps processes running until told to stop. Give it `environment` to add to its own for all of them."""

    environment: Mapping[str, str] = field(default_factory=dict)
    output: TextIO = field(default_factory=lambda: sys.stdout)
    _children: list[_Child] = field(default_factory=list)
    _colours: Iterator[str] = field(default_factory=get_colours)
    _printing: threading.Lock = field(default_factory=threading.Lock)
    _width: int = 10

    def start(self, lines: Iterable[ProcessLine]) -> None:
        """Start these processes beside those that run already. Returns at once."""
        added = [_Child(line, next(self._colours)) for line in lines]
        self._width = max([self._width, *(len(child.line.name) for child in added)])
        self._children += added
        for child in added:
            self._launch(child)

    def tend(self) -> None:
        """Start what died and has waited long enough. Call it a few times a second."""
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and (code := child.process.poll()) is not None:
                self._bury(child, code, now)
            if child.process is None and now >= child.start_at:
                self._launch(child)

    def pids(self) -> dict[str, int]:
        """Return the ids of the running processes by name."""
        return {
            each.line.name: each.process.pid for each in self._children if each.process and each.process.poll() is None
        }

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS, give_up: threading.Event | None = None) -> None:
        """Ask every process to end and wait for it; kill what is left after the timeout, or once `give_up` is set.

        Only the processes started here are signalled: a worker that is told to stop looks after its own children, and
        would lose what they are doing if they were signalled too.
        """
        running = [child for child in self._children if child.process is not None]
        self._signal(running, signal.SIGTERM)
        deadline = time.monotonic() + timeout_seconds
        while any(child.process and child.process.poll() is None for child in running):
            if time.monotonic() > deadline or (give_up is not None and give_up.is_set()):
                break
            time.sleep(POLL_SECONDS)
        self.kill(was_asked=True)

    def kill(self, *, was_asked: bool = False) -> None:
        """End every process with SIGKILL, with its children; `was_asked` says that each had its time to stop."""
        for child in self._children:
            if child.process is not None:
                if child.process.poll() is None:
                    self.say(f"{child.line.name} {'did not stop and ' if was_asked else ''}is killed")
                    os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
                child.process = None
            child.start_at = float("inf")

    def say(self, text: str) -> None:
        """Print a line of the supervisor's own."""
        self._print("up", "37", text)

    def _signal(self, children: Iterable[_Child], sign: signal.Signals) -> None:
        for child in children:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(sign)

    def _launch(self, child: _Child) -> None:
        child.process = subprocess.Popen(  # noqa: S603 - the Procfile's command, without a shell
            _command(child.line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            # A Ctrl-C in the terminal is for the supervisor alone: it stops the processes in order.
            start_new_session=True,
        )
        child.started_at = time.monotonic()
        child.starts += 1
        child.reader = threading.Thread(target=self._copy_output, args=(child, child.process), daemon=True)
        child.reader.start()

    def _bury(self, child: _Child, code: int, now: float) -> None:
        """Note a process's end and when it may start again: at once the first time, then ever later."""
        if child.reader:
            child.reader.join(timeout=1)
        if now - child.started_at > STEADY_SECONDS:
            child.backoff_seconds = 0.0
        else:
            child.backoff_seconds = min(max(2 * child.backoff_seconds, FIRST_BACKOFF_SECONDS), LAST_BACKOFF_SECONDS)
        child.process = None
        child.start_at = now + child.backoff_seconds
        self.say(f"{child.line.name} ended with {_end(code)}; starting it again in {child.backoff_seconds:g} s")

    def _copy_output(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout:
            for line in process.stdout:
                self._print(child.line.name, child.colour, line.decode(errors="replace").rstrip("\n"))

    def _print(self, name: str, colour: str, text: str) -> None:
        printer = Printer(self.output, width=self._width)
        with self._printing:
            printer.write(Message("line", text, datetime.now().astimezone(), name, colour))


def _command(line: ProcessLine) -> list[str]:
    """Return the command such that the process is asked to stop when the supervisor itself is killed."""
    program, *arguments = line.command
    # Our own command means this very installation, whatever else of that name is on the path.
    found = sys.executable if program == "ingest" else shutil.which(program)
    if found is None:
        raise BadSetting(f"the Procfile's process {line.name} needs the program {program}, which is not installed")
    module = ["-m", "ingest"] if program == "ingest" else []
    told = {
        "uid": None,
        "gid": None,
        "pass_closed_directories": False,
        # Every process may be killed at any instant. One that were asked to stop would first write to us, who are gone.
        "death_signal": int(signal.SIGKILL),
        "parent": os.getpid(),
        "directory": str(Path.cwd()),
        "umask": 0o022,
    }
    return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(told), found, *module, *arguments]


def _end(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that is set by SIGINT, SIGTERM or SIGHUP while the context lasts. For the main thread."""
    asked = threading.Event()
    signs = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, lambda *_: asked.set()) for each in signs}
    try:
        yield asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
