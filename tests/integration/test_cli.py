"""The command line: what it prints, what it refuses, and with which status."""

# ruff: noqa: N802 - some names carry the rows of the fault matrix

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text

from ingest.channels.registry import CODES
from ingest.cli import COMMANDS, main
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
        "app": ("add",),
        "dead-letters": ("list", "show", "replay", "discard"),
    }
    return [
        (name, *rest) for name in COMMANDS for rest in ([(each,) for each in groups[name]] if name in groups else [()])
    ]


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
    assert on_database("channel", "set", "999", "--set", "channel_secret=new").status == 1


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


def test_dead_letter_is_listed_shown_replayed_and_discarded(
    on_database: Run, database_url: str, tmp_path: Path
) -> None:
    workspace_id = on_database("workspace", "create", "Shop", "--json").json["workspace_id"]
    engine = create_engine(database_url)
    with engine.begin() as tx:
        for reason in ("body is not JSON", "no such channel"):
            tx.execute(
                text(
                    "insert into dead_letter (workspace_id, queue, name, reason, args, body, attempts)"
                    " values (:workspace_id, 'resolve', 'resolve_requests', :reason, '{}', 'canary', 3)"
                ),
                {"workspace_id": workspace_id, "reason": reason},
            )
    engine.dispose()
    listed = on_database("dead-letters", "list", "--json")
    first, second = (each["id"] for each in listed.json)
    assert "canary" not in listed.out
    assert [each["id"] for each in on_database("dead-letters", "list", "--reason", "no such", "--json").json] == [
        second
    ]
    body = tmp_path / "body"
    shown = on_database("dead-letters", "show", str(first), "--body", str(body), "--json")
    assert (shown.json["reason"], shown.json["body_bytes"], body.read_bytes()) == ("body is not JSON", 6, b"canary")
    assert "canary" not in shown.out
    assert on_database("dead-letters", "discard", str(first), "--json").json == {"discarded": 1}
    assert on_database("dead-letters", "replay", "--all", "--json").json == {"replayed": 1}
    assert on_database("dead-letters", "list", "--json").json == []


def test_simulate_without_channels_says_what_to_do(on_database: Run) -> None:
    done = on_database("simulate", "--count", "1")
    assert done.status == 1
    assert "ingest channel add" in done.err
