"""The ASGI application of a web process: the raw webhook path beside the API and the operators' pages."""

from collections.abc import Awaitable, Callable

import structlog

from ingest.pipeline.receive import Intake
from ingest.runtime import Runtime
from ingest.store.channels import Endpoint, find_app_endpoint, find_channel_endpoint, list_bridge_endpoints
from ingest.web.api.app import build_api
from ingest.web.asgi import Receive, Scope, Send
from ingest.web.endpoints import Endpoints
from ingest.web.metrics import observe_group
from ingest.web.operations import build_operations
from ingest.web.webhooks import Webhooks

log = structlog.get_logger()

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
OPERATIONS = {"/metrics", "/healthz", "/readyz"}
WEBHOOK_PREFIXES = ("/webhooks/", "/custom/")


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
        elif scope["path"].startswith(WEBHOOK_PREFIXES):
            await self._webhooks(scope, receive, send)
        elif scope["path"] in OPERATIONS:
            await self._operations(scope, receive, send)
        else:
            await self._api(scope, receive, send)

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
