"""The webhook path, as plain ASGI: find the channel, prove the request, make it durable, answer.

`/webhooks/{channel id}` is a channel's URL, `/webhooks/app/{app id}` that of an application whose payloads name the
account. `/custom/channel/webhook` and `/custom/webhook` are what existing bridges call: they name their channel in the body.
Nothing is parsed here but our own formats.
"""

import asyncio
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import structlog

from ingest import fault
from ingest.channels.base import Adapter, Answer, Webhook, decode_json
from ingest.errors import BadPayload, BadSetting, BadShape, BadSignature
from ingest.pipeline.receive import KEPT_HEADERS, Intake, Unavailable, prove
from ingest.store.channels import Endpoint
from ingest.store.intake import RawRequest
from ingest.web.asgi import (
    BODY_SECONDS,
    BodyTooLarge,
    ClientGone,
    Headers,
    NoRoom,
    Receive,
    Room,
    Scope,
    Send,
    json_answer,
    read_body,
    send_answer,
)
from ingest.web.endpoints import Endpoints
from ingest.web.metrics import EDGE, count_edge

log = structlog.get_logger()

PATH = re.compile(r"^/webhooks/(?:(app)/)?(\d{1,18})(?:/.*)?$")

BRIDGE_PATHS = {"/custom/channel/webhook", "/custom/webhook"}
BRIDGE_BODY_BYTES = 1024 * 1024
# Proving a body of 30 MiB may take seconds, for which nobody else shall wait; a small one is sooner proved than passed on.
LARGE_BODY_BYTES = 256 * 1024
# What all large bodies of a process may take together, proved or not.
LARGE_BODIES_BYTES = 128 * 1024 * 1024

UNKNOWN = json_answer(404, "unknown_channel", "no such channel")
NO_CHANNEL_ID = json_answer(400, "bad_shape", "channelId: must be there, as text")
TOO_LARGE = json_answer(413, "too_large", "the body is larger than this channel takes")
TOO_SLOW = json_answer(408, "too_slow", "the body took longer than ten seconds")
NOT_ALLOWED = json_answer(405, "method_not_allowed", "this channel is called with POST")
UNAVAILABLE = json_answer(503, "unavailable", "cannot be stored right now, please repeat")
RETRY_AFTER = (b"retry-after", b"5")
KEPT = frozenset(name.encode() for name in KEPT_HEADERS)


class Webhooks:
    """Answers webhook calls. `public_url` is how providers see us: signatures over URLs are checked with it.

    A request's body may take `body_seconds` to arrive.
    """

    def __init__(
        self, intake: Intake, endpoints: Endpoints, public_url: str, body_seconds: float = BODY_SECONDS
    ) -> None:
        self._intake = intake
        self._endpoints = endpoints
        self._public_url = public_url
        self._body_seconds = body_seconds
        self._room = Room(LARGE_BODIES_BYTES, LARGE_BODY_BYTES)
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large-body")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        started = time.perf_counter()
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            count_edge("gone")
            return
        except Unavailable:
            count_edge("unavailable")
            await send_answer(send, UNAVAILABLE, RETRY_AFTER)
            return
        EDGE.observe(time.perf_counter() - started)
        await send_answer(send, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        headers = Headers(scope["headers"])
        try:
            if scope["path"].rstrip("/") in BRIDGE_PATHS:
                return await self._answer_bridge(scope, receive, headers)
            found = PATH.match(scope["path"])
            known = await self._endpoints.get("app" if found[1] else "channel", found[2]) if found else ()
            if not known:
                count_edge("unknown")
                return UNKNOWN
            endpoint, adapter = known[0]
            with self._room.share() as share:
                body = await read_body(receive, headers, adapter.max_body, self._body_seconds, share)
                fault.point("received")
                return await self._take(endpoint, adapter, self._hook(scope, headers, body, endpoint), headers)
        except BodyTooLarge:
            count_edge("too_large")
            return TOO_LARGE
        except TimeoutError:
            count_edge("too_slow")
            return TOO_SLOW
        except NoRoom:
            raise Unavailable("too many large bodies") from None

    async def _answer_bridge(self, scope: Scope, receive: Receive, headers: Headers) -> Answer:
        """Answer a bridge: the channel is the one of that name whose token the request carries."""
        body = await read_body(receive, headers, BRIDGE_BODY_BYTES, self._body_seconds)
        try:
            name = decode_json(body)["channelId"]
        except (BadPayload, KeyError, TypeError):
            count_edge("malformed")
            return NO_CHANNEL_ID
        known = await self._endpoints.get("custom", str(name)) if isinstance(name, str | int) else ()
        answer = UNKNOWN
        for endpoint, adapter in known:
            hook = self._hook(scope, headers, body, endpoint)
            try:
                adapter.verify(hook)
            except (BadSignature, BadSetting):
                answer = adapter.refusal
                continue
            return await self._take(endpoint, adapter, hook, headers)
        count_edge("unproved" if known else "unknown")
        return answer

    def _hook(self, scope: Scope, headers: Headers, body: bytes, endpoint: Endpoint) -> Webhook:
        url = self._called_url(scope)
        received_at = datetime.now(UTC)
        return Webhook(scope["method"], url, headers, body, endpoint.settings, endpoint.secrets, received_at)

    def _called_url(self, scope: Scope) -> str:
        # From configuration, never from Host or X-Forwarded-*: those are the caller's words.
        raw_path = scope.get("raw_path") or scope["path"].encode()
        query = scope.get("query_string", b"")
        path = raw_path.split(b"?", 1)[0].decode("latin-1")
        return f"{self._public_url}{path}{'?' if query else ''}{query.decode('latin-1')}"

    async def _take(self, endpoint: Endpoint, adapter: Adapter, hook: Webhook, headers: Headers) -> Answer:
        try:
            greeting = adapter.handshake(hook) if adapter.handshake is not None else None
            if greeting is not None:
                count_edge("handshake")
                return greeting
            if hook.method not in {"POST", "GET"} or (hook.method == "GET" and not hook.query):
                count_edge("method")
                return NOT_ALLOWED
            if len(hook.body) <= LARGE_BODY_BYTES:
                prove(adapter, hook)
            else:
                await asyncio.get_running_loop().run_in_executor(self._large, prove, adapter, hook)
        except (BadSignature, BadSetting, BadPayload) as unproved:
            # What cannot even be read far enough to be proved is unproved: same path, same answer.
            count_edge("unproved")
            log.info("webhook.refused", channel_id=endpoint.channel_id, reason=type(unproved).__name__)
            return adapter.refusal
        except BadShape as broken:
            count_edge("malformed")
            return json_answer(400, "bad_shape", str(broken).replace("\\", "").replace('"', "'"))
        fault.point("proved")
        await self._intake.accept(make_durable_form(endpoint, hook, headers))
        fault.point("durable")
        count_edge("accepted")
        return adapter.answer(hook) if callable(adapter.answer) else adapter.answer


def make_durable_form(endpoint: Endpoint, hook: Webhook, headers: Headers) -> RawRequest:
    """Return the proved request as it is kept, without credentials, under a new trace id."""
    return RawRequest(
        endpoint.workspace_id,
        endpoint.channel_id,
        endpoint.app_id,
        hook.received_at,
        os.urandom(16),
        hook.method,
        hook.url,
        headers.pick(KEPT),
        hook.body,
    )


def channel_path(channel_id: int) -> str:
    """Return the path of a channel's webhook URL."""
    return f"/webhooks/{channel_id}"
