"""Rate limits: a token bucket for each workspace and endpoint, in this process, and the headers that tell of it."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BUCKETS = 50_000
STATE_KEY = "rate"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a bucket says to one call: how many it holds when full, what is left, and how long to wait if it is empty."""

    limit: int
    remaining: int
    wait_seconds: int
    is_exceeded: bool


class Buckets:
    """Token buckets by key; each fills at `rate` a second up to the same number. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        # key -> (tokens, filled at). The keys used longest ago go first.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, rate: int) -> Allowance:
        """Take one token and say what is left. An exceeded bucket is not emptied further."""
        now = self._clock()
        with self._lock:
            tokens, filled_at = self._buckets.pop(key, (float(rate), now))
            tokens = min(float(rate), tokens + (now - filled_at) * rate)
            is_exceeded = tokens < 1
            left = tokens if is_exceeded else tokens - 1
            self._buckets[key] = (left, now)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        return Allowance(rate, int(left), max(1, math.ceil((1 - left) / rate)), is_exceeded)


class RateHeaders:
    """Puts `X-RateLimit-Limit` and `X-RateLimit-Remaining` on every answer of the application within.

    The call's allowance comes from the request's state; a call that met no bucket (an unknown path) has the default.
    """

    def __init__(self, app: ASGIApp, default: int) -> None:
        self._app = app
        self._default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope["state"] = dict(scope.get("state") or {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                told: Allowance = state.get(STATE_KEY) or Allowance(self._default, self._default, 1, False)
                headers = MutableHeaders(scope=message)
                headers["X-RateLimit-Limit"] = str(told.limit)
                headers["X-RateLimit-Remaining"] = str(told.remaining)
            await send(message)

        await self._app(scope, receive, send_with_headers)
