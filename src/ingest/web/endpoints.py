"""The web process's memory of channels and apps: a webhook call costs no query.

An entry is fresh for five seconds; after that it is used once more while a newer one is fetched, and as long as the
database is away. What is unknown is asked for again after a second.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ingest.channels.base import Adapter
from ingest.channels.registry import get_adapter
from ingest.errors import BadSetting
from ingest.pipeline.receive import Unavailable
from ingest.store.channels import Endpoint

log = structlog.get_logger()

FRESH_SECONDS = 5.0
UNKNOWN_SECONDS = 1.0
MAX_ENTRIES = 50_000

Known = tuple[Endpoint, Adapter]
Find = Callable[[str, int], Endpoint | None]


class Endpoints:
    """Channels and apps by kind ("channel" or "app") and id. Lives in one event loop; `find` runs in a thread."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._entries: OrderedDict[tuple[str, int], tuple[float, Known | None]] = OrderedDict()
        self._fetching: dict[tuple[str, int], asyncio.Task[Known | None]] = {}

    async def get(self, kind: str, number: int) -> Known | None:
        """Return the endpoint and its adapter, or None. Raises Unavailable when nobody can tell."""
        key = (kind, number)
        entry = self._entries.get(key)
        if entry is not None:
            fresh_until, known = entry
            if time.monotonic() < fresh_until:
                return known
            if known is not None:
                self._fetch(key)
                return known
        return await asyncio.shield(self._fetch(key))

    def _fetch(self, key: tuple[str, int]) -> asyncio.Task[Known | None]:
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = asyncio.create_task(self._load(key))
            task.add_done_callback(lambda done: self._forget(key, done))
        return task

    def _forget(self, key: tuple[str, int], done: asyncio.Task[Known | None]) -> None:
        self._fetching.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def _load(self, key: tuple[str, int]) -> Known | None:
        try:
            endpoint = await asyncio.to_thread(self._find, *key)
            known = None if endpoint is None else (endpoint, get_adapter(endpoint.code))
        except (SQLAlchemyError, OSError) as away:
            raise Unavailable("channels cannot be looked up") from away
        except BadSetting as unusable:
            log.warning("channel.refused", kind=key[0], channel_id=key[1], reason=str(unusable))
            raise Unavailable("channel is unusable") from unusable
        self._entries[key] = (time.monotonic() + (FRESH_SECONDS if known else UNKNOWN_SECONDS), known)
        self._entries.move_to_end(key)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return known
