"""Monthly active contacts: how many count, why one does, and where the running cycle is heading."""

from pydantic import Field

from ingest.domain.billing import cycle_start
from ingest.domain.forecast import forecast
from ingest.store.usage import CycleCount, count_cycle, get_billing, list_cycles, list_reasons
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import Shape, seconds

router = make_router("Usage")

MAX_CYCLES = 24


class CycleShape(Shape):
    """What one billing cycle counted."""

    cycle_start: str = Field(description="YYYY-MM-DD, in the workspace's time zone.")
    counted: int
    distinct_after_merges: int = Field(description="For information: contacts merged since counted once.")
    by_reason: dict[str, int] = Field(description="incoming, outgoing, dropped: the first message of each.")


class UsageShape(Shape):
    """Monthly active contacts."""

    current: CycleShape
    cycle_end: str
    expected: int = Field(description="By the end of the cycle, if it goes on so.")
    limit: int | None
    warning: int | None = Field(description="80 or 95, when that many per cent of the limit are reached.")
    past: list[CycleShape] = Field(description="Newest first.")


def _read(found: CycleCount) -> CycleShape:
    return CycleShape(
        cycle_start=found.cycle_start.isoformat(),
        counted=found.counted,
        distinct_after_merges=found.distinct_after_merges,
        by_reason=found.by_reason,
    )


@endpoint(router, "GET", "/usage/active_contacts", "usage.read", own=True)
def get_active_contacts(call: Call) -> UsageShape:
    """Return how many contacts sent or received a message in the running billing cycle, and in those before."""
    time_zone, cycle_day, limit = get_billing(call.tx, call.workspace_id)
    start = cycle_start(call.now, time_zone, cycle_day)
    current = count_cycle(call.tx, call.workspace_id, start)
    heading = forecast(start, current.counted, call.now, time_zone, limit)
    past = [each for each in list_cycles(call.tx, call.workspace_id, MAX_CYCLES) if each != start]
    return UsageShape(
        current=_read(current),
        cycle_end=heading.cycle_end.isoformat(),
        expected=heading.expected,
        limit=limit,
        warning=heading.warning,
        past=[_read(count_cycle(call.tx, call.workspace_id, each)) for each in past],
    )


class ReasonShape(Shape):
    """Why a contact counted in a cycle."""

    cycle_start: str
    reason: str
    channel_id: int | None
    at: int


@endpoint(router, "GET", "/contact/{identifier}/active_cycles", "contact.read", own=True)
def list_active_cycles_of_contact(call: Call, identifier: IdentifierPath) -> list[ReasonShape]:
    """Return the billing cycles in which the contact counted, newest first, and the first message that made it."""
    contact = find_contact(call, identifier)
    return [
        ReasonShape(
            cycle_start=each.cycle_start.isoformat(),
            reason=each.reason,
            channel_id=each.channel_id,
            at=seconds(each.at) or 0,
        )
        for each in list_reasons(call.tx, call.workspace_id, contact.id, MAX_CYCLES)
    ]
