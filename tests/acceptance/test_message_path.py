"""One message from its webhook to the API, through real processes; and nothing of it in a log, a metric or the broker."""

# ruff: noqa: N802 - the names carry the lessons

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from ingest.simulators.meta import signed
from ingest.store.intake import decode_requests
from tests import builders
from tests.system import WHATSAPP, System, running_system, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

ADA = "447700900451"
# Of one test alone: the others share their people, in any order.
EVE = "447700900977"
CANARY = {
    "text": "canary-text-91c4e7",
    "name": "Canarya Name-5d20b8",
    "digits": "447700955443",
    "email": "canary-8f31@example.com",
    "file": "canary-file-77aa1b.pdf",
}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(
        processes=("web", "worker_resolve", "worker_detect", "worker_upkeep", "beat"),
        resolvers=1,
        environment={"INGEST_LOG_LEVEL": "debug"},
    ) as system:
        yield system


def send(system: System, body: Any, secret: str = WHATSAPP["app_secret"]) -> int:
    request = signed(body, {"app_secret": secret})
    return system.post(system.whatsapp, request.body, dict(request.headers))


def test_a_signed_message_is_in_the_api_within_a_moment(system: System) -> None:
    assert send(system, builders.whatsapp_text(EVE, "m1", "Is this on?", name="Ada Test")) == 200
    accepted_at = time.monotonic()
    until(lambda: system.scalar("select count(*) from message where external_id = 'm1'"), 10, interval=0.01)
    assert time.monotonic() - accepted_at < 5
    contact = system.get(f"/api/v2/contact/phone:+{EVE}")
    assert (contact["firstName"], contact["phone"]) == ("Ada Test", f"+{EVE}")
    (message,) = system.get(f"/api/v2/contact/id:{contact['id']}/message/list")["items"]
    assert message["message"]["text"] == "Is this on?"


def test_the_trace_id_of_the_request_is_that_of_the_job_the_log_line_and_the_message(system: System) -> None:
    assert send(system, builders.whatsapp_text(ADA, "traced", "trace me")) == 200
    until(lambda: system.scalar("select count(*) from message where external_id = 'traced'"), 10)
    (row,) = system.rows("select trace_id from message where external_id = 'traced'")
    until(lambda: str(row.trace_id) in system.output, 5)
    events = [line["event"] for line in log_lines(system) if line.get("trace_id") == str(row.trace_id)]
    assert "requests.resolved" in events


def test_a_dead_letter_keeps_the_trace_id_of_its_request(system: System) -> None:
    assert send(system, {"object": "whatsapp_business_account"}) == 200
    until(lambda: system.scalar("select count(*) from dead_letter"), 10)
    (letter,) = system.rows("select trace_id, body from dead_letter order by id desc limit 1")
    (request,) = decode_requests(bytes(letter.body))
    assert UUID(bytes=request.trace_id) == letter.trace_id


def log_lines(system: System) -> list[dict[str, Any]]:
    """Return the structured lines of all processes; the supervisor has put each process's name before its lines."""
    found = []
    for line in system.output.splitlines():
        start = line.find("{")
        if start >= 0:
            try:
                found.append(json.loads(line[start:]))
            except ValueError:
                continue
    return found


def spellings(value: str) -> list[str]:
    """Return a canary in the forms in which it could leak."""
    return [value, value.upper(), json.dumps(value)[1:-1], value.encode().hex()]


def broker_contents(system: System) -> bytes:
    """Return everything that the broker holds, of every type."""
    with Redis(unix_socket_path=str(system.servers.places.valkey_socket)) as broker:
        return b"".join(key + (broker.dump(key) or b"") for key in broker.keys("*"))


def test_B6_no_message_phone_email_or_name_in_any_log_metric_job_or_broker(system: System) -> None:
    document = {"id": "media-1", "filename": CANARY["file"], "caption": CANARY["text"]}
    digits = CANARY["digits"]
    ways = [
        builders.whatsapp_text(digits, f"id-{CANARY['text']}", CANARY["text"], name=CANARY["name"]),
        builders.whatsapp({**builders.whatsapp_item(digits, "d1"), "type": "document", "document": document}),
        builders.whatsapp_edit(digits, f"id-{CANARY['text']}", CANARY["text"]),
        # Ways that end in errors: unreadable, of an unknown account, from nobody.
        {"object": "whatsapp_business_account", "junk": CANARY},
        builders.whatsapp(builders.whatsapp_item(digits, "d2", CANARY["text"]), account="999"),
        builders.whatsapp_entries([builders.whatsapp_change({"messages": [{"text": CANARY}]})]),
        builders.whatsapp_text("0", CANARY["text"], CANARY["email"]),
    ]
    broker = b""
    for body in ways:
        assert send(system, body) == 200
        broker += broker_contents(system)
    assert send(system, ways[0], secret="wrong") == 401
    # A message that the database refuses, whose error would name its values.
    with system.engine.begin() as tx:
        tx.exec_driver_sql(
            f"alter table message add constraint no_canary check (text <> '{CANARY['email']}') not valid"
        )
    refused = builders.whatsapp_text(digits, "refused", CANARY["email"], name=CANARY["name"])
    assert send(system, refused) == 200
    until(lambda: system.scalar("select count(*) from dead_letter where reason like 'CheckViolation%%'"), 40)
    until(lambda: system.waiting() == 0, 20)
    system.engine.dispose()
    log = system.output + (system.servers.places.logs / "postgres.log").read_text(errors="replace")
    log += (system.servers.places.logs / "valkey.log").read_text(errors="replace")
    jobs = str(system.rows("select name, args, key, last_error from job"))
    letters = str(system.rows("select name, reason, args from dead_letter"))
    places = {
        "log": log.encode(),
        "metrics": system.get("/metrics").encode(),
        "broker": broker + broker_contents(system),
        "jobs": jobs.encode(),
        "dead letters": letters.encode(),
    }
    assert b"job.failed" in places["log"]
    for what, canary in CANARY.items():
        for place, content in places.items():
            found = [each for each in spellings(canary) if each.encode() in content]
            line = re.search(rb".{0,200}" + re.escape((found or ["x"])[0].encode()) + rb".{0,100}", content)
            assert not found, f"{what} in {place}: {line and line.group()!r}"
    assert system.scalar("select count(*) from message where text = :text", text=CANARY["text"]) >= 1


def test_operators_see_the_same_account_in_metrics_and_on_the_command_line(system: System) -> None:
    system.drain(20)
    metrics = system.get("/metrics")
    account = system.ingest("check")
    shown = re.search(r'^ingest_account_requests\{state="accepted"\} (\d+)', metrics, re.MULTILINE)
    assert shown is not None
    assert int(shown.group(1)) == account["accepted"]
    assert account["sound"] is True
    assert {each["queue"] for each in system.ingest("queues")} >= {"resolve", "detect", "upkeep"}
