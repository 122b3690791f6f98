"""Registration of triggers by automation tools: at the root of the host, where their nodes look for it."""

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from ingest.domain.refusals import NotFound
from ingest.domain.subscriptions import is_same_url, read_event_type, read_filters, read_url
from ingest.store import subscriptions as rows
from ingest.store.subscriptions import Subscription
from ingest.web.api.access import Call
from ingest.web.api.requests import RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import CodeAnswer, Shape, seconds

router = make_router("Trigger")

HookId = Annotated[str, Path(min_length=1, max_length=100)]
KIND = "n8n"


class SubscriptionShape(Shape):
    """A registered trigger."""

    hook_id: str
    name: str
    event_type: str
    url: str
    created_at: int = Field(alias="created_at")


def _read(subscription: Subscription) -> SubscriptionShape:
    return SubscriptionShape(
        hook_id=subscription.hook_id,
        name=subscription.name,
        event_type=subscription.event_type,
        url=subscription.url,
        created_at=seconds(subscription.created_at) or 0,
    )


def _find(call: Call, hook_id: str) -> Subscription:
    found = rows.find_subscription(call.tx, call.workspace_id, hook_id)
    if found is None:
        raise NotFound("Webhook not found", word="hook_not_found", field="hookId")
    return found


@endpoint(router, "GET", "/webhook/{hook_id}", "workspace.integrate")
def get_trigger(call: Call, hook_id: HookId) -> SubscriptionShape:
    """Return the registered trigger; 404 tells the node to register."""
    return _read(_find(call, hook_id))


class NewSubscription(RequestShape):
    """A trigger to register. The same `hookId` again replaces it."""

    web_hook_name: str = Field("", max_length=255)
    type: str = Field(max_length=100)
    url: str = Field(max_length=2048)
    hook_id: str = Field(min_length=1, max_length=100)
    bundle: dict[str, Any] = Field(default_factory=dict)


@endpoint(router, "POST", "/subscribe", "workspace.integrate")
def subscribe_trigger(call: Call, body: NewSubscription) -> SubscriptionShape:
    """Register a trigger, or replace the one of the same id."""
    saved = rows.save_subscription(
        call.tx,
        call.workspace_id,
        hook_id=body.hook_id,
        name=body.web_hook_name,
        kind=KIND,
        event_type=read_event_type(body.type),
        url=read_url(body.url),
        filters=read_filters(body.bundle),
    )
    call.audit("workspace.integrate", saved.id, event_type=saved.event_type)
    return _read(saved)


@endpoint(router, "DELETE", "/unsubscribe/{hook_id}", "workspace.integrate")
def unsubscribe_trigger(
    call: Call, hook_id: HookId, hook_url: Annotated[str | None, Query(alias="hookUrl", max_length=4096)] = None
) -> CodeAnswer:
    """Remove a trigger. With `hookUrl` only if it is the registered one."""
    if not is_same_url(_find(call, hook_id).url, hook_url):
        raise NotFound("Webhook not found", word="hook_not_found", field="hookUrl")
    rows.remove_subscription(call.tx, call.workspace_id, hook_id)
    return CodeAnswer(message="Unsubscribed")
