"""Thirty values planted through every feature, then their people deleted: none of them is left, in any form, anywhere."""

# ruff: noqa: N802 - the names carry the lines of the specification

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import msgspec
import pytest
from sqlalchemy import text

from ingest.simulators.meta import signed
from ingest.store.intake import RawRequest, encode_requests, encode_rows
from ingest.store.spool import Spool
from ingest.supervise import ProcessLine
from tests import builders
from tests.system import TELEGRAM, WHATSAPP, System, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

DIGITS, PHONE = "447700955443", "+447700955443"
TELEGRAM_ID = 7100045521
CANARIES = {
    "WhatsApp number": PHONE,
    "WhatsApp name": "Canarya Nameling",
    "WhatsApp text": "canary-text-91c4e7",
    "WhatsApp message id": "wamid.canary-id-5511",
    "caption": "canary-caption-1f",
    "file name": "canary-file-77aa1b.pdf",
    "edit": "canary-edited-30c1",
    "edit that waits for its message": "canary-waiting-edit-9d",
    "Telegram id": str(TELEGRAM_ID),
    "Telegram name": "Canarygram",
    "Telegram text": "canary-gram-44d0",
    "answer to a workflow": "canary.answer@example.com",
    "phone of an API contact": "+60123450099",
    "email of an API contact": "Canary.Api+7@example.com",
    "first name": "Canarifirst",
    "last name": "Canarilast",
    "former last name": "Canariformer",
    "picture": "https://pictures.example.com/canary-avatar-18.png",
    "custom field": "canary-field-6b2e",
    "comment": "canary-comment-5d20b8",
    "closing summary": "canary-summary-8f31",
    "block reason": "canary-reason-c3d9",
    "phone of an imported contact": "+6591230077",
    "email of an imported contact": "canary.import@example.com",
    "name of an imported contact": "Canarimport",
    "text of an unreadable request": "canary-unreadable-e1",
    "text for an unknown account": "canary-account-f2",
    "text that waits in a job": "canary-job-0a7",
    "text that waits in a spool": "canary-spool-b88",
}


class Erasing(System):
    """The whole system with all its queues, in few processes."""

    def _lines(self) -> list[ProcessLine]:
        queues = "resolve detect react merge delete transfer upkeep"
        commands = {"web": "ingest web", "workers": f"ingest worker {queues}", "beat": "ingest beat"}
        return [ProcessLine(name, tuple(command.split())) for name, command in commands.items()]

    def call(self, method: str, path: str, body: Any = None, raw: bytes | None = None, **headers: str) -> Any:
        """Return an API answer; called again where the rate limit says so."""
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        while True:
            try:
                with urlopen(Request(f"{self.url}/api/v2{path}", content, given, method=method), timeout=20) as answer:
                    told = answer.read()
                    return json.loads(told) if "json" in answer.headers["content-type"] else told
            except HTTPError as refused:
                if refused.code != 429:
                    raise AssertionError((path, refused.code, refused.read())) from refused
                time.sleep(1)

    def send(self, body: Any) -> None:
        """Deliver to the WhatsApp channel."""
        request = signed(body, {"app_secret": WHATSAPP["app_secret"]})
        assert self.post(self.whatsapp, request.body, dict(request.headers)) == 200

    def send_telegram(self, body: Any) -> None:
        """Deliver to the Telegram channel."""
        headers = {"x-telegram-bot-api-secret-token": TELEGRAM["secret_token"], "content-type": "application/json"}
        named = json.dumps(body).replace("Testperson", CANARIES["Telegram name"])
        assert self.post(self.telegram, named.encode(), headers) == 200

    def run(self, statement: str, **given: Any) -> None:
        """Run a statement for which there is no door."""
        with self.engine.begin() as tx:
            tx.execute(text(statement), {"workspace_id": self.workspace_id, **given})

    def settle(self) -> None:
        """Return when no job is due any more but those that wait for their time."""
        until(lambda: not self.scalar("select count(*) from job where due_at <= now() + interval '1 second'"), 60)

    def check(self, *files: Path) -> Any:
        """Return what `ingest erasure-check` finds of the canaries, in these files too."""
        values = self.home / "values.txt"
        values.write_text("\n".join(CANARIES.values()))
        more = [part for file in files for part in ("--file", str(file))]
        command = [sys.executable, "-m", "ingest", "erasure-check", "--json", "--values", str(values), *more]
        environment = {**os.environ, **self._environment()}
        # It reads everything there is, beside whatever else the machine is doing.
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
        values.unlink()
        assert done.stdout, done.stderr
        assert done.returncode == (0 if json.loads(done.stdout)["clean"] else 1)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def system() -> Iterator[Erasing]:
    home = Path(tempfile.mkdtemp(prefix="ingest-erasure-"))
    running = Erasing(home, environment={"INGEST_LOG_LEVEL": "debug"})
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


