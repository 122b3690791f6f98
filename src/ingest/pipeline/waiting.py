"""What waits at the edge for the next commit: a line a workspace, so that one tenant's burst fills no group alone.

As long as everything that waits fits into one group, it goes at once. Beyond that, workspaces take turns, request by
request. One workspace may hold at most half of the memory: when it has, it is turned away, and nobody else.
"""

import asyncio
from collections import deque

from ingest.store.intake import RawRequest

MAX_GROUP_REQUESTS = 500
MAX_GROUP_BYTES = 4 * 1024 * 1024
# A large body never joins a group: nobody small waits for it.
LARGE_BODY_BYTES = 256 * 1024
MAX_WAITING_BYTES = 64 * 1024 * 1024

Waiter = tuple[RawRequest, asyncio.Future[None]]
"""A request, and whom to tell that it is durable."""


class Waiting:
    """The lines. Lives in one event loop; nothing here waits."""

    def __init__(self) -> None:
        self._lines: dict[int, deque[Waiter]] = {}
        self._bytes: dict[int, int] = {}
        self._size = self._total_bytes = 0
        self._has_large = False

    def __len__(self) -> int:
        return self._size

    def has_room(self, workspace_id: int) -> bool:
        """Return whether a request of the workspace may join."""
        return self._total_bytes <= MAX_WAITING_BYTES and self._bytes.get(workspace_id, 0) <= MAX_WAITING_BYTES // 2

    def add(self, request: RawRequest, done: asyncio.Future[None]) -> None:
        """Put a request at the end of its workspace's line."""
        length, workspace_id = len(request.body), request.workspace_id
        self._lines.setdefault(workspace_id, deque()).append((request, done))
        self._bytes[workspace_id] = self._bytes.get(workspace_id, 0) + length
        self._size += 1
        self._total_bytes += length
        self._has_large = self._has_large or length > LARGE_BODY_BYTES

    def take_group(self) -> list[Waiter]:
        """Take what shares the next commit: of each workspace in order of arrival, none of it twice."""
        if self._size <= MAX_GROUP_REQUESTS and self._total_bytes <= MAX_GROUP_BYTES and not self._has_large:
            group = [waiter for line in self._lines.values() for waiter in line]
            self._clear()
            return group
        return self._take_in_turn()

    def _take_in_turn(self) -> list[Waiter]:
        group: list[Waiter] = []
        room = MAX_GROUP_BYTES
        turns = deque(self._lines)
        while turns and len(group) < MAX_GROUP_REQUESTS:
            workspace_id = turns.popleft()
            line = self._lines[workspace_id]
            length = len(line[0][0].body)
            if group and (length > LARGE_BODY_BYTES or length > room):
                # Its turn comes with the next group, which it then begins.
                continue
            group.append(self._pop(workspace_id))
            room -= length
            if length > LARGE_BODY_BYTES:
                break
            if line:
                turns.append(workspace_id)
        self._rotate()
        return group

    def _pop(self, workspace_id: int) -> Waiter:
        line = self._lines[workspace_id]
        waiter = line.popleft()
        length = len(waiter[0].body)
        self._bytes[workspace_id] -= length
        self._size -= 1
        self._total_bytes -= length
        if not line:
            del self._lines[workspace_id], self._bytes[workspace_id]
        return waiter

    def _rotate(self) -> None:
        """Let another workspace begin the next group."""
        if not self._size:
            self._clear()
        elif len(self._lines) > 1:
            first = next(iter(self._lines))
            self._lines[first] = self._lines.pop(first)

    def _clear(self) -> None:
        self._lines, self._bytes = {}, {}
        self._size = self._total_bytes = 0
        self._has_large = False
