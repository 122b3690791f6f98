"""The benchmark's own parts: what it sends is what the adapters take, and what it reports is what was measured."""

import hashlib
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.aside import Aside
from benchmarks.bodies import (
    PHONE_NUMBER_ID,
    SECRET,
    TELEGRAM_SECRET,
    digits_of,
    raw_requests,
    telegram_body,
    telegram_headers,
    whatsapp_body,
    whatsapp_headers,
)
from benchmarks.contacts_import import make_file, shared_rows
from benchmarks.load import percentile
from benchmarks.plans import describe
from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.report import RESULTS, render
from benchmarks.scenarios.lists import report_kinds
from benchmarks.seeding import _facts
from ingest.channels.base import Webhook
from ingest.channels.registry import get_adapter
from ingest.domain.profiles import facts_hash, read_facts

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def whatsapp(sender: int) -> Webhook:
    body = whatsapp_body(sender, f"wamid.{sender}", 1_767_225_600, "Hello")
    secrets = {"app_secret": (SECRET,), "verify_token": ("unused",)}
    return Webhook("POST", "", whatsapp_headers(body), body, {"phone_number_id": PHONE_NUMBER_ID}, secrets, NOW)


def test_the_load_is_proved_and_read_as_one_message() -> None:
    adapter = get_adapter("whatsapp_cloud")
    adapter.verify(whatsapp(7))
    (event,) = adapter.parse(whatsapp(7))
    assert (event.kind, event.external_id, event.message and event.message.text) == ("message", "wamid.7", "Hello")


def test_the_telegram_probe_shares_the_number_that_the_same_sender_has_on_whatsapp() -> None:
    adapter = get_adapter("telegram")
    body = telegram_body(7, 1_767_225_600)
    hook = Webhook("POST", "", telegram_headers(), body, {}, {"secret_token": (TELEGRAM_SECRET,)}, NOW)
    adapter.verify(hook)
    (event,) = adapter.parse(hook)
    (other,) = get_adapter("whatsapp_cloud").parse(whatsapp(7))
    assert event.sender is not None
    assert other.sender is not None
    assert read_facts(event.sender).keys == read_facts(other.sender).keys


def test_stored_contacts_carry_the_facts_that_their_messages_tell() -> None:
    told = dict(_facts(1000, 3))
    for sender, expected in told.items():
        (event,) = get_adapter("whatsapp_cloud").parse(whatsapp(sender))
        assert event.sender is not None
        assert facts_hash(event.sender) == expected


@pytest.mark.parametrize(("senders", "expected"), [(0, 50), (5, 5)])
def test_the_load_has_as_many_senders_as_asked_for(senders: int, expected: int) -> None:
    made = raw_requests("/webhooks/1", "host", count=50, senders=senders, first=100, seed=1, run="run")
    writers = {
        json.loads(raw.partition(b"\r\n\r\n")[2])["entry"][0]["changes"][0]["value"]["messages"][0]["from"]
        for raw in made
    }
    assert len(writers) == expected
    assert min(writers) == digits_of(100)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = sorted(random.Random(1).random() for _ in range(1000))
    assert percentile(values, 50) == values[500]
    assert percentile(values, 99) == values[990]
    assert percentile([3.0], 99) == 3.0


def test_cpu_time_and_memory_of_this_process_are_seen() -> None:
    before = cpu_seconds([_own_pid()])
    for _ in range(200_000):
        hashlib.sha256(b"work").digest()
    assert cpu_seconds([_own_pid()]) > before
    assert resident_bytes([_own_pid()]) > 1_000_000
    assert cpu_seconds([0x7FFFFFFF]) == 0


def _own_pid() -> int:
    return int(Path("/proc/self").resolve().name)


