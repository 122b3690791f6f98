"""Blocking contacts and lifting blocks, one at a time or in bulk."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Body, Path
from pydantic import Field

from ingest.domain.blocks import BlockTerms
from ingest.pipeline.block import add_bulk_block, add_bulk_unblock, block_contacts, get_bulk_act, unblock_contacts
from ingest.store.blocks import count_evasions
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.merges import actor_of
from ingest.web.api.paging import BIGGEST
from ingest.web.api.requests import Id, RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import ContactAnswer, Shape, seconds

router = make_router("Block")
# Comes first: an identifier would match "bulk" too.
bulk_router = make_router("Block")

MAX_BULK = 100_000


class BlockBody(RequestShape):
    """Why, and until when."""

    reason: str | None = None
    until: int | None = Field(None, ge=1, lt=BIGGEST, description="Unix seconds; absent: until somebody lifts it.")

    def terms(self) -> BlockTerms:
        """Return the terms of the block."""
        return BlockTerms(self.reason, _moment(self.until) if self.until is not None else None)


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(min(at, 253_402_300_000), UTC)


@endpoint(router, "POST", "/contact/{identifier}/block", "contact.block_one", own=True)
def block_contact(
    call: Call, identifier: IdentifierPath, body: Annotated[BlockBody, Body(default_factory=BlockBody)]
) -> ContactAnswer:
    """Block the contact: its conversation is closed, its workflow runs stop, its messages are dropped."""
    contact = find_contact(call, identifier)
    result = block_contacts(call.uow, call.workspace_id, [contact.id], body.terms(), actor_of(call))
    call.audit("contact.block", contact.id, changed=bool(result.changed))
    return ContactAnswer(contact_id=contact.id)


@endpoint(router, "POST", "/contact/{identifier}/unblock", "contact.block_one", own=True)
def unblock_contact(call: Call, identifier: IdentifierPath) -> ContactAnswer:
    """Lift the block. The contact is closed, and its next message opens it; dropped messages stay dropped."""
    contact = find_contact(call, identifier)
    result = unblock_contacts(call.uow, call.workspace_id, [contact.id], actor_of(call))
    call.audit("contact.unblock", contact.id, changed=bool(result.changed))
    return ContactAnswer(contact_id=contact.id)


class BulkIds(RequestShape):
    """Which contacts."""

    contact_ids: list[Id] = Field(min_length=1, max_length=MAX_BULK)


class BulkBlock(BlockBody):
    """Which contacts, why, and until when."""

    contact_ids: list[Id] = Field(min_length=1, max_length=MAX_BULK)


class BulkActShape(Shape):
    """A bulk act and how far it has come. Times are unix seconds."""

    id: int
    kind: str
    state: str
    contact_count: int
    done_count: int
    changed_count: int
    skipped_ids: list[int] = Field(description="Not found, or already so.")
    created_at: int
    finished_at: int | None


def _read_act(act: Any) -> BulkActShape:
    return BulkActShape(
        id=act.id,
        kind=act.kind,
        state=act.state,
        contact_count=act.contact_count,
        done_count=act.done_count,
        changed_count=act.changed_count,
        skipped_ids=list(act.skipped_ids),
        created_at=seconds(act.created_at) or 0,
        finished_at=seconds(act.finished_at),
    )


@endpoint(bulk_router, "POST", "/contact/bulk/block", "contact.block", own=True, status=202)
def block_several(call: Call, body: BulkBlock) -> BulkActShape:
    """Block many contacts in the background."""
    act_id = add_bulk_block(call.uow, call.workspace_id, body.contact_ids, body.terms(), actor_of(call))
    call.audit("contact.bulk_block", bulk_act_id=act_id, contact_count=len(set(body.contact_ids)))
    return _read_act(get_bulk_act(call.uow, call.workspace_id, act_id))


@endpoint(bulk_router, "POST", "/contact/bulk/unblock", "contact.block", own=True, status=202)
def unblock_several(call: Call, body: BulkIds) -> BulkActShape:
    """Lift the blocks of many contacts in the background."""
    act_id = add_bulk_unblock(call.uow, call.workspace_id, body.contact_ids, actor_of(call))
    call.audit("contact.bulk_unblock", bulk_act_id=act_id, contact_count=len(set(body.contact_ids)))
    return _read_act(get_bulk_act(call.uow, call.workspace_id, act_id))


@endpoint(router, "GET", "/bulk/{bulk_act_id}", "contact.bulk", own=True)
def read_bulk_act(call: Call, bulk_act_id: Annotated[int, Path(ge=1, lt=BIGGEST)]) -> BulkActShape:
    """Return how far a bulk act has come."""
    return _read_act(get_bulk_act(call.uow, call.workspace_id, bulk_act_id))


class EvasionShape(Shape):
    """How many contacts came under a blocked phone or email after the block."""

    contact_count: int


@endpoint(router, "GET", "/block/evasion", "contact.block", own=True)
def count_block_evasions(call: Call) -> EvasionShape:
    """Return what `block_by_key` would have caught, to decide whether to switch it on."""
    return EvasionShape(contact_count=count_evasions(call.tx, call.workspace_id))