def plant_messages(system: Erasing) -> None:
    now = datetime.now(UTC)
    system.send(
        builders.whatsapp_text(DIGITS, CANARIES["WhatsApp message id"], CANARIES["WhatsApp text"], now,
                               name=CANARIES["WhatsApp name"])
    )  # fmt: skip
    document = {"id": "media-1", "filename": CANARIES["file name"], "caption": CANARIES["caption"]}
    item = {**builders.whatsapp_item(DIGITS, "d1", sent_at=now), "type": "document", "document": document}
    system.send(builders.whatsapp({key: value for key, value in item.items() if key != "text"}))
    system.send(builders.whatsapp_edit(DIGITS, CANARIES["WhatsApp message id"], CANARIES["edit"], now))
    system.send(builders.whatsapp_edit(DIGITS, "not-here", CANARIES["edit that waits for its message"], now))
    system.send(builders.whatsapp_reaction(DIGITS, CANARIES["WhatsApp message id"], "\N{THUMBS UP SIGN}", now))
    system.send(builders.whatsapp_reaction(DIGITS, "not-here", "\N{THUMBS UP SIGN}", now))
    system.send_telegram(
        builders.telegram_text(TELEGRAM_ID, 1, CANARIES["Telegram text"], now, CANARIES["Telegram name"])
    )
    system.send_telegram(builders.telegram_shared_phone(TELEGRAM_ID, 2, PHONE, now))


def plant_dead_letters(system: Erasing) -> None:
    odd = {"object": "whatsapp_business_account", "from": DIGITS, "text": CANARIES["text of an unreadable request"]}
    system.send(odd)
    item = builders.whatsapp_item(DIGITS, "u1", CANARIES["text for an unknown account"])
    system.send(builders.whatsapp(item, account="999"))
    until(lambda: system.scalar("select count(*) from dead_letter") == 2, 30)


def plant_by_api(system: Erasing) -> int:
    """Return the id of a contact that was made, changed, commented and closed over the API."""
    phone, email = CANARIES["phone of an API contact"], CANARIES["email of an API contact"]
    system.call("POST", "/space/custom_field", {"name": "Note", "dataType": "text"})
    made = system.call(
        "POST",
        f"/contact/phone:{phone}",
        {
            "firstName": CANARIES["first name"],
            "lastName": CANARIES["former last name"],
            "email": email,
            "profilePic": CANARIES["picture"],
            "custom_fields": [{"name": "Note", "value": CANARIES["custom field"]}],
        },
        **{"Idempotency-Key": f"create {email}"},
    )
    contact_id = int(made["contactId"])
    path = f"/contact/id:{contact_id}"
    system.call("PUT", path, {"lastName": CANARIES["last name"]}, **{"Idempotency-Key": "change-1"})
    system.call("POST", f"{path}/comment", {"text": CANARIES["comment"]})
    system.call("POST", f"{path}/tag", ["kept-tag-of-the-workspace"])
    system.call("POST", "/space/closing_notes", {"category": "Done"})
    system.call("POST", f"{path}/conversation/status", {"status": "open"})
    closing = {"status": "close", "category": "Done", "summary": CANARIES["closing summary"]}
    system.call("POST", f"{path}/conversation/status", closing)
    return contact_id


