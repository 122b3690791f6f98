"""A bell whose acknowledgement the network swallows does not leave its worker deaf."""

# ruff: noqa: N802 - the names carry the rows of the matrix

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection, Consumer
from kombu.message import Message

from ingest.embedded.servers import EmbeddedServers
from ingest.jobs.celery import make_celery
from ingest.jobs.queues import task_name
from tests.faults.fault_proxy import FaultProxy
from workers.bells import Bell, BellRequest


@pytest.fixture
def network() -> Iterator[FaultProxy]:
    """What stands between the worker and a broker of this test's own."""
    home = Path(tempfile.mkdtemp(prefix="ingest-deaf-"))
    servers = EmbeddedServers(home / "data")
    servers.valkey.start()
    with FaultProxy(str(servers.places.valkey_socket), "broker") as proxy:
        yield proxy
    servers.valkey.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("answer", ["acknowledge", "reject"])
def test_Q4_the_next_bell_is_heard_when_the_answer_to_the_last_one_did_not_get_through(
    network: FaultProxy, answer: str
) -> None:
    app = make_celery(f"redis://127.0.0.1:{network.port}/0", "test", "worker")
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "socket_timeout": 0.3}

    def nothing() -> None:
        """A bell that nobody answers here."""

    task = app.task(name=task_name("detect"), base=Bell)(nothing)
    received: list[Message] = []
    with app.connection_for_write() as sender, app.connection_for_read() as connection:
        for _ in range(2):
            app.send_task(task.name, queue="detect", connection=sender)
        queue = app.amqp.queues["detect"]
        consumer = Consumer(connection, [queue], on_message=received.append, prefetch_count=1)
        with consumer:
            drain(connection, received, 1)
            bell = BellRequest(
                received[0],
                app=app,
                task=task,
                on_ack=received[0].ack_log_error,
                on_reject=received[0].reject_log_error,
                connection_errors=connection.connection_errors,
            )
            network.hold()
            getattr(bell, answer)()
            assert not received[0].acknowledged
            network.heal()
            drain(connection, received, 2)
            received[1].ack()


def drain(connection: Connection, received: list[Message], count: int) -> None:
    """Wait until so many bells were heard; each look has its own limit."""
    for _ in range(30):
        if len(received) >= count:
            return
        try:
            connection.drain_events(timeout=1)
        except TimeoutError:
            continue
    raise AssertionError(f"heard {len(received)} of {count}")
