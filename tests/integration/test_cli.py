"""The command line: what it prints, what it refuses, and with which status."""

# ruff: noqa: N802 - some names carry the rows of the fault matrix

import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text

from ingest.channels.registry import CODES
from ingest.cli import COMMANDS, main
from ingest.cli.up import is_answering
from ingest.requests import read_request
from ingest.store.dead_letters import NewDeadLetter, add_dead_letters, list_dead_letters
from ingest.store.intake import RawRequest, encode_requests
from tests.system import free_port

pytestmark = pytest.mark.database

Run = Callable[..., "Done"]


class Done:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def ingest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A function that runs the command line in this process, on an empty data directory."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("BROKER_URL", raising=False)
    monkeypatch.setenv("INGEST_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["ingest", *arguments])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as exited:
            status = int(exited.code or 0)
        found = capsys.readouterr()
        return Done(status, found.out, found.err)

    return run


@pytest.fixture
def on_database(ingest: Run, monkeypatch: pytest.MonkeyPatch, database_url: str, broker_url: str) -> Run:
    """The same with a database and a broker."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", broker_url)
    monkeypatch.setenv("INGEST_SECRET_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("INGEST_PUBLIC_URL", "https://messages.example.com")
    return ingest


def commands() -> list[tuple[str, ...]]:
    groups = {
        "workspace": ("create", "list"),
        "token": ("create", "list", "revoke"),
        "channel": ("add", "list", "set"),
        "app": ("add", "list", "set"),
        "dead-letters": ("list", "show", "replay", "discard"),
    }
    rests = {name: [(), *((each,) for each in groups.get(name, ()))] for name in COMMANDS}
    return [(), *((name, *rest) for name in COMMANDS for rest in rests[name])]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(ingest: Run, command: tuple[str, ...]) -> None:
    done = ingest(*command, "--help")
    assert done.status == 0, done.err
    assert re.search(rf"Example:\n.*ingest {' '.join(command)}\b", done.out)


def test_help_lists_every_command_and_answers_at_once() -> None:
    taken = []
    for _attempt in range(5):
        before = os.times()
        done = subprocess.run([sys.executable, "-m", "ingest", "--help"], capture_output=True, text=True, check=True)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert [name for name in COMMANDS if f"  {name} " not in done.stdout] == []
    # Processor time, which a busy machine stretches least: 50 ms on an idle one. The best of five.
    assert min(taken) < 0.15


def test_help_imports_no_heavy_library() -> None:
    script = (
        "import sys; sys.argv = ['ingest', '--help']\n"
        "from ingest.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'sqlalchemy', 'celery', 'kombu', 'fastapi', 'pydantic', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_wrong_usage_is_status_2_on_standard_error(ingest: Run) -> None:
    done = ingest("worker", "no-such-queue")
    assert (done.status, done.out) == (2, "")
    assert "no-such-queue" in done.err


@pytest.mark.parametrize(
    ("words", "meant"),
    [(("queue",), "queues"), (("dead-letter", "list"), "dead-letters"), (("channel", "lst"), "list")],
)
def test_a_misspelt_command_is_told_with_the_one_that_was_meant(
    ingest: Run, words: tuple[str, ...], meant: str
) -> None:
    done = ingest(*words)
    assert done.status == 2
    assert f"Did you mean '{meant}'?" in done.err
    assert "Did you mean" not in ingest("bicycle").err


def test_bad_setting_is_status_1_and_named(ingest: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://x/y")
    done = ingest("queues")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("ingest: DATABASE_URL: must be a PostgreSQL URL")


def test_E1_a_web_process_whose_spool_cannot_be_written_refuses_to_start(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    environment = {
        **os.environ,
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "BROKER_URL": "redis://127.0.0.1:1",
        "INGEST_SECRET_KEY": Fernet.generate_key().decode(),
        "INGEST_DATA_DIR": str(tmp_path / "data"),
        "INGEST_SPOOL_DIR": str(in_the_way / "spool"),
        "INGEST_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "ingest", "web"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ingest: INGEST_SPOOL_DIR {in_the_way / 'spool'} cannot be written")


def test_database_that_is_away_is_told_in_one_line(ingest: Run) -> None:
    done = ingest("workspace", "create", "Shop")
    assert (done.status, done.out) == (1, "")
    assert (
        done.err
        == "ingest: cannot reach the database: start it with `ingest up`, or set DATABASE_URL to one that is running\n"
    )


def test_database_without_tables_is_told_in_one_line(on_database: Run, database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as tx:
        tx.execute(text("drop schema public cascade"))
        tx.execute(text("create schema public"))
    engine.dispose()
    done = on_database("workspace", "create", "Shop")
    assert (done.status, done.err) == (1, "ingest: the database has no tables yet: run `ingest migrate`\n")


def test_secret_key_is_a_fernet_key(ingest: Run) -> None:
    Fernet(ingest("secret-key").out.strip())


def test_workspaces_and_tokens_are_listed_and_a_token_is_revoked(on_database: Run) -> None:
    workspace_id = str(on_database("workspace", "create", "Shop", "--json").json["workspace_id"])
    assert [each["name"] for each in on_database("workspace", "list", "--json").json][-1] == "Shop"
    secret = on_database("token", "create", "--workspace", workspace_id, "--role", "agent", "--json").json["token"]
    listed = on_database("token", "list", "--workspace", workspace_id, "--json")
    assert [(each["role"], each["revoked_at"]) for each in listed.json] == [("agent", None)]
    assert secret not in listed.out
    token_id = str(listed.json[0]["id"])
    assert on_database("token", "revoke", token_id, "--workspace", workspace_id).status == 0
    assert on_database("token", "list", "--workspace", workspace_id, "--json").json[0]["revoked_at"] is not None
    missing = on_database("token", "revoke", "999999", "--workspace", workspace_id)
    assert (missing.status, missing.out) == (1, "")
    assert "has no token 999999" in missing.err


def test_simulating_against_nobody_fails_and_says_where_it_sent_to(on_database: Run) -> None:
    workspace_id = str(on_database("workspace", "create", "Shop", "--json").json["workspace_id"])
    added = (
        "channel",
        "add",
        "telegram",
        "--workspace",
        workspace_id,
        "--name",
        "T",
        "--set",
        "secret_token=long-enough",
    )
    assert on_database(*added).status == 0
    done = on_database("simulate", "--count", "2", "--rate", "0", "--url", "http://127.0.0.1:9", "--json")
    assert done.status == 1
    assert "nothing was accepted by http://127.0.0.1:9" in done.err


def test_workspace_token_and_channel_from_nothing(on_database: Run) -> None:
    workspace_id = str(on_database("workspace", "create", "Shop", "--json").json["workspace_id"])
    token = on_database("token", "create", "--workspace", workspace_id, "--role", "owner", "--json").json["token"]
    assert len(token) > 40
    added = on_database(
        "channel",
        "add",
        "line",
        "--workspace",
        workspace_id,
        "--name",
        "Line",
        "--set",
        "channel_secret=s3cret-canary",
        "--json",
    ).json
    assert added["webhook_url"] == f"https://messages.example.com/webhooks/{added['channel_id']}"
    listed = on_database("channel", "list", "--workspace", workspace_id, "--json")
    assert [(each["id"], each["code"], each["secrets"]) for each in listed.json] == [
        (added["channel_id"], "line", ["channel_secret"])
    ]
    assert "s3cret-canary" not in listed.out


def test_missing_and_unknown_channel_settings_are_told(on_database: Run) -> None:
    workspace_id = str(on_database("workspace", "create", "Shop", "--json").json["workspace_id"])
    channel = ("channel", "add", "line", "--workspace", workspace_id, "--name", "Line")
    assert "line needs channel_secret (" in on_database(*channel).err
    assert (
        "line has no setting 'colour'" in on_database(*channel, "--set", "channel_secret=x", "--set", "colour=red").err
    )
    refused = on_database(*channel, "--set", "just-a-secret")
    assert (refused.status, refused.err) == (1, "ingest: --set needs NAME=VALUE\n")
    assert on_database("channel", "list", "--json").json == []


def test_secret_is_rotated_by_setting_it_again(on_database: Run) -> None:
    workspace_id = str(on_database("workspace", "create", "Shop", "--json").json["workspace_id"])
    channel = (
        "channel",
        "add",
        "line",
        "--workspace",
        workspace_id,
        "--name",
        "Line",
        "--set",
        "channel_secret=old",
        "--json",
    )
    channel_id = str(on_database(*channel).json["channel_id"])
    assert on_database("channel", "set", channel_id, "--set", "channel_secret=new").status == 0
    assert on_database("channel", "set", channel_id, "--set", "colour=red").status == 1
    missing = on_database("channel", "set", "999", "--set", "channel_secret=new")
    assert (missing.status, missing.err) == (
        1,
        "ingest: there is no channel 999: `ingest channel list` shows those there are\n",
    )


def test_apps_are_listed_and_changed(on_database: Run) -> None:
    workspace_id = str(on_database("workspace", "create", "Shop", "--json").json["workspace_id"])
    secrets = ("--set", "app_secret=s3cret-canary", "--set", "verify_token=other")
    add = ("app", "add", "messenger", "--workspace", workspace_id, "--name", "Pages", *secrets, "--json")
    app_id = on_database(*add).json["app_id"]
    listed = on_database("app", "list", "--workspace", workspace_id, "--json")
    assert [(each["id"], each["code"], each["webhook_url"]) for each in listed.json] == [
        (app_id, "messenger", f"https://messages.example.com/webhooks/app/{app_id}")
    ]
    assert "app_secret" in listed.json[0]["secrets"]
    assert "s3cret-canary" not in listed.out
    assert on_database("app", "set", str(app_id), "--set", "app_secret=new").status == 0
    assert "messenger has no setting 'colour'" in on_database("app", "set", str(app_id), "--set", "colour=red").err
    assert "there is no app 999: `ingest app list`" in on_database("app", "set", "999", "--set", "app_secret=new").err


def test_parse_prints_an_event_a_line_without_a_database(ingest: Run, tmp_path: Path) -> None:
    body = b'{"events":[{"type":"message","message":{"type":"text","id":"1","text":"Hi"},"timestamp":1767225600000,"source":'
    body += b'{"type":"user","userId":"U1"},"webhookEventId":"E1"}],"destination":"D"}'
    request = tmp_path / "request.http"
    request.write_bytes(b"POST /webhooks/1 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    done = ingest("parse", "line", str(request), "--no-verify")
    assert done.status == 0, done.err
    (event,) = [json.loads(each) for each in done.out.splitlines()]
    assert (event["kind"], event["message"]["text"], event["sender"]["external_id"]) == ("message", "Hi", "U1")
    refused = ingest("parse", "line", str(request), "--set", "channel_secret=x")
    assert (refused.status, refused.out) == (1, "")


def test_parse_knows_every_code_and_no_other(ingest: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert {ingest("parse", code, str(empty)).status for code in CODES} == {1}
    assert ingest("parse", "icq", str(empty)).status == 2


def test_queues_and_dead_letters_of_an_empty_system(on_database: Run) -> None:
    queues = on_database("queues", "--json").json
    assert {each["queue"]: each["waiting"] for each in queues}["resolve"] == 0
    assert on_database("dead-letters", "list", "--json").json == []
    assert on_database("dead-letters", "show", "1").status == 1
    assert on_database("dead-letters", "replay").status == 2
    assert on_database("dead-letters", "replay", "--all", "--json").json == {"replayed": 0}
    assert on_database("check", "--json").json["sound"] is True


def add_letters(database_url: str, workspace_id: int, *reasons: str, requests: Sequence[RawRequest] = ()) -> list[int]:
    """Return the ids of new dead letters, each with these requests in it."""
    engine = create_engine(database_url)
    body = encode_requests(requests) if requests else None
    with engine.begin() as tx:
        add_dead_letters(
            tx, [NewDeadLetter(workspace_id, "resolve", "resolve_requests", each, body=body) for each in reasons]
        )
        ids = [letter.id for letter in list_dead_letters(tx)]
    engine.dispose()
    return ids


def telegram_request(text: str = "canary") -> RawRequest:
    sender = {"id": 4471, "first_name": "Ada"}
    message = {
        "message_id": 7,
        "from": sender,
        "chat": {"id": 4471, "type": "private"},
        "date": 1767225600,
        "text": text,
    }
    body = json.dumps({"update_id": 1, "message": message}).encode()
    url, headers = "https://messages.example.com/webhooks/7?x=1", {"content-type": "application/json"}
    return RawRequest(1, 7, 0, datetime.now(UTC), b"t" * 16, "POST", url, headers, body)


def test_dead_letter_is_listed_shown_replayed_and_discarded(
    on_database: Run, database_url: str, tmp_path: Path
) -> None:
    workspace_id = on_database("workspace", "create", "Shop", "--json").json["workspace_id"]
    request = telegram_request()
    first, second = add_letters(database_url, workspace_id, "body is not JSON", "no such channel", requests=[request])
    listed = on_database("dead-letters", "list", "--json")
    assert "canary" not in listed.out
    assert [each["id"] for each in on_database("dead-letters", "list", "--reason", "no such", "--json").json] == [
        second
    ]
    shown = on_database("dead-letters", "show", str(first), "--json")
    assert (shown.json["reason"], shown.json["body_bytes"]) == ("body is not JSON", len(request.body))
    assert "canary" not in shown.out
    assert on_database("dead-letters", "discard", str(first), "--json").json == {"discarded": 1}
    assert on_database("dead-letters", "replay", "--all", "--json").json == {"replayed": 1}
    assert on_database("dead-letters", "list", "--json").json == []


def test_the_body_of_a_dead_letter_is_the_request_as_it_came_which_parse_reads(
    on_database: Run, database_url: str, tmp_path: Path
) -> None:
    workspace_id = on_database("workspace", "create", "Shop", "--json").json["workspace_id"]
    request = telegram_request("Grüße")
    (letter_id,) = add_letters(database_url, workspace_id, "bad_payload", requests=[request])
    file = tmp_path / "request.http"
    assert on_database("dead-letters", "show", str(letter_id), "--body", str(file)).status == 0
    head, _, body = file.read_bytes().partition(b"\r\n\r\n")
    assert body == request.body
    assert head.decode().splitlines() == [
        "POST /webhooks/7?x=1 HTTP/1.1",
        "Host: messages.example.com",
        "Content-Type: application/json",
        f"Content-Length: {len(request.body)}",
    ]
    assert file.stat().st_mode & 0o777 == 0o600
    parsed = on_database("parse", "telegram", str(file), "--no-verify")
    assert json.loads(parsed.out)["message"]["text"] == "Grüße"


def test_several_requests_of_one_dead_letter_go_to_a_file_each(
    on_database: Run, database_url: str, tmp_path: Path
) -> None:
    workspace_id = on_database("workspace", "create", "Shop", "--json").json["workspace_id"]
    requests = [telegram_request("one"), telegram_request("two")]
    (letter_id,) = add_letters(database_url, workspace_id, "worker_died", requests=requests)
    on_database("dead-letters", "show", str(letter_id), "--body", str(tmp_path / "request.http"))
    files = sorted(tmp_path.glob("request*"))
    assert [each.name for each in files] == ["request-1.http", "request-2.http"]
    assert [read_request(each.read_bytes()).body for each in files] == [each.body for each in requests]


def test_a_dead_letter_that_carries_nothing_writes_no_file(on_database: Run, database_url: str, tmp_path: Path) -> None:
    workspace_id = on_database("workspace", "create", "Shop", "--json").json["workspace_id"]
    (letter_id,) = add_letters(database_url, workspace_id, "Permanent: unknown_job")
    done = on_database("dead-letters", "show", str(letter_id), "--body", str(tmp_path / "file"))
    assert (done.status, (tmp_path / "file").exists()) == (1, False)
    assert "carries no request" in done.err


@pytest.mark.parametrize("act", ["replay", "discard"])
def test_ids_that_are_no_open_dead_letter_are_told_and_the_others_are_done(
    on_database: Run, database_url: str, act: str
) -> None:
    workspace_id = on_database("workspace", "create", "Shop", "--json").json["workspace_id"]
    first, second = add_letters(database_url, workspace_id, "one", "two", requests=[telegram_request()])
    assert on_database("dead-letters", "discard", str(first)).status == 0
    done = on_database("dead-letters", act, str(first), str(second), "987654", "--json")
    assert (done.status, done.json) == (1, {f"{act}ed": 1})
    assert f"dead letter {first} is not open: it is discarded" in done.err
    assert "there is no dead letter 987654" in done.err


def test_erasure_check_tells_places_and_never_values(
    on_database: Run, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace_id = on_database("workspace", "create", "Shop", "--json").json["workspace_id"]
    add_letters(database_url, workspace_id, "odd", requests=[telegram_request("eve@canary.example")])
    log = tmp_path / "web.log.gz"
    log.write_bytes(gzip.compress(b"a line with eve%40canary.example in it"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("someone else\neve@canary.example\n"))
    done = on_database("erasure-check", "--file", str(log), "--json")
    assert done.status == 1
    assert done.json == {
        "clean": False,
        "broker_searched": True,
        "found": [
            {"place": "dead_letter.body", "count": 1, "needles": [2]},
            {"place": str(log), "count": 1, "needles": [2]},
        ],
        "kept": [],
    }
    values = tmp_path / "values.txt"
    values.write_text("eve@canary.example\n")
    done = on_database("erasure-check", "--values", str(values), "--file", str(log))
    assert "canary" not in done.out + done.err
    on_database("dead-letters", "discard", "--all")
    done = on_database("erasure-check", "--values", str(values))
    assert (done.status, done.out) == (0, "nothing found\n")


@pytest.mark.parametrize(("given", "told"), [("", "nothing to look for"), ("abc", "line 1: at least 4 characters")])
def test_erasure_check_refuses_what_it_cannot_look_for(on_database: Run, tmp_path: Path, given: str, told: str) -> None:
    values = tmp_path / "values.txt"
    values.write_text(given)
    done = on_database("erasure-check", "--values", str(values))
    assert (done.status, told in done.err) == (1, True)


def test_simulate_without_channels_says_what_to_do(on_database: Run) -> None:
    done = on_database("simulate", "--count", "1")
    assert done.status == 1
    assert "ingest channel add" in done.err


def test_a_broker_that_does_not_answer_is_noticed(broker_url: str) -> None:
    assert is_answering(broker_url)
    for away in ("redis://127.0.0.1:1/0", "amqp://guest@127.0.0.1:1//"):
        assert not is_answering(away)