def plant_by_import(system: Erasing) -> int:
    phone, email = CANARIES["phone of an imported contact"], CANARIES["email of an imported contact"]
    rows = f"First name,Phone,Email\n{CANARIES['name of an imported contact']},{phone},{email}\nBad,{phone}99999999,{email}\n"
    query = urlencode({"mode": "add_and_update", "identifier": "phone", "fileName": f"list of {phone}.csv"})
    started = system.call("POST", f"/import?{query}", raw=rows.encode(), **{"Content-Type": "text/csv"})
    until(lambda: system.call("GET", f"/import/{started['id']}")["state"].startswith("completed"), 60, 0.5)
    assert system.call("GET", f"/import/{started['id']}/report?limit=100")["items"]
    # One whose worker was stopped for good: its rows are still there.
    system.run(
        "with made as (insert into transfer (workspace_id, kind, state, options, source) "
        "values (:workspace_id, 'import', 'running', '{}', 'import') returning id) "
        "insert into transfer_part (workspace_id, transfer_id, position, row_count, content) "
        "select :workspace_id, id, 0, 1, cast(:content as bytea) from made",
        content=json.dumps([["Somebody", phone, email]]).encode(),
    )
    return int(system.call("GET", f"/contact/phone:{phone}")["id"])


def plant_answer(system: Erasing, contact_id: int) -> None:
    """Have a workflow ask the Telegram contact for its email, and let it answer."""
    definition = {
        "trigger": {"kind": "manual"},
        "steps": [{"id": "q", "kind": "ask", "text": "Your email, please?", "answer": "email"}],
    }
    flow = system.call("POST", "/workflow", {"name": "Ask", "definition": definition})
    system.call("POST", f"/workflow/{flow['id']}/publish")
    system.call("POST", f"/workflow/{flow['id']}/start", {"contactIds": [contact_id]})
    until(lambda: system.scalar("select count(*) from workflow_run where waits_for = 'answer'"), 30)
    answered_at = datetime.now(UTC) + timedelta(seconds=2)
    system.send_telegram(builders.telegram_text(TELEGRAM_ID, 3, CANARIES["answer to a workflow"], answered_at))
    until(lambda: system.call("GET", f"/contact/id:{contact_id}")["email"], 30, 0.5)


def plant_merges(system: Erasing, kept: int, absorbed: int) -> None:
    """Merge the suggested pair, take it apart, and merge it again."""
    until(lambda: system.scalar("select count(*) from merge_suggestion where state = 'open'"), 30)
    merge = {"contactIds": [kept, absorbed]}
    system.call("POST", "/contact/merge", merge, **{"Idempotency-Key": f"merge {PHONE}"})
    system.call("POST", f"/contact/id:{kept}/unmerge", {"contactId": absorbed})
    system.call("POST", "/contact/merge", merge)


def plant_lists(system: Erasing) -> None:
    """Save a segment that names a phone, and export everybody."""
    condition = {"category": "contactField", "field": "phone", "operator": "isEqualTo", "value": PHONE}
    segment = {"name": f"Only {PHONE}", "filter": {"$or": [condition]}, "search": CANARIES["email of an API contact"]}
    system.call("POST", "/segment", segment)
    started = system.call("POST", "/export", {"filter": {"$and": []}})
    until(lambda: system.call("GET", f"/export/{started['id']}")["state"] == "completed", 60, 0.5)
    assert CANARIES["last name"].encode() in bytes(system.scalar("select content from transfer_part where position = 0 "
        "and transfer_id = :id", id=started["id"]))  # fmt: skip
    system.call("POST", "/export", {"filter": {"$or": [condition]}})


def waiting_request(system: Erasing, words: str) -> RawRequest:
    """Return a request of the WhatsApp contact as it is accepted at this moment."""
    body = json.dumps(builders.whatsapp_text(DIGITS, f"waits-{words}", words, datetime.now(UTC))).encode()
    headers = {"content-type": "application/json"}
    channel_id = system.whatsapp.channel_id
    return RawRequest(
        system.workspace_id, channel_id, 0, datetime.now(UTC), b"w" * 16, "POST", system.whatsapp.url, headers, body
    )


def plant_waiting(system: Erasing) -> RawRequest:
    """Hold back a job until after the deletion, and return a request that was accepted and lies in a spool elsewhere."""
    system.run(
        "insert into job (workspace_id, queue, name, body, due_at) "
        "values (:workspace_id, 'resolve', 'resolve_requests', :body, now() + interval '1 hour')",
        body=encode_requests([waiting_request(system, CANARIES["text that waits in a job"])]),
    )
    system.run(
        "insert into tally (workspace_id, channel_id, outcome, count) values (:workspace_id, :channel_id, 'accepted', 1)",
        channel_id=system.whatsapp.channel_id,
    )
    return waiting_request(system, CANARIES["text that waits in a spool"])


