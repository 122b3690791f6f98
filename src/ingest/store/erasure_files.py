"""Proof of erasure in files: the spool's records, logs, metrics, backups, searched for what should be gone."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from ingest.domain.needles import Needles
from ingest.errors import BadSetting
from ingest.store.erasure import Remains

PIECE_BYTES = 4 * 1024 * 1024
# What lies across the border of two pieces is seen in the second: longer than any form of a needle of ordinary length.
OVERLAP_BYTES = 4 * 1024


def find_in_files(paths: Iterable[Path], needles: Needles) -> list[Remains]:
    """Return the files that hold any of the needles, each counted once; directories are walked, `.gz` is unpacked.

    Requests are framed in the spool as they came, so reading its bytes reads them. A file that goes away meanwhile (a
    replayed spool) holds nothing. Raises BadSetting for a path that does not exist or may not be read.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise BadSetting(f"{path} does not exist")
        for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
            numbers = _search(file, needles)
            if numbers:
                found.append(Remains(str(file), 1, tuple(sorted(numbers))))
    return found


def _search(path: Path, needles: Needles) -> set[int]:
    numbers: set[int] = set()
    try:
        for piece in _pieces(path):
            numbers |= needles.find(piece)
    except FileNotFoundError:
        return set()
    except (EOFError, zlib.error, OSError) as refused:
        raise BadSetting(f"{path} cannot be read: {type(refused).__name__}") from refused
    return numbers


def _pieces(path: Path) -> Iterator[bytes]:
    with _opened(path) as file:
        before = b""
        while piece := file.read(PIECE_BYTES):
            yield before + piece
            before = piece[-OVERLAP_BYTES:]


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
