"""A database that hangs, or a network that swallows its answers, holds nobody for longer than it must."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from ingest import runtime
from ingest.channels.base import Adapter
from ingest.pipeline.receive import Intake, Unavailable
from ingest.store.channels import Endpoint
from ingest.store.intake import RawRequest
from ingest.store.spool import Spool
from ingest.web import endpoints
from ingest.web.endpoints import Endpoints
from tests.builders import NOON
from tests.conftest import Addresses
from tests.faults.fault_proxy import FaultProxy


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What hung threads wait for; set at the end."""
    event = threading.Event()
    yield event
    event.set()


class Nobody:
    """A publisher that rings for nobody."""

    def ring(self, queues: object) -> None:
        """Do nothing."""

    def hush(self, queue: str) -> None:
        """Do nothing."""


def test_D2_a_request_is_spooled_though_every_shared_thread_waits_for_the_database(
    tmp_path: Path, released: threading.Event
) -> None:
    async def accepted_within() -> float:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(2))
        hung = [loop.run_in_executor(None, released.wait) for _ in range(4)]
        intake = Intake("host=/nowhere", Spool(tmp_path / "spool", 10**6), Nobody())
        await intake.start()
        started = time.monotonic()
        try:
            async with asyncio.timeout(5):
                await intake.accept(
                    RawRequest(1, 1, 0, NOON, b"0" * 16, "POST", "https://hooks.example.org", {}, b"{}")
                )
            return time.monotonic() - started
        finally:
            released.set()
            await asyncio.gather(*hung)
            await intake.stop()

    assert asyncio.run(accepted_within()) < 2


def test_D2_requests_are_spooled_a_second_after_the_database_fell_silent_and_not_when_a_cancellation_was_given_up(
    database_url: str, tmp_path: Path
) -> None:
    given = make_url(database_url)

    async def accepted_within() -> float:
        upstream = f"{given.query['host']}/.s.PGSQL.{given.query['port']}"
        with FaultProxy(upstream) as proxy:
            through = given.set(drivername="postgresql", host="127.0.0.1", port=proxy.port, query={})
            intake = Intake(through.render_as_string(hide_password=False), Spool(tmp_path / "spool", 10**6), Nobody())
            await intake.start()
            request = RawRequest(1, 1, 0, NOON, b"0" * 16, "POST", "https://hooks.example.org", {}, b"{}")
            await intake.accept(request)
            assert intake.figures.committed == 1
            proxy.blackhole()
            started = time.monotonic()
            await intake.accept(request)
            seconds = time.monotonic() - started
            proxy.heal()
            await intake.stop()
            return seconds

    assert asyncio.run(accepted_within()) < 4


def test_P8_a_channel_that_is_not_known_yet_is_refused_when_the_database_hangs_and_known_ones_are_served(
    monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    monkeypatch.setattr(endpoints, "FIND_SECONDS", 0.2)
    monkeypatch.setattr(endpoints, "FRESH_SECONDS", 0.0)
    known = Endpoint(1, 1, 0, "telegram", "", {}, {})
    hangs = threading.Event()

    def find(_kind: str, _name: str) -> list[Endpoint]:
        if hangs.is_set():
            released.wait()
        return [known]

    async def look() -> None:
        memory = Endpoints(find)
        await memory.get("channel", "1")
        hangs.set()
        for name in map(str, range(2, 12)):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                await memory.get("channel", name)
            assert time.monotonic() - started < 2
        found: tuple[tuple[Endpoint, Adapter], ...] = await memory.get("channel", "1")
        assert [endpoint for endpoint, _adapter in found] == [known]
        released.set()

    asyncio.run(look())


def test_D2_a_connection_whose_answer_was_swallowed_is_given_up_and_the_next_one_works(
    addresses: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "ANSWER_SECONDS", 0.5)
    given = make_url(addresses.database_url)
    upstream = f"{given.query['host']}/.s.PGSQL.{given.query['port']}"
    with FaultProxy(upstream) as proxy:
        through = given.set(host="127.0.0.1", port=proxy.port, query={})
        engine = runtime.make_engine(through.render_as_string(hide_password=False), "test", is_impatient=True)
        assert selected(engine) == 1
        proxy.blackhole()
        started = time.monotonic()
        with pytest.raises(OperationalError):
            selected(engine)
        assert time.monotonic() - started < 5
        proxy.heal()
        assert selected(engine) == 1
        engine.dispose()


def selected(engine: Engine) -> object:
    with engine.begin() as tx:
        return tx.execute(text("select 1")).scalar_one()