def test_the_page_shows_a_missed_target_and_where_it_was_measured(tmp_path: Path) -> None:
    row = {"what": "merge", "measured": "2 s", "target": "≤ 1 s", "is_met": False}
    scenario = {
        "title": "Merging", "at": "2026-01-01T00:00:00+00:00", "command": "python -m benchmarks --only merge",
        "options": {"seed": 3, "is_quick": True}, "seconds": 4, "machine": {"cpus": "2"}, "rows": [row], "runs": [],
        "series": {},
    }  # fmt: skip
    (tmp_path / RESULTS).write_text(json.dumps({"merge": scenario}))
    render(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| merge | 2 s | ≤ 1 s | **missed** |" in page
    assert "`python -m benchmarks --only merge`, seed 3" in page
    assert "quick trial" in page


def test_a_plan_is_told_with_the_rows_given_and_looked_at_and_the_buffers_of_the_whole() -> None:
    scan = {
        "Node Type": "Index Scan", "Index Name": "ix_contact_listed", "Actual Rows": 2, "Actual Loops": 3,
        "Rows Removed by Filter": 10, "Shared Hit Blocks": 30,
    }  # fmt: skip
    never = {"Node Type": "Seq Scan", "Relation Name": "tag", "Actual Rows": 0, "Actual Loops": 0}
    plan = {
        "Node Type": "Nested Loop", "Actual Rows": 6, "Actual Loops": 1, "Shared Hit Blocks": 1000, "Shared Read Blocks": 24,
        "Plans": [scan, never],
    }  # fmt: skip
    assert describe(plan) == "Nested Loop (6) < [Index Scan ix_contact_listed (6 of 36)]; 1,024 buffers"


def test_every_kind_of_query_has_a_row_with_its_own_p95_and_its_plan() -> None:
    kinds = [
        {"name": "search: a", "p50_ms": 4.0, "p95_ms": 9.0, "found": 11, "plan": ["Limit (11); 11 buffers"]},
        {"name": "search: b", "p50_ms": 90.0, "p95_ms": 120.0, "found": 11, "plan": ["Limit (11); 9 buffers"]},
    ]
    found = report_kinds(1_000_000, {"pooled_p95_ms": 60.0, "kinds": kinds})
    assert [(row.what, row.target, row.is_met) for row in found.rows[-2:]] == [
        ("search: b, p95", "≤ 100 ms", False),
        ("search: a, p95", "≤ 100 ms", True),
    ]
    assert [row.is_met for row in found.rows[:2]] == [True, False]
    assert found.series["plans"]["search: a"] == ["Limit (11); 11 buffers"]


def test_the_page_tells_the_plans(tmp_path: Path) -> None:
    scenario = {
        "title": "Lists", "at": "2026-01-01T00:00:00+00:00", "command": "python -m benchmarks", "seconds": 4,
        "options": {"seed": 3, "is_quick": False}, "machine": {"cpus": "2"}, "rows": [], "runs": [],
        "series": {"plans": {"search: a": ["Limit (11); 11 buffers"]}},
    }  # fmt: skip
    (tmp_path / RESULTS).write_text(json.dumps({"lists": scenario}))
    render(tmp_path)
    assert "- search: a\n    - `Limit (11); 11 buffers`" in (tmp_path / "README.md").read_text()


def test_imported_files_share_each_phone_and_email_once_over_all_files() -> None:
    known = [(f"+44770000{number:04d}", f"early{number}@example.com") for number in range(60)]
    rows, shared = 1000, len(shared_rows(1000, 100)) * 2
    files = [make_file(rows, number * rows, known, 100, 100).decode().splitlines()[1:] for number in range(3)]
    lines = [line.split(",") for file in files for line in file]
    assert len(lines) == 3 * rows
    assert len({line[2] for line in lines} | {line[3] for line in lines}) == 6 * rows
    met = [(line[2] in dict(known), line[3] in dict(known).values()) for line in lines]
    assert (
        sum(map(sum, met))
        == 3 * shared
        == len({x for line in lines for x in line[2:4] if x in {y for each in known for y in each}})
    )
    assert (True, True) not in met


class Failing(Aside):
    def work(self) -> None:
        self.is_over.wait(10)
        raise TimeoutError("the flood was not stored")


def test_what_fails_beside_a_load_fails_the_scenario_once_the_block_has_ended() -> None:
    with pytest.raises(TimeoutError, match="not stored"), Failing():
        pass


def test_what_fails_beside_a_load_does_not_hide_why_the_block_failed() -> None:
    with pytest.raises(ZeroDivisionError), Failing():
        _ = 1 / 0
