"""Values of a person and of an operator, sent down every way that ends well or badly; then none of them is in what is kept
for operators: the processes' output, both servers' own logs (every statement logged as slow), metrics, broker, job rows.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from redis import Redis

from ingest.simulators.meta import signed
from ingest.supervise import ProcessLine
from tests import builders
from tests.faults.world import FaultySystem
from tests.system import WHATSAPP, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(300)]

DIGITS = "447700955443"
CANARIES = {
    "phone": DIGITS,
    "email": "canary-8f31@example.com",
    "name": "Canarya Name-5d20b8",
    "text": "canary-text-91c4e7",
    "message id": "wamid-canary-id-55c1",
    "token": "canary-token-0e77d1",
    "secret": "canary-secret-6ab2f0",
    "signature": "c0ffee" * 10 + "beef",
    "key": "canary-idempotency-44d0",
    "tag": "canary-tag-12aa",
    "comment": "canary-comment-5d20",
    "field": "canary-field-6b2e",
    "search": "canary-search-c3d9",
    "file": "canary-file-77aa1b.csv",
}


class Talkative(FaultySystem):
    """A system whose servers and processes say all they can."""

    def _lines(self) -> list[ProcessLine]:
        queues = "resolve detect react merge delete transfer upkeep"
        commands = {"web": "ingest web", "workers": f"ingest worker {queues}", "beat": "ingest beat"}
        return [ProcessLine(name, tuple(command.split())) for name, command in commands.items()]

    def call(self, method: str, path: str, body: object = None, **headers: str) -> int:
        """Call the API and return the status; 0 where there was no answer."""
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        try:
            with urlopen(Request(self.url + path, content, given, method=method), timeout=30) as answer:
                return int(answer.status)
        except HTTPError as refused:
            return refused.code
        except URLError:
            return 0

    def send_whatsapp(self, body: object, secret: str = WHATSAPP["app_secret"], **headers: str) -> int:
        """Deliver to the WhatsApp channel."""
        request = signed(body, {"app_secret": secret})
        return self.post(self.whatsapp, request.body, {**request.headers, **headers})

    def command(self, *arguments: str, stdin: str = "") -> str:
        """Return all that a command says."""
        done = subprocess.run(
            [sys.executable, "-m", "ingest", *arguments],
            env={**os.environ, **self._environment()},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def system() -> Iterator[Talkative]:
    import shutil
    import tempfile

    home = Path(tempfile.mkdtemp(prefix="ingest-canaries-"))
    talkative = Talkative(
        home,
        environment={"INGEST_LOG_LEVEL": "debug"},
        postgres_settings={"log_min_duration_statement": "0", "log_lock_waits": "on", "deadlock_timeout": "100ms"},
    )
    try:
        talkative.start()
        yield talkative
    finally:
        talkative.stop()
        shutil.rmtree(home, ignore_errors=True)


def message(number: int, text: str = CANARIES["text"]) -> builders.JSON:
    return builders.whatsapp_text(DIGITS, f"{CANARIES['message id']}-{number}", text, name=CANARIES["name"])


def from_unknown_account() -> builders.JSON:
    return builders.whatsapp(builders.whatsapp_item(DIGITS, "u1", CANARIES["text"]), account="999")


def webhooks(system: Talkative) -> dict[str, int]:
    """Call webhooks in every way that ends well or badly; return the answers."""
    wrong = {"x-hub-signature-256": f"sha256={CANARIES['signature']}"}
    broken = json.dumps(message(2)).encode()[:-3]
    unknown = f"{system.url}/webhooks/999999?token={CANARIES['token']}"
    handshake = f"{system.whatsapp.url}?hub.mode=subscribe&hub.challenge=1&hub.verify_token={CANARIES['secret']}"
    answers = {
        "good": system.send_whatsapp(message(1)),
        "signed with a wrong secret": system.send_whatsapp(message(2), CANARIES["secret"]),
        "signature made up": system.send_whatsapp(message(2), **wrong),
        "malformed": system.post(system.whatsapp, broken, wrong),
        "junk": system.send_whatsapp({"object": "whatsapp_business_account", "junk": CANARIES}),
        "unknown account": system.send_whatsapp(from_unknown_account()),
        "from nobody": system.send_whatsapp(builders.whatsapp_text("0", "n1", CANARIES["text"], name=CANARIES["name"])),
        "telegram with a wrong token": system.post(
            system.telegram, broken, {"x-telegram-bot-api-secret-token": CANARIES["secret"]}
        ),
    }  # fmt: skip
    for what, url in {"unknown channel": unknown, "handshake": handshake}.items():
        try:
            urlopen(Request(url, headers={"authorization": f"Bearer {CANARIES['token']}"}), timeout=20).close()
        except HTTPError as refused:
            answers[what] = refused.code
    return answers


def calls(system: Talkative) -> dict[str, int]:
    """Call the API in every way that ends well or badly; return the answers."""
    phone, email, words = (
        f"/api/v2/contact/phone:+{DIGITS}",
        f"/api/v2/contact/email:{CANARIES['email']}",
        CANARIES["field"],
    )
    condition = {"category": "contactField", "field": "phone", "operator": "isEqualTo", "value": f"+{DIGITS}"}
    made = [
        ("GET", f"/api/v2/contact/email:{quote('nobody' + CANARIES['email'])}", None, {}),
        ("GET", phone, None, {}),
        ("GET", phone, None, {"Authorization": f"Bearer {CANARIES['token']}"}),
        ("PUT", phone, {"email": CANARIES["email"], "lastName": CANARIES["name"]}, {"Idempotency-Key": CANARIES["key"]}),
        ("PUT", phone, {"lastName": "Another"}, {"Idempotency-Key": CANARIES["key"]}),
        ("PUT", email, {"language": words, "phone": words, "custom_fields": [{"name": words, "value": words}]}, {}),
        ("PUT", email, b'{"lastName": "' + CANARIES["name"].encode() + b'"', {}),
        ("POST", f"{phone}/tag", [CANARIES["tag"]], {}),
        ("POST", f"{phone}/comment", {"text": CANARIES["comment"]}, {}),
        ("POST", "/api/v2/contact/list", {"filter": {"$and": [condition]}, "search": CANARIES["search"]}, {}),
        ("POST", "/api/v2/contact/list", {"filter": {"$nor": [condition]}, "timezone": CANARIES["search"]}, {}),
        ("POST", "/api/v2/segment", {"name": CANARIES["name"], "filter": {"$and": [condition]}}, {}),
        ("POST", "/api/v2/export", {"filter": {"$and": [condition]}}, {}),
        ("POST", f"/api/v2/import?fileName={CANARIES['file']}",
         f"firstName,email\n{CANARIES['name']},{CANARIES['email']}x\n,{words}\n".encode(), {"Content-Type": "text/csv"}),
        ("POST", f"/api/v2/{CANARIES['text']}", {"text": CANARIES["text"]}, {}),
        ("POST", "/api/v2/space/token", {"name": CANARIES["name"], "role": CANARIES["text"]}, {}),
    ]  # fmt: skip
    return {f"{method} {number}": system.call(method, path, body, **headers)
            for number, (method, path, body, headers) in enumerate(made)}  # fmt: skip


def commands(system: Talkative) -> str:
    """Return what commands say that are given secrets and people's data and fail over them."""
    captured = system.home / "request.http"
    captured.write_bytes(b"POST /x HTTP/1.1\r\nhost: a\r\n\r\n" + json.dumps(message(9)).encode()[:-3])
    secret, add = CANARIES["secret"], ("channel", "add", "telegram", "--workspace")
    told = [
        system.command(*add, "1", "--name", "T", "--set", f"secret={secret}"),
        system.command(*add, "777", "--name", CANARIES["name"], "--set", f"secret_token={secret}"),
        system.command("channel", "set", "999", "--set", f"app_secret={secret}"),
        system.command("parse", "whatsapp_cloud", str(captured), "--set", f"app_secret={secret}"),
        *(
            system.command(*each.split())
            for each in ("dead-letters list", "dead-letters replay --all", "queues", "check")
        ),
    ]
    captured.unlink()
    return "\n".join(told)


