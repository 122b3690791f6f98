"""The second durable place: what was acknowledged is read back, whatever happens to files and processes meanwhile."""

# ruff: noqa: N802 - the names carry the lessons

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest.errors import BadSetting
from ingest.store.spool import HEADER, Spool, SpoolFull, read_records

RECORDS = (b"first", b"second" * 100, b"", b"fourth with ISP1 in it")


def read_all(directory: Path) -> list[bytes]:
    """Adopt everything, as a process that has just started does."""
    return [record for file in Spool(directory, 10**9).adopt(bytes) for record in file.records]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool", 10**6)
    made.check()
    return made


def file_of(spool: Spool) -> Path:
    (path,) = spool.directory.glob("*.spool")
    return path


def test_what_was_appended_is_read_back_in_order_and_then_gone(spool: Spool) -> None:
    spool.append(RECORDS[:2])
    spool.append(RECORDS[2:])
    spool.release()
    assert read_all(spool.directory) == list(RECORDS)
    assert spool.size_bytes() == 0


def test_a_file_that_is_being_written_is_left_alone(spool: Spool) -> None:
    spool.append(RECORDS)
    assert read_all(spool.directory) == []
    spool.append([b"later"])
    spool.release()
    assert read_all(spool.directory) == [*RECORDS, b"later"]


def test_an_interrupted_replay_keeps_the_file(spool: Spool) -> None:
    spool.append(RECORDS)
    spool.release()
    reading = Spool(spool.directory, 10**9).adopt(bytes)
    next(reading)
    reading.close()
    assert read_all(spool.directory) == list(RECORDS)


def test_a_torn_tail_is_dropped_and_everything_before_it_read(spool: Spool) -> None:
    spool.append(RECORDS[:2])
    spool.release()
    path = file_of(spool)
    whole = path.read_bytes()
    for cut in range(len(whole) - len(RECORDS[1]) - HEADER.size, len(whole)):
        records, _ = read_records(whole[:cut])
        assert records == RECORDS[:1], cut


@pytest.mark.parametrize("position", range(0, 40, 3))
def test_T77_a_flipped_bit_is_set_aside_and_its_neighbours_are_read(spool: Spool, position: int) -> None:
    spool.append([b"before", b"x" * 28, b"after", b"last"])
    spool.release()
    path = file_of(spool)
    content = bytearray(path.read_bytes())
    start = HEADER.size + len(b"before")
    content[start + position] ^= 0x10
    path.write_bytes(content)
    assert read_all(spool.directory) == [b"before", b"after", b"last"]
    (damaged,) = (spool.directory / "damaged").iterdir()
    assert damaged.read_bytes() == bytes(content[start : start + HEADER.size + 28])


def test_V1_a_record_of_another_release_is_set_aside_whole(spool: Spool) -> None:
    spool.append([b"known", b"unknown", b"known too"])
    spool.release()
    (file,) = Spool(spool.directory, 10**9).adopt(lambda record: record if record.startswith(b"known") else None)
    assert file.records == (b"known", b"known too")
    (damaged,) = (spool.directory / "damaged").iterdir()
    assert read_records(damaged.read_bytes()) == ((b"unknown",), b"")


def test_T77_a_directory_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("in the way")
    with pytest.raises(BadSetting, match="INGEST_SPOOL_DIR"):
        Spool(taken / "spool", 10**6).check()


def test_T77_beyond_its_limit_it_refuses_and_keeps_none_of_the_records(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    spool.append([b"fits"])
    with pytest.raises(SpoolFull):
        spool.append([b"small", b"x" * 100])
    spool.release()
    assert read_all(tmp_path) == [b"fits"]


def test_E1_a_full_disk_is_refused_and_leaves_no_half_record(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from ingest.store.spool import Spool, SpoolFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Path({str(tmp_path)!r}), 10**9)
spool.append([b"fits"])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    spool.append([b"x" * 5000])
except SpoolFull as full:
    print("refused")
spool.append([b"fits again"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "refused\n"
    assert read_all(tmp_path) == [b"fits", b"fits again"]
    assert not (tmp_path / "damaged").exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_large_backlog_is_cut_into_files_of_bounded_size(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**9, file_bytes=1000)
    for _ in range(20):
        spool.append([b"x" * 300])
    spool.release()
    sizes = [path.stat().st_size for path in tmp_path.glob("*.spool")]
    assert len(sizes) == 5
    assert max(sizes) < 1400
    assert len(read_all(tmp_path)) == 20


def append_and_die(directory: Path) -> None:
    spool = Spool(directory, 10**6)
    spool.append(RECORDS)
    os.kill(os.getpid(), signal.SIGKILL)


def test_K1_what_a_killed_process_left_is_adopted(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=append_and_die, args=(tmp_path,))
    child.start()
    child.join(10)
    assert child.exitcode == -signal.SIGKILL
    assert read_all(tmp_path) == list(RECORDS)


def test_of_two_who_adopt_at_once_each_file_goes_to_one(tmp_path: Path) -> None:
    expected = []
    for number in range(60):
        spool = Spool(tmp_path, 10**6)
        spool.append([f"{number}".encode()])
        spool.release()
        expected.append(f"{number}".encode())
    start = threading.Barrier(3)

    def adopt() -> list[bytes]:
        start.wait()
        return read_all(tmp_path)

    with ThreadPoolExecutor(3) as pool:
        found = [record for done in [pool.submit(adopt) for _ in range(3)] for record in done.result()]
    assert sorted(found) == sorted(expected)


def test_P8_nothing_acknowledged_is_lost_between_writers_and_adopters(tmp_path: Path) -> None:
    """Writers let go of their files all the time while others adopt: every acknowledged record is found once."""
    over = threading.Event()
    acknowledged: list[bytes] = []
    found: list[bytes] = []

    def write(writer: int) -> None:
        spool = Spool(tmp_path, 10**8)
        releaser = threading.Thread(target=lambda: [spool.release() for _ in iter(lambda: over.wait(0.0005), True)])
        releaser.start()
        for number in range(400):
            record = f"{writer}.{number}".encode()
            spool.append([record])
            acknowledged.append(record)
        # A writer lets go of its last file too: whether the releaser still did was chance.
        spool.release()
        releaser.join(0)

    def adopt() -> None:
        while not over.is_set():
            found.extend(read_all(tmp_path))

    adopters = [threading.Thread(target=adopt) for _ in range(2)]
    for each in adopters:
        each.start()
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(write, writer) for writer in range(3)]:
            done.result()
    over.set()
    for each in adopters:
        each.join()
    found.extend(read_all(tmp_path))
    assert sorted(found) == sorted(acknowledged)
    assert not (tmp_path / "damaged").exists()
