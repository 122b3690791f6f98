"""Starting, watching and stopping one server process, and deciding whom it runs as."""

import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ingest.errors import IngestError

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_TAIL_BYTES = 4000
LOG_LIMIT_BYTES = 10 * 1024 * 1024
POLL_SECONDS = 0.02


class EmbeddedServerFailed(IngestError):
    """An embedded server cannot start, or is not as safe as it must be. The text says what to do about it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the servers run as when we are root, which PostgreSQL refuses to be."""

    name: str
    uid: int
    gid: int


def server_account(name: str) -> Account | None:
    """Return the account to run servers as, or None when we are not root. Raises EmbeddedServerFailed without one."""
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedServerFailed(
            f"running as root needs an unprivileged user for PostgreSQL, and there is no user {name!r}: "
            "create it, or name another one in INGEST_EMBEDDED_USER"
        ) from None
    if found.pw_uid == 0:
        raise EmbeddedServerFailed(f"INGEST_EMBEDDED_USER={name} is root, which PostgreSQL refuses: name another user")
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def make_private(directory: Path, account: Account | None) -> None:
    """Make a directory that only the servers' account can enter (0700). Safe to repeat.

    Raises EmbeddedServerFailed where it exists and belongs to somebody else: they could have prepared it.
    """
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700, parents=True)
    found = directory.lstat()
    owner = account.uid if account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {owner, os.geteuid()}:
        raise EmbeddedServerFailed(f"{directory} belongs to another user: remove it, or choose another data directory")
    if account and found.st_uid != owner:
        os.chown(directory, account.uid, account.gid)
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)
    if not os.access(directory, os.R_OK | os.X_OK):
        raise EmbeddedServerFailed(
            f"root cannot enter {directory}, which belongs to the servers' user: run as a normal user, or with CAP_DAC_OVERRIDE"
        )


def write_private(path: Path, text: str, account: Account | None) -> None:
    """Write a file that only the servers' account (and root) can read (0600)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    if account:
        os.chown(path, account.uid, account.gid)


def reachable(path: Path, account: Account) -> bool:
    """Return whether the account may enter every directory on the way to `path`, by owner and mode."""
    return all(_may_enter(each.stat(), account) for each in path.resolve().parents)


def _may_enter(found: os.stat_result, account: Account) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


@dataclass(slots=True)
class ServerProcess:
    """One server process: at most one at a time, started and stopped any number of times.

    It gets `death_signal` when the thread that started it ends, so start it from a thread that lives on.
    """

    name: str
    account: Account | None
    death_signal: signal.Signals
    directory: Path
    log: Path
    environment: dict[str, str]
    _process: subprocess.Popen[bytes] | None = None
    _log_from: int = 0

    @property
    def pid(self) -> int | None:
        """The running server's process id, or None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, command: Sequence[str | Path], paths: Iterable[Path]) -> subprocess.Popen[bytes]:
        """Start the server as the account, able to reach `paths`, and return it without waiting until it answers."""
        with self._open_log() as log:
            self._process = process = subprocess.Popen(  # noqa: S603 - our own command, without a shell
                self._launch(command, paths),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                # A Ctrl-C in the terminal is for the supervisor alone, which then stops the servers last.
                start_new_session=True,
            )
        return process

    def run(self, command: Sequence[str | Path], paths: Iterable[Path]) -> None:
        """Run a command to its end in the same way. Raises EmbeddedServerFailed with the log's end when it fails."""
        if self.start(command, paths).wait() != 0:
            raise EmbeddedServerFailed(f"{Path(command[0]).name} failed:\n{self.log_tail()}")

    def _launch(self, command: Sequence[str | Path], paths: Iterable[Path]) -> list[str]:
        account = self.account
        told = {
            "uid": account.uid if account else None,
            "gid": account.gid if account else None,
            "pass_closed_directories": bool(account and not all(reachable(each, account) for each in paths)),
            "death_signal": int(self.death_signal),
            "parent": os.getpid(),
            "directory": str(self.directory),
            "umask": 0o077,
        }
        return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(told), *map(str, command)]

    def _open_log(self) -> BinaryIO:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        return self.log.open("ab")

    def log_tail(self) -> str:
        """Return the end of what the server wrote since it was last started."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_from, size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    def wait_ready(self, probe: Callable[[], bool], timeout_seconds: float) -> None:
        """Return when `probe` does True. Raises EmbeddedServerFailed when the server ends or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while self.pid is not None:
            if probe():
                return
            if time.monotonic() > deadline:
                raise EmbeddedServerFailed(
                    f"{self.name} did not answer within {timeout_seconds:.0f} s:\n{self.log_tail()}"
                )
            time.sleep(POLL_SECONDS)
        raise EmbeddedServerFailed(f"{self.name} ended while starting:\n{self.log_tail()}")

    def stop(self, sign: signal.Signals, timeout_seconds: float) -> None:
        """Signal the server and wait until it has ended; after the timeout kill it. Nothing to do is fine."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(sign)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the server and its children with SIGKILL, as an out-of-memory kill or a power cut would."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            children = _children(process.pid)
            for pid in (process.pid, *children):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait()
        self._process = None


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def is_running(pid: int, words: Iterable[str]) -> bool:
    """Return whether a process with this id exists and has all the words on its command line.

    Where command lines cannot be read (not Linux), an existing process counts. A zombie does not.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    line = Path(f"/proc/{pid}/cmdline")
    if not line.parent.parent.joinpath("self").exists():
        return True
    try:
        command = line.read_bytes().decode(errors="replace")
    except OSError:
        return False
    return all(each in command for each in words)


def wait_until_gone(pid: int, words: Iterable[str], timeout_seconds: float) -> bool:
    """Return whether the process ended within the time. For servers still stopping after their supervisor was killed."""
    wanted = tuple(words)
    deadline = time.monotonic() + timeout_seconds
    while is_running(pid, wanted):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
