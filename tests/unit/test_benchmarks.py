"""The benchmark's own parts: what it sends is what the adapters take, and what it reports is what was measured."""

import hashlib
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

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
from benchmarks.load import percentile
from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.report import RESULTS, render
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
