"""Disks that are full, and files that are damaged: PostgreSQL's data, its log, the spool."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.exc import OperationalError

from ingest.simulators.traffic import Plan
from ingest.store.intake import IntakeRow, decode_requests
from ingest.store.spool import read_records
from tests.faults.judging import judged, recovered
from tests.faults.record import SEED, Figures, Row, record
from tests.faults.world import faulty_system
from tests.system import free_port, until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk"),
]

DATA_FULL = Row("D5", "PostgreSQL's data disk is full for 10 s", "spooled or 503; stored when there is space", "data")
WAL_FULL = Row("D5", "PostgreSQL's log disk is full, the server panics", "spooled or 503; stored afterwards", "WAL")
SPOOL_FULL = Row("E1", "the database is away and the spool's disk gets full", "503, never 2xx", "full")
SPOOL_HURT = Row(
    "E1", "a bit flipped, a tail cut off in a spool file", "those records set aside, others stored", "damaged"
)
SPOOL_SHUT = Row("E1", "the spool cannot be written at the start", "the web process refuses to start", "not writable")


@contextmanager
def small_disk(place: Path, mebibytes: int, *, owner: Path | None = None) -> Iterator[Path]:
    """Mount a disk of that size at the place; `owner` is a path whose owner it gets."""
    place.mkdir(parents=True, exist_ok=True)
    who = (owner or place).stat()
    options = f"size={mebibytes}m,mode=0700,uid={who.st_uid},gid={who.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Fill the disk to its last byte; return the file that does it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    return filler


def test_D5_the_data_disk_gets_full(tmp_path: Path) -> None:
    with faulty_system() as system, small_disk(tmp_path / "small", 64, owner=system.servers.places.postgres) as disk:
        for each in disk.parents:
            each.chmod(0o755)
        with system.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"create tablespace small location '{disk}'")
            for kind in ("table", "index"):
                connection.exec_driver_sql(f"alter {kind} all in tablespace pg_default set tablespace small")
        load = system.load(Plan(rate=300, seconds=25, senders=2000, seed=SEED))
        load.start()
        time.sleep(5)
        filler = fill(disk)
        until(lambda: any(system.spool.glob("*.spool")), 15)
        time.sleep(10)
        filler.unlink()
        recovery = recovered(system, 30)
        load.join(60)
        away = len(re.findall(r'"error": ?"DiskFull"', system.output))
        judged(system, load, DATA_FULL, bound=30, recovery=recovery, disk_full_errors=away)
        assert away > 0


def test_D5_the_disk_of_the_write_ahead_log_gets_full(tmp_path: Path) -> None:
    with faulty_system() as system, small_disk(tmp_path / "wal", 160, owner=system.servers.places.postgres) as disk:
        for each in disk.parents:
            each.chmod(0o755)
        wal = system.servers.places.postgres / "pg_wal"
        with system.database_stopped():
            shutil.copytree(wal, disk / "pg_wal", copy_function=_copy_owned)
            for each in [disk / "pg_wal", *(disk / "pg_wal").rglob("*")]:
                os.chown(each, disk.stat().st_uid, disk.stat().st_gid)
            shutil.rmtree(wal)
            wal.symlink_to(disk / "pg_wal")
        until(system.is_ready, 20)
        load = system.load(Plan(rate=300, seconds=30, senders=2000, seed=SEED))
        load.start()
        time.sleep(5)
        filler = fill(disk)
        postmaster = system.servers.postgres.pid
        assert postmaster is not None
        deadline = time.monotonic() + 30
        while system.servers.postgres.pid is not None:
            assert time.monotonic() < deadline, "the server goes on without room for its log"
            with suppress(OperationalError):
                system.scalar("select pg_switch_wal()")
            time.sleep(0.2)
        system.engine.dispose()
        time.sleep(5)
        filler.unlink()
        system.servers.postgres.start()
        recovery = recovered(system, 30)
        load.join(60)
        judged(system, load, WAL_FULL, bound=30, recovery=recovery)


def _copy_owned(source: str, target: str) -> None:
    shutil.copy2(source, target)


def test_E1_the_disk_of_the_spool_gets_full() -> None:
    with faulty_system() as system, small_disk(system.spool, 2):
        load = system.load(Plan(rate=200, seconds=35, senders=1000, seed=SEED))
        load.start()
        time.sleep(3)
        with system.database_stopped():
            until(lambda: 503 in {status for each in load.ledger.answers().values() for status in each}, 40, 0.5)
            refused_at = time.monotonic()
            is_ready = system.is_ready()
            time.sleep(4)
            full_for = time.monotonic() - refused_at
        recovery = recovered(system, 30)
        load.join(60)
        verdict = judged(system, load, SPOOL_FULL, bound=30, recovery=recovery, full_for_s=full_for)
        assert verdict.refused[503] > 100
        # The probe tells the balancer that this host takes nothing just now.
        assert not is_ready


def ids_of(record: bytes) -> list[str]:
    """Return the message ids of a spool record, as the load names them."""
    bodies = [each.body for each in decode_requests(msgspec.msgpack.decode(record, type=IntakeRow).body)]
    return [re.search(rb'wamid\.([^"]+)"', body)[1].decode() for body in bodies]  # type: ignore[index]


def test_E1_a_flipped_bit_and_a_cut_tail_cost_their_own_records_only() -> None:
    with faulty_system() as system:
        load = system.load(Plan(rate=200, seconds=12, senders=1000, seed=SEED))
        load.start()
        time.sleep(3)
        with system.database_stopped():
            time.sleep(5)
            os.killpg(system.supervisor.pids()["web"], 9)
            (path,) = system.spool.glob("*.spool")
            content = bytearray(path.read_bytes())
            records, damaged = read_records(bytes(content))
            assert (len(records) > 10, damaged) == (True, b"")
            hurt = [*ids_of(records[3]), *ids_of(records[-1])]
            content[content.index(records[3]) + len(records[3]) // 2] ^= 1
            path.write_bytes(content[:-20])
        until(system.is_ready, 20)
        until(lambda: not any(system.spool.glob("*.spool")), 30)
        load.join(60)
        system.drain(30)
        verdict = system.judge(load)
        aside = sum(each.stat().st_size for each in (system.spool / "damaged").iterdir())
        figures = Figures(
            verdict.accepted,
            len(set(verdict.lost) - set(hurt)),
            len(verdict.duplicate),
            len(verdict.phantom),
            system.orphan_count(),
            more={"records damaged": 2, "of": len(records), "their requests": len(hurt), "bytes set aside": aside},
        )
        record(SPOOL_HURT, figures, load="200/s from 1000 senders for 12 s")
        assert sorted(verdict.lost) == sorted(hurt)
        assert (verdict.duplicate, verdict.phantom) == ([], [])
        assert aside >= len(records[3]) + len(records[-1]) - 20
        assert figures.orphans == 0


def test_E1_a_web_process_whose_spool_cannot_be_written_refuses_to_start(tmp_path: Path) -> None:
    with faulty_system(processes=("worker_upkeep", "web")) as system, small_disk(tmp_path / "read-only", 1) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        environment = {
            **os.environ,
            **system._environment(),
            "INGEST_SPOOL_DIR": str(disk / "spool"),
            "INGEST_PORT": str(free_port()),
        }
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "ingest", "web"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        seconds = time.monotonic() - started
        record(
            SPOOL_SHUT,
            Figures(0, 0, 0, more={"status": done.returncode, "ends after s": round(seconds, 2)}),
            load="none",
        )
        assert done.returncode != 0
        assert "INGEST_SPOOL_DIR" in done.stderr + done.stdout
