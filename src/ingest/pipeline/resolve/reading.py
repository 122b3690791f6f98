"""Reading a batch: rows into requests, requests into events, events into items that know where they belong.

A request that cannot be read becomes a dead letter with its raw bytes; an item for an account that no channel stands for,
likewise. Neither touches its neighbours.
"""

from collections.abc import Sequence
from datetime import UTC
from uuid import UUID

import structlog

from ingest.channels.base import Webhook, address_kind_of
from ingest.channels.registry import get_adapter
from ingest.domain.contact_keys import is_junk
from ingest.domain.events import InboundEvent
from ingest.errors import BadPayload
from ingest.jobs.types import ResolveRequests
from ingest.pipeline.resolve.batch import Batch, Item, Resolver
from ingest.store.channels import Endpoint, find_accounts
from ingest.store.dead_letters import NewDeadLetter
from ingest.store.intake import RawRequest, decode_requests, encode_requests
from ingest.store.tallies import Outcome
from ingest.store.unit_of_work import Transaction

log = structlog.get_logger()

NEEDS_SENDER = frozenset({"message", "echo", "opt_out", "opt_in", "identity_change", "started"})
UNREADABLE = "unreadable_item"
NEEDS_TARGET = frozenset({"edit", "delete", "reaction"})


def read_batch(tx: Transaction, resolver: Resolver, bodies: Sequence[bytes]) -> Batch:
    """Return the items of the rows' requests, unreadable ones set aside as dead letters."""
    batch = Batch()
    requests = [request for body in bodies for request in decode_requests(body)]
    batch.requests = len(requests)
    endpoints = resolver.endpoints(
        tx, {(request.channel_id, request.app_id * (not request.channel_id)) for request in requests}
    )
    routed: list[tuple[RawRequest, Endpoint, InboundEvent, int]] = []
    for request in requests:
        endpoint = endpoints.get(_endpoint_key(request))
        batch.tally[Outcome(request.workspace_id, request.channel_id, "resolved")] += 1
        if endpoint is None:
            _set_aside(batch, request, "unknown_channel")
            continue
        for sequence, event in enumerate(_read_request(batch, request, endpoint)):
            routed.append((request, endpoint, event, sequence))
    channels = _route(tx, routed)
    for request, endpoint, event, sequence in routed:
        channel_id = _channel_of(endpoint, event, channels)
        if channel_id is None:
            _set_aside(batch, request, "unknown_account")
        else:
            may_claim = address_kind_of(get_adapter(endpoint.code), endpoint.settings) != "opaque"
            _add_item(batch, request, event, (channel_id, sequence, may_claim))
    return batch


def _endpoint_key(request: RawRequest) -> tuple[int, int]:
    return request.channel_id, 0 if request.channel_id else request.app_id


def _read_request(batch: Batch, request: RawRequest, endpoint: Endpoint) -> list[InboundEvent]:
    hook = Webhook(
        request.method,
        request.url,
        request.headers,
        request.body,
        endpoint.settings,
        endpoint.secrets,
        request.accepted_at,
    )
    try:
        events = get_adapter(endpoint.code).parse(hook)
    except BadPayload as broken:
        _set_aside(batch, request, f"bad_payload: {broken}")
        return []
    except Exception as unforeseen:
        # An adapter's mistake must not sink the batch; the type says enough, the text might hold somebody's data.
        log.exception("request.failed", channel_id=request.channel_id, code=endpoint.code)
        _set_aside(batch, request, f"adapter_failed: {type(unforeseen).__name__}")
        return []
    if not events:
        batch.tally[Outcome(request.workspace_id, request.channel_id, "ignored", "nothing_in_it")] += 1
    return events


def _route(
    tx: Transaction, routed: Sequence[tuple[RawRequest, Endpoint, InboundEvent, int]]
) -> dict[tuple[int, str, str], int]:
    """Return the channels of the accounts that are not the endpoint's own."""
    foreign = {
        (endpoint.workspace_id, endpoint.code, event.account)
        for _, endpoint, event, _ in routed
        if event.account and event.account != endpoint.account
    }
    return find_accounts(tx, sorted(foreign))


def _channel_of(endpoint: Endpoint, event: InboundEvent, channels: dict[tuple[int, str, str], int]) -> int | None:
    if not event.account or event.account == endpoint.account:
        return endpoint.channel_id or None
    found = channels.get((endpoint.workspace_id, endpoint.code, event.account))
    if found is None and endpoint.channel_id and (not endpoint.account or event.kind == "ignored"):
        # A channel without an account of its own takes what comes to its URL.
        return endpoint.channel_id
    return found


def _add_item(batch: Batch, request: RawRequest, event: InboundEvent, place: tuple[int, int, bool]) -> None:
    channel_id, sequence, may_claim = place
    accepted_at = request.accepted_at.astimezone(UTC)
    item = Item(
        event,
        request.workspace_id,
        channel_id,
        accepted_at,
        sequence,
        request.trace_id.hex(),
        event.sent_at or accepted_at,
        may_claim,
    )
    if event.kind == "ignored" and event.reason == UNREADABLE:
        # Its neighbours go on without it, but what it said must not be lost.
        _set_aside(batch, request, UNREADABLE)
    elif event.kind == "ignored":
        batch.count(item, "ignored", event.reason or "ignored")
    elif event.kind in NEEDS_SENDER and (event.sender is None or is_junk(event.sender.external_id)):
        _set_aside(batch, request, "junk_sender")
    elif (event.kind in NEEDS_TARGET or (event.kind == "status" and event.up_to is None)) and not event.target_id:
        batch.count(item, "ignored", "no_target")
    else:
        batch.items.append(item)


def _set_aside(batch: Batch, request: RawRequest, reason: str) -> None:
    batch.tally[Outcome(request.workspace_id, request.channel_id, "dead", reason.split(":", maxsplit=1)[0])] += 1
    trace_id = UUID(bytes=request.trace_id)
    if batch.dead and (batch.dead[-1].trace_id, batch.dead[-1].reason) == (trace_id, reason):
        # One letter holds the whole request, however many of its items are concerned.
        return
    batch.dead.append(
        NewDeadLetter(
            request.workspace_id,
            ResolveRequests.queue,
            ResolveRequests.name,
            reason,
            request.channel_id or None,
            body=encode_requests([request]),
            attempts=1,
            trace_id=trace_id,
        )
    )
