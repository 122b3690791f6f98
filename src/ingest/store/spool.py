"""The second durable place: records appended to a local file and fsynced while PostgreSQL is away.

Each web process appends to a file of its own, which it holds locked. Whoever finds a file unlocked - after a restart,
or because its writer has let go of it - replays it and removes it. A record is acknowledged only after its fsync, so a
torn tail was never promised to anybody; a record damaged later is set aside and its neighbours are still read.
"""

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ingest.errors import BadSetting, Transient

MAGIC = b"ISP1"
HEADER = struct.Struct(">4sII")
SUFFIX = ".spool"
# A file is read into memory as a whole when it is replayed.
FILE_BYTES = 16 * 1024 * 1024

T = TypeVar("T")


class SpoolFull(Transient):
    """The spool has reached its limit, or its disk is full: refuse honestly."""


@dataclass(frozen=True, slots=True)
class SpoolFile(Generic[T]):
    """What a spool file holds: the records that are whole and were understood, and the bytes of all else."""

    path: Path
    records: tuple[T, ...]
    damaged: bytes


class Spool:
    """A directory of spool files. Appending and releasing are safe from several threads at once."""

    def __init__(self, directory: Path, max_bytes: int, file_bytes: int = FILE_BYTES) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self._file_bytes = file_bytes
        self._writing = threading.Lock()
        self._file: int | None = None
        self._path: Path | None = None

    def check(self) -> None:
        """Make the directory and prove that it can be written and fsynced. Raises BadSetting when not."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            probe = self.directory / f".probe-{os.getpid()}"
            with probe.open("wb") as file:
                file.write(b"probe")
                os.fsync(file.fileno())
            probe.unlink()
        except OSError as refused:
            raise BadSetting(f"INGEST_SPOOL_DIR {self.directory} cannot be written: {refused.strerror}") from refused

    def size_bytes(self) -> int:
        """Return the bytes that wait in all files of the directory."""
        total = 0
        for path in self.directory.glob(f"*{SUFFIX}"):
            # Another process may just have replayed it.
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def append(self, records: Sequence[bytes]) -> None:
        """Append the records, durable when this returns. Raises SpoolFull and then keeps none of them."""
        framed = b"".join(map(_framed, records))
        with self._writing:
            self._append(framed)

    def _append(self, framed: bytes) -> None:
        try:
            if self.size_bytes() + len(framed) > self.max_bytes:
                raise SpoolFull("spool has reached its limit")
            file = self._open()
            start = os.lseek(file, 0, os.SEEK_END)
            try:
                _write_all(file, framed)
                os.fdatasync(file)
            except OSError:
                os.ftruncate(file, start)
                raise
        except OSError as refused:
            raise SpoolFull(f"spool cannot be written: {refused.strerror}") from refused

    def release(self) -> None:
        """Let go of the file being written, so that it can be replayed."""
        with self._writing:
            self._release()

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = self._path = None

    def adopt(self, read: Callable[[bytes], T | None]) -> Iterator[SpoolFile[T]]:
        """Yield each file that nobody is writing, oldest first; it is removed when the caller comes back for the next.

        `read` makes something of a record; one it returns None for is set aside with the damaged bytes. Abandoning the
        iteration, or an exception at the yield, keeps the file: replaying it again is harmless.
        """
        for path in sorted(self.directory.glob(f"*{SUFFIX}")):
            file = _lock(path)
            if file is None:
                continue
            try:
                whole, damaged = read_records(path.read_bytes())
                understood = [(record, read(record)) for record in whole]
                damaged += b"".join(_framed(record) for record, made in understood if made is None)
                yield SpoolFile(path, tuple(made for _, made in understood if made is not None), damaged)
                if damaged:
                    self._set_aside(path, damaged)
                path.unlink()
            finally:
                os.close(file)

    def _open(self) -> int:
        if self._file is not None and self._path is not None and self._path.exists():
            has_room = os.fstat(self._file).st_size < self._file_bytes
            if has_room:
                return self._file
        self._release()
        path = self.directory / f"{time.time_ns()}-{os.getpid()}{SUFFIX}"
        fresh = path.with_suffix(".new")
        self._file = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
        self._path = path
        # Locked before it gets its name: whoever looks for files to adopt never finds it free.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        fresh.rename(path)
        _sync_directory(self.directory)
        return self._file

    def _set_aside(self, path: Path, damaged: bytes) -> None:
        aside = self.directory / "damaged"
        aside.mkdir(exist_ok=True)
        (aside / path.name).write_bytes(damaged)


def _framed(record: bytes) -> bytes:
    return HEADER.pack(MAGIC, len(record), zlib.crc32(record)) + record


def read_records(content: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Return the records that are whole, in order, and all bytes that belong to none."""
    records: list[bytes] = []
    damaged = bytearray()
    position = 0
    while position < len(content):
        record = _record_at(content, position)
        if record is not None:
            records.append(record)
            position += HEADER.size + len(record)
            continue
        found = content.find(MAGIC, position + 1)
        end = len(content) if found < 0 else found
        damaged += content[position:end]
        position = end
    return tuple(records), bytes(damaged)


def _record_at(content: bytes, position: int) -> bytes | None:
    if position + HEADER.size > len(content):
        return None
    magic, length, checksum = HEADER.unpack_from(content, position)
    start = position + HEADER.size
    record = content[start : start + length]
    whole = magic == MAGIC and len(record) == length and zlib.crc32(record) == checksum
    return record if whole else None


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the file locked, or None when somebody else does or the file is gone."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:
            return file
    except BlockingIOError:
        pass
    os.close(file)
    return None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