def broker_contents(system: Talkative) -> bytes:
    with Redis(unix_socket_path=str(system.servers.places.valkey_socket)) as broker:
        return b"".join(key + (broker.dump(key) or b"") for key in broker.keys("*"))


def spellings(value: str) -> set[str]:
    """Return a canary in the forms in which it could leak."""
    return {value, value.upper(), json.dumps(value)[1:-1], value.encode().hex(), quote(value), quote(value, safe="")}


def leaks(places: dict[str, bytes], system: Talkative) -> list[str]:
    """Return which canary is where, and what stands around it."""
    found = []
    given = {
        **CANARIES,
        "API token": system.token,
        "secret key": system.secret_key,
        "app secret": WHATSAPP["app_secret"],
    }
    for place, content in places.items():
        for what, canary in given.items():
            for spelled in spellings(canary):
                if (at := content.find(spelled.encode())) >= 0:
                    found.append(f"{what} in {place}: {content[max(0, at - 200) : at + 100]!r}")
                    break
    return found


def test_no_canary_is_left_in_any_log_metric_broker_or_job_by_any_way_through(system: Talkative) -> None:
    answers = {**webhooks(system), **calls(system)}
    until(lambda: system.waiting() == 0, 60)
    answers |= {f"again, {what}": status for what, status in calls(system).items()}
    broker, said = broker_contents(system), commands(system)
    # The database refuses what a worker and the API write: their errors would name it.
    with system.engine.begin() as tx:
        tx.exec_driver_sql("alter table message add constraint no_canary check (text not like '%%refused%%') not valid")
        tx.exec_driver_sql("alter table comment add constraint no_words check (text not like '%%canary%%') not valid")
    assert system.send_whatsapp(message(10, f"refused {CANARIES['text']}")) == 200
    refused = system.call("POST", f"/api/v2/contact/phone:+{DIGITS}/comment", {"text": CANARIES["comment"]})
    until(lambda: system.scalar("select count(*) from dead_letter where reason like 'CheckViolation%%'"), 60)
    # A handler that raises, a broker that is away, a database that is away.
    for point in ("claimed", "committed", "proved"):
        system.arm(point, "raise")
        system.send_whatsapp(message(11))
    system.servers.valkey.kill()
    assert system.send_whatsapp(message(12)) == 200
    system.servers.valkey.start()
    with system.database_stopped():
        time.sleep(1)
        answers["while the database is away"] = system.send_whatsapp(message(13))
        away = calls(system)
        said += commands(system)
    until(lambda: system.waiting() == 0, 60)
    until(lambda: not list(system.spool.glob("*.spool")), 30)
    time.sleep(2)
    broker += broker_contents(system)
    metrics = system.get("/metrics").encode()
    jobs = str(system.rows("select name, args, key, last_error, trace_id from job")).encode()
    letters = str(system.rows("select name, reason, args, trace_id from dead_letter")).encode()
    system.engine.dispose()
    places = {f"log {path.name}": path.read_bytes() for path in system.servers.places.logs.iterdir() if path.is_file()}
    places |= {f"metrics file {path.name}": path.read_bytes() for path in (system.home / "metrics").glob("*")}
    places |= {
        "output": system.output.encode(),
        "metrics": metrics,
        "broker": broker,
        "jobs": jobs,
        "dead letters": letters,
    }
    places |= {"commands": said.encode()}
    sizes = {name: len(content) for name, content in places.items() if "file" not in name}
    print(f"\nanswers {answers}, refused {refused}, away {away}; {sizes} bytes")
    # The ways were gone, and what they lead to was told.
    assert {200, 400, 401, 404} <= set(answers.values())
    assert refused >= 400
    assert {503} <= set(away.values())
    assert b"duration:" in places["log postgres.log"]
    assert b"job.failed" in places["output"]
    assert b"CheckViolation" in places["dead letters"]
    assert leaks(places, system) == []
