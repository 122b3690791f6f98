"""The API as one FastAPI application, answering alike under each of its roots."""

import asyncio

import msgspec
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.domain.access import DEFAULT_REQUESTS_PER_SECOND
from ingest.runtime import Runtime
from ingest.web.api import (
    administration,
    blocks,
    call_rates,
    contact_lists,
    contact_marks,
    contact_reading,
    contact_writing,
    conversations,
    deletions,
    merge_rules,
    merges,
    segments,
    subscriptions,
    suggestions,
    transfers,
    usage,
    workflows,
    workspace,
)
from ingest.web.api.access import Gate
from ingest.web.api.errors import error_response, install_error_handlers
from ingest.web.api.limits import RateHeaders

# The first is what the document describes; clients with a fixed path use the other.
ROOTS = ("/api/v2", "/v2")
TRIGGER_ROOT = "/integration/n8n-api"
MAX_BODY_BYTES = 1024 * 1024
# The largest upload, an import, checks its own size.
MAX_UPLOAD_BYTES = 21 * 1024 * 1024
BODY_SECONDS = 10.0
UPLOAD_SECONDS = 120.0

# Paths with a fixed second part come first: a contact's identifier would match them too.
ROUTERS = (
    transfers.router,
    usage.router,
    segments.router,
    suggestions.router,
    workspace.router,
    administration.router,
    call_rates.router,
    contact_lists.router,
    contact_marks.bulk_router,
    merge_rules.router,
    merges.router,
    blocks.bulk_router,
    blocks.router,
    deletions.router,
    workflows.router,
    contact_reading.router,
    contact_writing.router,
    contact_marks.router,
    conversations.router,
)

API_VERSION = "2.0"
DESCRIPTION = """
Contacts, conversations and messages of a workspace. The calls that respond.io's developer API has are answered as it does;
ours come beside. Errors always have the shape `ErrorBody`.
"""


class BodyLimit:
    """Answers 413 to a body that is longer than its path may have, before it is read whole, and 408 to one that is slow."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"].endswith("/import")
        limit = MAX_UPLOAD_BYTES if is_upload else MAX_BODY_BYTES
        due_at = asyncio.get_running_loop().time() + (UPLOAD_SECONDS if is_upload else BODY_SECONDS)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        received, is_whole = 0, False

        async def receive_within() -> Message:
            nonlocal received, is_whole
            try:
                # What comes after the body is the client hanging up, for which there is no time.
                async with asyncio.timeout_at(None if is_whole else due_at):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body took too long") from None
            is_whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, f"at most {limit} bytes")
            return message

        await self._app(scope, receive_within, send)


def _too_large(limit: int) -> JSONResponse:
    return error_response(413, f"at most {limit} bytes", "too_large")


class TrailingSlash:
    """Takes a slash off the end of a path, since clients join URLs by hand."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)


def build_api(runtime: Runtime) -> FastAPI:
    """Return the API of this runtime; nothing is connected until the first request."""
    app = FastAPI(
        title="ingest",
        version=API_VERSION,
        description=DESCRIPTION,
        openapi_url="/api/v2/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(RateHeaders, default=DEFAULT_REQUESTS_PER_SECOND),
            Middleware(TrailingSlash),
            Middleware(BodyLimit),
        ],
    )
    app.state.gate = Gate(runtime)
    for root in ROOTS:
        for router in ROUTERS:
            app.include_router(router, prefix=root, include_in_schema=root == ROOTS[0])
    app.include_router(subscriptions.router, prefix=TRIGGER_ROOT)
    install_error_handlers(app)
    return app


def openapi_document(runtime: Runtime) -> bytes:
    """Return the OpenAPI document as JSON."""
    return msgspec.json.format(msgspec.json.encode(build_api(runtime).openapi()))
