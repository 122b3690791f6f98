"""How much of a claim backlogs may take while others have messages to store: as little as lets the backlogs shrink.

Whoever writes now waits for the end of the claim under way, so a claim full of somebody's backlog is somebody else's
delay. The room begins small. A backlog that would take longer than a minute at the pace at which it shrinks gets twice
the room; once that is a whole batch, nobody gives way any more: there is more to do than the workers can, and large
claims are the cheapest. With nobody else about for a second, backlogs get everything.
"""

from dataclasses import dataclass

LEAST = 10
DRAIN_SECONDS = 60.0
LOOK_SECONDS = 0.25
# How long others count as being about after a claim that held something of theirs.
CROWDED_SECONDS = 1.0


@dataclass(slots=True)
class Room:
    """The room of one worker's claims of a queue. Times are monotonic seconds; `most` is a whole batch."""

    most: int
    size: int = LEAST
    _crowded_until: float = 0.0
    _looked_at: float = 0.0
    _waiting: int | None = None

    @property
    def limit(self) -> int | None:
        """What backlogs get beside others; None once they no longer give way."""
        return self.size if self.size < self.most else None

    def is_crowded(self, now: float) -> bool:
        """Return whether others are about."""
        return now < self._crowded_until

    def note(self, now: float, *, is_crowded: bool) -> None:
        """Note whether a claim held a backlog beside others."""
        if is_crowded:
            self._crowded_until = now + CROWDED_SECONDS
        elif not self.is_crowded(now) and self.size < self.most:
            self.size, self._waiting = LEAST, None

    def wants_look(self, now: float) -> bool:
        """Return whether it is time to look at how much is waiting."""
        return (self.is_crowded(now) or self.size >= self.most) and now - self._looked_at >= LOOK_SECONDS

    def look(self, now: float, waiting: int) -> None:
        """Make the room larger or smaller by what is waiting now, compared with the last look."""
        if self._waiting is not None:
            due = self._waiting * (now - self._looked_at) / DRAIN_SECONDS
            shrunk = self._waiting - waiting
            if shrunk < due and waiting > self.most:
                self.size = min(self.most, 2 * self.size)
            elif shrunk > 2 * due or waiting <= self.most:
                self.size = max(LEAST, self.size // 2)
        self._waiting, self._looked_at = waiting, now
