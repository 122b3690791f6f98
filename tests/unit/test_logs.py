"""Logs name what happened and where, and cannot be made to tell who wrote what."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from ingest.errors import Permanent
from ingest.logs import configure_logs

CANARIES = ["+60123456789", "60123456789", "aisyah@example.com", "see you at nine"]

Lines = Any


class Output(io.StringIO):
    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(each) for each in self.getvalue().splitlines()]


@pytest.fixture
def output() -> Iterator[Output]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    output = Output()
    configure_logs("debug", process="test", stream=output)
    yield output
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_line_carries_its_facts_and_context(output: Output) -> None:
    with bound_contextvars(trace_id="t1", workspace_id=7, queue="resolve", job_id=42):
        structlog.get_logger("ingest.pipeline").info("batch.resolved", stored=3, lock_wait_seconds=0.25, durable=True)
    line = output.lines[0]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "batch.resolved",
        "level": "info",
        "logger": "ingest.pipeline",
        "process": "test",
        "trace_id": "t1",
        "workspace_id": 7,
        "queue": "resolve",
        "job_id": 42,
        "stored": 3,
        "lock_wait_seconds": 0.25,
        "durable": True,
    }


@pytest.mark.parametrize("canary", CANARIES)
def test_unknown_keys_lose_their_values(output: Output, canary: str) -> None:
    structlog.get_logger().info(
        "message.stored", sender=canary, body=canary.encode(), tags=[canary], count={"n": canary}
    )
    line = output.lines[0]
    assert canary not in output.getvalue()
    assert line["sender"] == f"<str of {len(canary)}>"
    assert line["body"] == f"<bytes of {len(canary)}>"
    assert line["tags"] == "<list of 1>"
    assert line["count"] == "<dict of 1>"


def test_phone_as_a_number_is_no_measure(output: Output) -> None:
    structlog.get_logger().info("message.stored", phone=60123456789, took_seconds="60123456789", stored="60123456789")
    assert "60123456789" not in output.getvalue()


@pytest.mark.parametrize("canary", CANARIES)
def test_text_written_into_an_event_name_is_replaced(output: Output, canary: str) -> None:
    structlog.get_logger().warning(f"stored {canary}")
    structlog.get_logger().warning("stored %s", canary)
    assert canary not in output.getvalue()
    assert all(line["event"].startswith("unnamed.event") for line in output.lines)


@pytest.mark.parametrize("canary", CANARIES)
def test_exceptions_show_their_places_and_no_values(output: Output, canary: str) -> None:
    def fail(secret_local: str) -> None:
        try:
            _ = {}[secret_local]
        except KeyError as inner:
            raise ValueError(f"cannot read {secret_local}") from inner

    log = structlog.get_logger()
    try:
        fail(canary)
    except ValueError:
        log.exception("batch.failed")
        logging.getLogger("other").exception("gave up")
    assert canary not in output.getvalue()
    for line in output.lines:
        told = "\n".join(line["exception"])
        assert "ValueError: <" in told
        assert "KeyError: <" in told
        assert "test_logs.py" in told
        assert " fail" in told


def test_our_own_and_the_systems_errors_keep_their_words(output: Output) -> None:
    for raised in (Permanent("no such channel"), ConnectionRefusedError(111, "Connection refused")):
        structlog.get_logger().error("job.failed", exc_info=raised)
    told = [line["exception"][0] for line in output.lines]
    assert told == ["Permanent: no such channel", "ConnectionRefusedError: Connection refused"]


def test_database_errors_are_named_by_code_and_constraint(output: Output) -> None:
    class Diagnosis:
        constraint_name = "identity_address_key"

    class UniqueViolation(Exception):
        sqlstate = "23505"
        diag = Diagnosis()

    structlog.get_logger().error("batch.failed", exc_info=UniqueViolation("Key (address)=(+60123456789) exists"))
    assert output.lines[0]["exception"] == [
        "test_database_errors_are_named_by_code_and_constraint.<locals>.UniqueViolation: "
        "sqlstate 23505, constraint identity_address_key"
    ]


@pytest.mark.parametrize("canary", CANARIES)
def test_other_libraries_lose_the_strings_they_print(output: Output, canary: str) -> None:
    log = logging.getLogger("celery.worker.consumer")
    log.critical("Can't decode message body: %r [type:%r]\n\n%s", ValueError(canary), "json", canary)
    log.error("body was '%s'", {"text": canary})
    log.error(f"Task exception was never retrieved\n{canary}")
    assert canary not in output.getvalue()


@pytest.mark.parametrize("canary", CANARIES[:3])
def test_other_libraries_lose_what_looks_personal_in_finished_text(output: Output, canary: str) -> None:
    logging.getLogger("kombu").error("dropped " + canary)
    assert canary not in output.getvalue()
    assert output.lines[0]["event"] == "dropped <hidden>"


@pytest.mark.parametrize("canary", CANARIES)
def test_a_servers_traceback_is_cut_off(output: Output, canary: str) -> None:
    logging.getLogger("_granian").error(f"Application callable raised an exception\nTraceback:\nValueError: {canary}")
    assert canary not in output.getvalue()
    assert output.lines[0]["event"] == "Application callable raised an exception"


@pytest.mark.parametrize("canary", CANARIES)
def test_what_nobody_caught_is_told_without_its_text(canary: str) -> None:
    # In a process of its own: the hooks are the interpreter's.
    script = (
        "import threading\nfrom ingest.logs import configure_logs, log_uncaught\nconfigure_logs()\nlog_uncaught()\n"
        f"def fail(): raise ValueError({canary!r})\n"
        "thread = threading.Thread(target=fail, name='bell')\nthread.start()\nthread.join()\nfail()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert canary not in done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["event"], line["name"]) for line in told] == [("process.failed", "bell"), ("process.failed", "main")]


def test_celery_tasks_keep_name_id_and_runtime_only(output: Output) -> None:
    facts = {"name": "resolve", "id": "5d7f", "runtime": 0.25, "args": "('+60123456789',)", "return_value": "aisyah"}
    logging.getLogger("celery.app.trace").info(
        "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s", facts
    )
    assert output.lines[0]["event"] == "Task resolve[5d7f] succeeded in 0.25s: <str of 6>"


def test_bells_are_silent_unless_debugging(output: Output) -> None:
    for level in ("info", "debug"):
        configure_logs(level, stream=output)
        logging.getLogger("celery.worker.strategy").info("Task %s received", "x")
    assert len(output.lines) == 1


def test_level_is_kept(output: Output) -> None:
    configure_logs("warning", stream=output)
    structlog.get_logger().info("batch.resolved")
    logging.getLogger("kombu").info("connected")
    assert output.lines == []


def test_console_style_holds_the_same_promise(output: Output) -> None:
    configure_logs("info", "console", stream=output)
    structlog.get_logger().info("message.stored", sender=CANARIES[0], stored=3)
    assert CANARIES[0] not in output.getvalue()
    assert "message.stored" in output.getvalue()
    assert "3" in output.getvalue()
