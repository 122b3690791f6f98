"""Whoever can write to the broker can ring, and nothing else: JSON only, no objects, no remote control."""

import ast
import pickle
from pathlib import Path

import pytest
from celery import Celery
from kombu.exceptions import ContentDisallowed
from kombu.serialization import dumps, loads, registry
from kombu.utils import json as kombu_json

from ingest.errors import BadSetting
from ingest.jobs.celery import PINNED, make_celery, require_pinned
from tests.contracts.test_no_calls_under_locks import imported

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])
# They make objects, or run code, out of bytes.
UNSAFE_READERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "yaml", "jsonpickle", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


@pytest.fixture
def app() -> Celery:
    return make_celery("redis://localhost:1", "test", "publisher")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_reads_objects_out_of_bytes_or_runs_text(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imported(path)} & UNSAFE_READERS
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in UNSAFE_CALLS]


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/x-yaml", "application/x-msgpack"]
)
def test_a_message_that_is_not_json_is_refused_before_it_is_read(app: Celery, content_type: str) -> None:
    body = pickle.dumps({"task": "ingest.drain.resolve"})
    with pytest.raises(ContentDisallowed):
        loads(body, content_type, "binary", accept=app.conf.accept_content)
    # Also for whoever forgets to say what is accepted.
    with pytest.raises(ContentDisallowed):
        loads(body, content_type, "binary")


def test_only_json_can_be_read_at_all(app: Celery) -> None:
    assert app.conf.accept_content == ["json"]
    assert set(registry._decoders) - registry._disabled_content_types == {"application/json"}
    content_type, encoding, body = dumps({"number": 1}, "json")
    assert loads(body, content_type, encoding, accept={"application/json"}) == {"number": 1}


def test_json_makes_no_other_objects_than_dates_numbers_and_bytes() -> None:
    assert set(kombu_json._decoders) == {"bytes", "base64", "datetime", "date", "time", "decimal", "uuid"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accept_content", ["json", "pickle"]),
        ("task_serializer", "pickle"),
        ("worker_enable_remote_control", True),
        ("worker_prefetch_multiplier", 4),
        ("task_acks_late", False),
        ("task_create_missing_queues", True),
        ("worker_hijack_root_logger", True),
    ],
)
def test_a_process_does_not_start_with_a_setting_that_was_changed(app: Celery, name: str, value: object) -> None:
    require_pinned(app)
    app.conf[name] = value
    with pytest.raises(BadSetting, match=name):
        require_pinned(app)


def test_remote_control_is_off_and_bells_carry_nothing(app: Celery) -> None:
    assert PINNED["worker_enable_remote_control"] is False
    assert (app.conf.task_send_sent_event, app.conf.worker_send_task_events) == (False, False)
    assert app.conf.result_backend is None


@pytest.mark.parametrize(("role", "seconds"), [("publisher", 1), ("worker", 5)])
def test_bells_to_rabbitmq_are_confirmed_in_time_and_a_connection_that_broke_is_replaced(
    role: str, seconds: int
) -> None:
    app = make_celery("amqp://localhost:1", "test", role)
    options = app.connection_for_write().transport_options
    assert (options["confirm_publish"], options["read_timeout"]) == (True, seconds)
    assert (app.conf.task_publish_retry, app.conf.task_publish_retry_policy["max_retries"]) == (True, 1)
    assert app.conf.broker_heartbeat > 0