def test_P11_and_B7_of_thirty_canaries_through_every_feature_nothing_is_left(system: Erasing) -> None:
    plant_messages(system)
    until(lambda: system.scalar("select count(*) from contact") == 2, 30)
    system.settle()
    plant_dead_letters(system)
    imported = plant_by_import(system)
    api = plant_by_api(system)
    whatsapp, telegram = (
        system.scalar("select contact_id from identity where channel_id = :id limit 1", id=channel.channel_id)
        for channel in (system.whatsapp, system.telegram)
    )
    plant_answer(system, telegram)
    plant_lists(system)
    # A blocked contact is in no list and in no export.
    system.call("POST", f"/contact/id:{api}/block", {"reason": CANARIES["block reason"]})
    plant_merges(system, whatsapp, telegram)
    in_spool = plant_waiting(system)

    planted = system.check()
    places = {each["place"].partition(".")[0] for each in planted["found"]}
    assert places >= {
        *("contact", "identity", "contact_key", "message", "message_effect", "comment", "contact_event"),
        *("contact_field_value", "merge_record", "merge_suggestion", "dead_letter", "job", "idempotency_key"),
        *("transfer", "transfer_part", "segment"),
    }
    seen = {number for each in planted["found"] for number in each["needles"]}
    # A value that was changed is kept nowhere, and the request in the spool has yet to come.
    unseen = [name for number, name in enumerate(CANARIES, 1) if number not in seen]
    assert unseen == ["former last name", "text that waits in a spool"]

    ids = [whatsapp, api, imported]
    job = system.call("POST", "/contact/bulk/delete", {"contactIds": ids, "count": len(ids)})
    spool = Spool(system.spool, 1024 * 1024)
    spool.append([msgspec.msgpack.encode(row) for row in encode_rows([in_spool])])
    spool.release()
    # Their messages go at once; the deletion is not done before what waited is.
    until(lambda: not system.scalar("select count(*) from message"), 60)
    assert system.call("GET", f"/deletion/{job['id']}")["state"] == "running"
    system.run("update job set due_at = now() where body is not null")
    until(lambda: system.call("GET", f"/deletion/{job['id']}")["state"] == "completed", 90, 0.5)
    until(lambda: system.waiting() == 0, 60)
    system.settle()

    (system.home / "metrics.txt").write_text(system.get("/metrics"))
    left = system.check(system.home / "processes.log", system.home / "metrics.txt")
    assert left["found"] == [], left["found"]
    assert (left["clean"], left["broker_searched"]) == (True, True)
    # Hashes of addresses and of message ids, salted, for fourteen days; the vocabulary of the workspace; what the account
    # counts; the audit log with ids; tombstones, and the certificate.
    assert {each["place"] for each in left["kept"]} == {"erased_address.address_hash"}
    assert system.scalar("select count(*) from tag where name = 'kept-tag-of-the-workspace'") == 1
    assert system.scalar("select count(*) from tombstone") == 4
    assert system.scalar("select count(*) from audit_entry") > 10
    assert system.scalar("select count(*) from contact") == 0
    outcomes = system.rows("select sum(count) as count from tally where outcome = 'dropped' and reason = 'erased'")
    assert outcomes[0].count == 2
    certificate = system.call("GET", f"/deletion/{job['id']}/certificate")["certificate"]
    assert certificate["contacts"] == 4
    # Rows of files: four and two of the exports, one of the import that stood still.
    swept = {"dead_letter": 2, "segment": 1, "transfer": 2, "transfer_part": 7, "idempotency_key": 3}
    assert {name: certificate["rows"].get(name, 0) for name in swept} == swept
    system.assert_sound()

    # Whoever writes again is somebody new.
    system.send(builders.whatsapp_text(DIGITS, "after", "hello again", datetime.now(UTC)))
    until(lambda: system.scalar("select count(*) from contact") == 1, 30)
