"""How many calls a second the workspace's programs may make: to look at, and for an owner to change."""

from pydantic import Field

from ingest.domain.access import DEFAULT_REQUESTS_PER_SECOND, MAX_REQUESTS_PER_SECOND
from ingest.store.call_rates import get_call_rate, set_call_rate
from ingest.web.api.access import Call
from ingest.web.api.requests import RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import Shape

router = make_router("Administration")


class CallRate(RequestShape):
    """The rate to set."""

    requests_per_second: int | None = Field(
        ge=1,
        le=MAX_REQUESTS_PER_SECOND,
        description=f"Calls a second of one endpoint; null goes back to {DEFAULT_REQUESTS_PER_SECOND}.",
    )


class CallRateShape(Shape):
    """How many calls a second of one endpoint the workspace may make."""

    requests_per_second: int


@endpoint(router, "GET", "/space/rate_limit", "workspace.read", own=True)
def get_rate_limit(call: Call) -> CallRateShape:
    """Return how many calls a second of one endpoint the workspace may make."""
    return CallRateShape(requests_per_second=get_call_rate(call.tx, call.workspace_id))


@endpoint(router, "PUT", "/space/rate_limit", "workspace.limits", own=True)
def set_rate_limit(call: Call, body: CallRate) -> CallRateShape:
    """Set how many calls a second of one endpoint the workspace may make; it counts within a second. Owners only."""
    set_call_rate(call.tx, call.workspace_id, body.requests_per_second)
    call.audit("workspace.limits", requests_per_second=body.requests_per_second)
    return get_rate_limit(call)
