"""Traffic starts on time whatever the server does, and every answer is counted once."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from ingest.simulators.base import SimulatedRequest
from ingest.simulators.drafts import drafts, make_draft
from ingest.simulators.http import raw_request
from ingest.simulators.traffic import Delivery, Plan, Report, Target, send_traffic

Answer = Callable[[int], Awaitable[bytes | None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


async def played(
    plan: Plan, answer: Answer, stop: asyncio.Event | None = None
) -> tuple[Report, list[tuple[str, int | None]]]:
    """Return the report and the record of a run against a server that answers its nth request with `answer(n)`."""
    numbers = itertools.count(1)
    recorded: list[tuple[str, int | None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n{}"):
                if (answered := await answer(next(numbers))) is None:
                    break
                writer.write(answered)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = Target("any", 1, f"http://127.0.0.1:{port}/webhooks/1", {})
    requests = (
        Delivery(target, draft, raw_request(target.url, SimulatedRequest(b"{}")))
        for draft in drafts("t", 10, plan.seed)
    )
    async with server:
        report = await send_traffic(
            requests,
            plan,
            lambda each, status, _seconds: recorded.append((each.draft.external_id, status)),
            stop or asyncio.Event(),
        )
    return report, recorded


async def at_once(_number: int) -> bytes:
    return OK


def test_rate_and_count_are_kept() -> None:
    report, recorded = asyncio.run(played(Plan(rate=400, count=200), at_once))
    assert (report.accepted, report.rejected, report.failed) == (200, 0, 0)
    assert len({external_id for external_id, _status in recorded}) == 200
    assert 0.45 < report.seconds < 2


def test_statuses_are_counted_and_recorded_with_their_request() -> None:
    async def every_third_refused(number: int) -> bytes:
        return OK if number % 3 else b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy"

    report, recorded = asyncio.run(played(Plan(rate=None, count=30, connections=1), every_third_refused))
    assert (report.accepted, report.rejected) == (20, 10)
    assert Counter(status for _id, status in recorded) == {200: 20, 503: 10}


def test_request_without_an_answer_is_recorded_as_unknown_and_the_next_gets_through() -> None:
    async def hangs_up_once(number: int) -> bytes | None:
        return None if number == 3 else OK

    report, recorded = asyncio.run(played(Plan(rate=None, count=10, connections=1), hangs_up_once))
    assert (report.accepted, report.failed) == (9, 1)
    assert recorded[2] == ("t.3", None)


def test_slow_answers_hold_up_no_later_request_and_count_from_when_it_was_due() -> None:
    last_came = asyncio.Event()

    async def first_is_slow(number: int) -> bytes:
        if number == 30:
            last_came.set()
        if number == 1:
            await asyncio.wait_for(last_came.wait(), 30)
            await asyncio.sleep(0.2)
        return OK

    report, recorded = asyncio.run(played(Plan(rate=100, count=30, connections=4), first_is_slow))
    assert recorded[-1][0] == "t.1"
    # The last one was due 0.29 s after the first.
    assert max(report.latencies) >= 0.29 + 0.2


def test_waiting_for_a_connection_counts_as_latency() -> None:
    async def all_slow(_number: int) -> bytes:
        await asyncio.sleep(0.1)
        return OK

    report, _recorded = asyncio.run(played(Plan(rate=1000, count=5, connections=1), all_slow))
    assert (report.percentile(99) or 0) >= 0.45


def test_stop_ends_an_endless_run() -> None:
    stop = asyncio.Event()

    async def tenth_stops(number: int) -> bytes:
        if number == 10:
            stop.set()
        return OK

    started = time.monotonic()
    report, _recorded = asyncio.run(played(Plan(rate=50), tenth_stops, stop))
    assert time.monotonic() - started < 5
    assert 10 <= report.accepted < 40


def test_seconds_end_a_run() -> None:
    report, _recorded = asyncio.run(played(Plan(rate=100, seconds=0.5), at_once))
    assert report.accepted == 50


def test_the_same_seed_gives_the_same_people_and_words() -> None:
    def content(seed: int) -> list[tuple[int, str, str]]:
        return [(each.sender, each.text, each.external_id) for each in itertools.islice(drafts("r", 100, seed), 50)]

    assert content(1) == content(1)
    assert content(1) != content(2)


@pytest.mark.parametrize("sender", [0, 1, 9_999_999])
def test_invented_phones_are_valid_numbers(sender: int) -> None:
    import phonenumbers

    draft = make_draft(sender, "x", "", next(drafts("r", 1, 1)).sent_at)
    assert phonenumbers.is_valid_number(phonenumbers.parse(draft.phone))


def test_summary_without_any_answer_has_no_latency() -> None:
    assert Report().summary()["latency_ms"] == {"p50": None, "p90": None, "p95": None, "p99": None}
