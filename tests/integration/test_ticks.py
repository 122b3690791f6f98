"""The beat's ticks: none is lost to a clock that differs, and many at once are done as one."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from ingest.jobs.publisher import CeleryPublisher
from ingest.settings import read_settings
from workers.app import WorkerProcess, make_worker
from workers.chores import CHORES, Pace


def test_W1_no_tick_expires_by_the_clock_of_a_machine(tmp_path: Path) -> None:
    settings = read_settings(
        database_url="postgresql://nobody@127.0.0.1:1/nothing",
        broker_url="redis://unused",
        secret_key=Fernet.generate_key().decode(),
        data_dir=tmp_path,
    )
    schedule = make_worker(WorkerProcess(settings, "beat")).conf.beat_schedule
    assert set(schedule) == {"ring", *(f"chore.{name}" for name in CHORES)}
    assert all("expires" not in entry["options"] for entry in schedule.values())


@pytest.mark.parametrize(("period", "moments", "taken"), [
    (1.0, [0, 0.01, 0.02, 0.03], [0]),
    (1.0, [0, 1, 2, 3], [0, 1, 2, 3]),
    (1.0, [0, 0.3, 1, 1.3, 2, 2.3], [0, 1, 2]),
    (600.0, [0, 1, 599, 1200], [0, 599, 1200]),
], ids=["a backlog", "one beat", "two beats", "a chore"])  # fmt: skip
def test_K5_many_ticks_at_once_are_one(period: float, moments: list[float], taken: list[float]) -> None:
    clock = iter(moments)
    pace = Pace(lambda: next(clock))
    assert [each for each in moments if pace.is_due("ring", period)] == taken


class Heard:
    """A broker that notes with which options a bell comes."""

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    def send_task(self, _name: str, **options: Any) -> None:
        """Note it."""
        self.options.append(options)


def test_W1_no_bell_expires_by_the_clock_of_a_machine() -> None:
    heard = Heard()
    publisher = CeleryPublisher(heard)  # type: ignore[arg-type]
    publisher.ring(["resolve"])
    publisher.close()
    assert [options.get("expires") for options in heard.options] == [None]


def test_ticks_of_two_names_do_not_meet() -> None:
    pace = Pace(lambda: 7.0)
    assert [pace.is_due(name, 30) for name in ("one", "other", "one")] == [True, True, False]
