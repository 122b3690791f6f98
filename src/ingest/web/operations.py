"""What operators and their machines read: /metrics, /healthz, /readyz, and what there is at all: /."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from ingest.channels.base import Answer
from ingest.pipeline.receive import Intake
from ingest.runtime import Runtime
from ingest.store.views.queues import conservation, queue_figures
from ingest.web.asgi import Receive, Scope, Send, send_answer

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
READY_SECONDS = 3.0


class DatabaseCollector(Collector):
    """Gauges that are true for the whole system, read from the database when scraped."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """Yield the queues' gauges and the account of what was accepted; nothing while the database is away."""
        up = GaugeMetricFamily("ingest_database_up", "Whether the database answers")
        try:
            with self._runtime.begin() as tx:
                figures = queue_figures(tx)
                account = conservation(tx)
        except SQLAlchemyError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        for field in ("waiting", "waiting_items", "oldest_age_seconds", "leased", "scheduled", "retried", "dead"):
            gauge = GaugeMetricFamily(f"ingest_queue_{field}", f"Jobs: {field.replace('_', ' ')}", labels=["queue"])
            for each in figures:
                gauge.add_metric([each.queue], getattr(each, field))
            yield gauge
        items = GaugeMetricFamily("ingest_account_items", "What became of items", labels=["outcome", "reason"])
        for outcome, reasons in account.items.items():
            for reason, count in reasons.items():
                items.add_metric([outcome, reason], count)
        yield items
        requests = GaugeMetricFamily(
            "ingest_account_requests", "Requests: accepted = resolved + waiting", labels=["state"]
        )
        for state in ("accepted", "resolved", "waiting"):
            requests.add_metric([state], getattr(account, state))
        yield requests


class SpoolCollector(Collector):
    """The bytes that wait in the local spool."""

    def __init__(self, runtime: Runtime) -> None:
        self._spool = runtime.spool()

    def collect(self) -> Iterator[Metric]:
        """Yield the spool's size."""
        yield GaugeMetricFamily(
            "ingest_spool_bytes", "Bytes waiting in the local spool", value=self._spool.size_bytes()
        )


WELCOME = Answer(
    200,
    b"Ingest takes in customer messages.\n\nWebhooks     /webhooks/{channel}\nAPI          /api/v2, described in "
    b"/api/v2/openapi.json\nOperators    /readyz, /healthz, /metrics\n",
    "text/plain; charset=utf-8",
)


def build_operations(runtime: Runtime, intake: Intake) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI application of the four paths."""
    registry = _registry(runtime)

    async def operations(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/metrics":
            body = await asyncio.to_thread(generate_latest, registry)
            await send_answer(send, Answer(200, body, METRICS_TYPE))
        elif scope["path"] == "/healthz":
            await send_answer(send, Answer(200, b'{"status":"alive"}', "application/json"))
        elif scope["path"] == "/":
            await send_answer(send, WELCOME)
        else:
            await send_answer(send, await _readiness(runtime, intake))

    return operations


def _registry(runtime: Runtime) -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry = REGISTRY
    # Unregistered ones of an earlier application in the same process would be doubled.
    fresh = CollectorRegistry()
    fresh.register(DatabaseCollector(runtime))
    fresh.register(SpoolCollector(runtime))
    fresh.register(_Also(registry))
    return fresh


class _Also(Collector):
    """Another registry's metrics, as part of this one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()


async def _readiness(runtime: Runtime, intake: Intake) -> Answer:
    """Ready means: a webhook call would be made durable. With the database away that is still so, in the spool."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.to_thread(_touch_database, runtime)
        state = "database"
    except (SQLAlchemyError, TimeoutError, OSError):
        state = "spool"
    ready = state == "database" or intake.can_spool()
    body = f'{{"ready":{str(ready).lower()},"durable_in":"{state}"}}'.encode()
    return Answer(200 if ready else 503, body, "application/json")


def _touch_database(runtime: Runtime) -> None:
    with runtime.begin() as tx:
        tx.exec_driver_sql("select 1")
