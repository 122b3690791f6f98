"""The ASGI application of a web process: the raw webhook path beside the API and the operators' pages."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from ingest.pipeline.receive import Intake
from ingest.runtime import Runtime
from ingest.store.channels import Endpoint, find_app_endpoint, find_channel_endpoint, list_bridge_endpoints
from ingest.web.api.app import build_api
from ingest.web.asgi import Receive, Scope, Send, json_answer, send_answer
from ingest.web.endpoints import Endpoints
from ingest.web.metrics import observe_group
from ingest.web.operations import build_operations
from ingest.web.webhooks import Webhooks

log = structlog.get_logger()

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
OPERATIONS = {"/", "/metrics", "/healthz", "/readyz"}
WEBHOOK_PREFIXES = ("/webhooks/", "/custom/")
FAILED = json_answer(500, "internal", "internal error")


class _Answered:
    """A `send` that remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.has_begun = True
        await self._send(message)


class WebApp:
    """Dispatches by path. The webhook path is on its own: nothing of the API's middleware runs there."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._intake = Intake(runtime.conninfo, runtime.spool(), runtime.publisher, on_group=observe_group)
        self._webhooks = Webhooks(self._intake, Endpoints(self._find_endpoints), runtime.settings.public_url)
        self._operations: ASGIApp = build_operations(runtime, self._intake)
        self._api: ASGIApp = build_api(runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or start and stop with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        answered = _Answered(send)
        try:
            await self._application_for(scope["path"])(scope, receive, answered)
        except Exception as failed:
            # Left to the server, it would be printed with what it quotes. The API has told of it and answered.
            if not answered.has_begun:
                log.exception("request.failed", error=type(failed).__name__)
                await send_answer(send, FAILED)

    def _application_for(self, path: str) -> ASGIApp:
        if path.startswith(WEBHOOK_PREFIXES):
            return self._webhooks
        return self._operations if path in OPERATIONS else self._api

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._intake.start()
                log.info("web.started")
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._intake.stop()
                log.info("web.stopped")
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _find_endpoints(self, kind: str, name: str) -> list[Endpoint]:
        with self._runtime.begin() as tx:
            if kind == "custom":
                return list_bridge_endpoints(tx, self._runtime.sealer, name)
            finder = find_app_endpoint if kind == "app" else find_channel_endpoint
            found = finder(tx, self._runtime.sealer, int(name))
            return [] if found is None else [found]
