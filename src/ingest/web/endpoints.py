"""The web process's memory of channels and apps: a webhook call costs no query.

An entry is fresh for five seconds; after that it is used once more while a newer one is fetched, and as long as the
database is away. What is unknown is asked for again after a second.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

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
# A database that hangs answers nobody: what is not known by then is refused, and sent again.
FIND_SECONDS = 3.0
FINDERS = 4
MAX_ENTRIES = 50_000

Known = tuple[Endpoint, Adapter]
Key = tuple[str, str]
"""A kind, "channel", "app" or "custom", and the id or name that a request calls it by."""
Find = Callable[[str, str], Sequence[Endpoint]]


class Endpoints:
    """Channels and apps by what requests call them. Lives in one event loop; `find` runs in a thread."""

    def __init__(self, find: Find) -> None:
        self._find = find
        # Threads of its own, few: those that wait for a database that hangs must not be missing elsewhere.
        self._finders = ThreadPoolExecutor(FINDERS, thread_name_prefix="endpoints")
        self._entries: OrderedDict[Key, tuple[float, tuple[Known, ...]]] = OrderedDict()
        self._fetching: dict[Key, asyncio.Task[tuple[Known, ...]]] = {}

    async def get(self, kind: str, name: str) -> tuple[Known, ...]:
        """Return the endpoints of that name with their adapters: one or none for an id, several where tenants share a name.

        Raises Unavailable when nobody can tell.
        """
        key = (kind, name)
        entry = self._entries.get(key)
        if entry is not None:
            fresh_until, known = entry
            if time.monotonic() < fresh_until:
                return known
            if known:
                self._fetch(key)
                return known
        return await asyncio.shield(self._fetch(key))

    def _fetch(self, key: Key) -> asyncio.Task[tuple[Known, ...]]:
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = asyncio.create_task(self._load(key))
            task.add_done_callback(lambda done: self._forget(key, done))
        return task

    def _forget(self, key: Key, done: asyncio.Task[tuple[Known, ...]]) -> None:
        self._fetching.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def _load(self, key: Key) -> tuple[Known, ...]:
        try:
            async with asyncio.timeout(FIND_SECONDS):
                found = await asyncio.get_running_loop().run_in_executor(self._finders, self._find, *key)
            known = tuple((endpoint, get_adapter(endpoint.code)) for endpoint in found)
        except (SQLAlchemyError, OSError) as away:
            raise Unavailable("channels cannot be looked up") from away
        except BadSetting as unusable:
            log.warning("channel.refused", kind=key[0], reason=str(unusable))
            raise Unavailable("channel is unusable") from unusable
        self._entries[key] = (time.monotonic() + (FRESH_SECONDS if known else UNKNOWN_SECONDS), known)
        self._entries.move_to_end(key)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return known
