"""Segments: saved filters, evaluated on current data."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from ingest.domain.moments import read_zone
from ingest.domain.refusals import Conflict, NotFound
from ingest.domain.segments import DEFAULT_SEGMENTS, MAX_SEGMENTS, read_name
from ingest.store import segments as rows
from ingest.store.contact_lists import count_contacts, list_contact_ids
from ingest.store.segments import Segment
from ingest.web.api.access import Call
from ingest.web.api.contact_lists import FilterRequest, read_page, read_query
from ingest.web.api.paging import BIGGEST, Page, Paging, make_page
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import CodeAnswer, ContactShape, Shape, seconds

router = make_router("Segment")

SegmentId = Annotated[int, Path(ge=1, lt=BIGGEST)]


class SegmentRequest(FilterRequest):
    """A filter to save under a name."""

    name: str = Field(max_length=200)


class SegmentChange(SegmentRequest):
    """A segment's new name and filter; absent ones stay."""

    name: str | None = Field(None, max_length=200)  # type: ignore[assignment] # a change may leave it out
    filter: dict[str, Any] | None = None  # type: ignore[assignment] # a change may leave it out


class SegmentShape(Shape):
    """A saved filter."""

    id: int
    name: str
    filter: dict[str, Any]
    search: str
    timezone: str
    created_at: int = Field(alias="created_at")


def _read(segment: Segment) -> SegmentShape:
    return SegmentShape(
        id=segment.id,
        name=segment.name,
        filter=segment.filter,
        search=segment.search,
        timezone=segment.time_zone,
        created_at=seconds(segment.created_at) or 0,
    )


def _make_defaults(call: Call) -> None:
    if rows.claim_default_segments(call.tx, call.workspace_id):
        for name, given in DEFAULT_SEGMENTS.items():
            rows.add_segment(
                call.tx,
                call.workspace_id,
                name=name,
                given=given,
                search="",
                time_zone=call.principal.time_zone,
                user_id=None,
            )


def find_segment(call: Call, segment_id: int) -> Segment:
    """Return the segment. Raises NotFound."""
    segment = rows.find_segment(call.tx, call.workspace_id, segment_id)
    if segment is None:
        raise NotFound("Segment not found", word="segment_not_found", field="segmentId")
    return segment


@endpoint(router, "GET", "/segment", "segment.read", own=True)
def list_segments(call: Call, page: Paging) -> Page[SegmentShape]:
    """Return the segments of the workspace. Two come with it: new contacts, inactive contacts."""
    _make_defaults(call)
    found = rows.list_segments(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    return make_page(call, page, found, lambda row: row.id, _read)


@endpoint(router, "POST", "/segment", "segment.edit", own=True)
def create_segment(call: Call, body: SegmentRequest) -> SegmentShape:
    """Save a filter under a name that no other segment has; at most 500."""
    _make_defaults(call)
    name = read_name(body.name)
    read_query(call, body)
    if rows.count_segments(call.tx, call.workspace_id) >= MAX_SEGMENTS:
        raise Conflict(f"at most {MAX_SEGMENTS} segments", word="too_many_segments")
    segment = rows.add_segment(
        call.tx,
        call.workspace_id,
        name=name,
        given=body.filter,
        search=body.search or "",
        time_zone=str(read_zone(body.timezone or call.principal.time_zone)),
        user_id=call.principal.user_id,
    )
    if segment is None:
        raise Conflict("a segment of this name exists", word="segment_exists", field="name")
    return _read(segment)


@endpoint(router, "GET", "/segment/{segment_id}", "segment.read", own=True)
def get_segment(call: Call, segment_id: SegmentId) -> SegmentShape:
    """Return one segment."""
    return _read(find_segment(call, segment_id))


@endpoint(router, "PUT", "/segment/{segment_id}", "segment.edit", own=True)
def update_segment(call: Call, segment_id: SegmentId, body: SegmentChange) -> SegmentShape:
    """Change a segment's name or filter."""
    segment = find_segment(call, segment_id)
    changed = replace(
        segment,
        name=read_name(body.name) if body.name is not None else segment.name,
        filter=body.filter if body.filter is not None else segment.filter,
        search=body.search if body.search is not None else segment.search,
        time_zone=str(read_zone(body.timezone)) if body.timezone is not None else segment.time_zone,
    )
    read_query(call, segment_filter(changed))
    written = rows.change_segment(call.tx, call.workspace_id, changed)
    if written is None:
        raise Conflict("a segment of this name exists", word="segment_exists", field="name")
    return _read(written)


@endpoint(router, "DELETE", "/segment/{segment_id}", "segment.edit", own=True)
def delete_segment(call: Call, segment_id: SegmentId) -> CodeAnswer:
    """Remove a segment for good. Its contacts stay."""
    if not rows.remove_segment(call.tx, call.workspace_id, segment_id):
        raise NotFound("Segment not found", word="segment_not_found", field="segmentId")
    return CodeAnswer(message="Segment removed")


def segment_filter(segment: Segment) -> FilterRequest:
    """Return the segment's filter as a list's."""
    return FilterRequest(search=segment.search, timezone=segment.time_zone, filter=segment.filter)


@endpoint(router, "GET", "/segment/{segment_id}/contact/list", "segment.read", own=True)
def list_contacts_of_segment(call: Call, segment_id: SegmentId, page: Paging) -> Page[ContactShape]:
    """Return the contacts that are in the segment now, by id. Blocked contacts are in none."""
    query = read_query(call, segment_filter(find_segment(call, segment_id)))
    ids = list_contact_ids(call.tx, call.workspace_id, query, cursor=page.cursor, limit=page.limit + 1)
    return make_page(call, page, read_page(call, ids), lambda row: row.id, lambda row: row)


class SegmentCount(Shape):
    """How many contacts are in a segment now."""

    total: int


@endpoint(router, "GET", "/segment/{segment_id}/count", "segment.read", own=True)
def count_contacts_of_segment(call: Call, segment_id: SegmentId) -> SegmentCount:
    """Return how many contacts are in the segment now."""
    query = read_query(call, segment_filter(find_segment(call, segment_id)))
    return SegmentCount(total=count_contacts(call.tx, call.workspace_id, query))
