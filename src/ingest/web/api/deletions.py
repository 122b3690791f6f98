"""Deleting contacts: accepted at once, purged in the background, with progress and a certificate."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Body, Path
from pydantic import Field, model_validator

from ingest.domain.deletions import DeletionAccepted
from ingest.domain.refusals import Conflict, Invalid, NotFound
from ingest.pipeline.delete import DeletionRequest, accept_deletion, cancel_deletion
from ingest.store.contact_lists import list_contact_ids
from ingest.store.deletions import Record, find_certificate, find_deletion, list_deletions, list_failures
from ingest.store.merges import find_active_record
from ingest.web.api.access import Call
from ingest.web.api.contact_lists import FilterRequest, read_query
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.merges import actor_of
from ingest.web.api.paging import BIGGEST, Page, Paging, make_page
from ingest.web.api.requests import Id, RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import ContactAnswer, Shape, seconds

router = make_router("Deletion")

MAX_GRACE_SECONDS = 30 * 24 * 3600
DeletionId = Annotated[int, Path(ge=1, lt=BIGGEST)]


class DeleteBody(RequestShape):
    """How the contact is deleted."""

    keep_block: bool = Field(False, description="Keep a blocked contact's addresses blocked.")


@endpoint(router, "DELETE", "/contact/{identifier}", "contact.delete")
def delete_contact(
    call: Call, identifier: IdentifierPath, body: Annotated[DeleteBody, Body(default_factory=DeleteBody)]
) -> ContactAnswer:
    """Delete the contact with its history. It is gone at once; its rows follow in the background."""
    _refuse_absorbed(call, identifier)
    contact = find_contact(call, identifier)
    accepted = _accept(call, DeletionRequest(call.workspace_id, [contact.id], keep_block=body.keep_block))
    call.audit("contact.delete", contact.id, deletion_id=accepted.deletion_job_id)
    return ContactAnswer(contact_id=contact.id)


def _refuse_absorbed(call: Call, identifier: str) -> None:
    """Raise Conflict for the id of an absorbed contact: deleting under it would delete the contact that absorbed it."""
    plain = identifier.removeprefix("id:")
    if plain.isdigit() and int(plain) < BIGGEST:
        record = find_active_record(call.tx, call.workspace_id, int(plain))
        if record is not None:
            details = {"merged_into": record.kept_contact_id}
            raise Conflict("the contact was merged away", word="merged_into", field="identifier", details=details)


def _accept(call: Call, request: DeletionRequest) -> DeletionAccepted:
    return accept_deletion(
        call.uow,
        DeletionRequest(
            request.workspace_id,
            request.contact_ids,
            request.selection,
            typed_count=request.typed_count,
            keep_block=request.keep_block,
            salt=call.runtime.salts[0],
            grace=request.grace,
            actor=actor_of(call),
        ),
    )


class BulkDelete(RequestShape):
    """Whom to delete: `contactIds`, or `filter` (with `search`), or `all`; and the number that was typed."""

    contact_ids: list[Id] | None = Field(None, min_length=1)
    filter: dict[str, Any] | None = None
    search: str | None = Field(None, max_length=255)
    timezone: str | None = Field(None, max_length=100)
    all: bool = False
    count: int = Field(ge=1, description="How many contacts, as the person typed it. A wrong number deletes nothing.")
    keep_block: bool = False
    grace_seconds: int = Field(0, ge=0, le=MAX_GRACE_SECONDS, description="How long it can be cancelled.")

    @model_validator(mode="after")
    def _one_way(self) -> "BulkDelete":
        if sum((self.contact_ids is not None, self.filter is not None, self.all)) != 1:
            raise ValueError("give one of contactIds, filter and all")
        return self


class DeletionShape(Shape):
    """A deletion and how far it has come. Times are unix seconds."""

    id: int
    state: str
    selection: str
    contact_count: int
    absorbed_count: int = Field(description="Contacts that were merged into the selected ones and go with them.")
    purged_count: int
    failed_count: int
    row_counts: dict[str, int]
    blocked_count: int | None = Field(
        None, description="How many were blocked: their blocks end with them, unless kept."
    )
    keep_block: bool
    created_at: int
    purge_after: int
    started_at: int | None
    finished_at: int | None


def _read(job: Record, blocked_count: int | None = None) -> DeletionShape:
    return DeletionShape(
        id=job.id,
        state=job.state,
        selection=job.selection,
        contact_count=job.contact_count,
        absorbed_count=job.absorbed_count,
        purged_count=job.purged_count,
        failed_count=job.failed_count,
        row_counts=job.row_counts,
        blocked_count=blocked_count,
        keep_block=job.keep_block,
        created_at=seconds(job.created_at) or 0,
        purge_after=seconds(job.purge_after) or 0,
        started_at=seconds(job.started_at),
        finished_at=seconds(job.finished_at),
    )


@endpoint(router, "POST", "/contact/bulk/delete", "contact.delete", own=True, status=202)
def delete_several(call: Call, body: BulkDelete) -> DeletionShape:
    """Delete many contacts. They are frozen and gone at once; a second identical call joins the first."""
    selection = "all" if body.all else "filter" if body.filter is not None else "ids"
    request = DeletionRequest(
        call.workspace_id,
        None if body.all else _selected(call, body),
        selection,
        typed_count=body.count,
        keep_block=body.keep_block,
        grace=timedelta(seconds=body.grace_seconds),
    )
    accepted = _accept(call, request)
    if not accepted.is_repeat:
        count = accepted.contact_count
        call.audit("contact.bulk_delete", deletion_id=accepted.deletion_job_id, contact_count=count)
    return _read(_get(call, accepted.deletion_job_id), accepted.blocked_count)


def _selected(call: Call, body: BulkDelete) -> list[int]:
    if body.contact_ids is not None:
        return body.contact_ids
    given = FilterRequest(search=body.search, timezone=body.timezone, filter=body.filter or {})
    ids = list_contact_ids(call.tx, call.workspace_id, read_query(call, given), limit=BIGGEST)
    if not ids:
        raise NotFound("no contact matches", word="contact_not_found", field="filter")
    return ids


def _get(call: Call, deletion_id: int) -> Record:
    job = find_deletion(call.tx, call.workspace_id, deletion_id)
    if job is None:
        raise NotFound("Deletion not found", word="deletion_not_found", field="id")
    return job


@endpoint(router, "GET", "/deletion/list", "contact.delete", own=True)
def list_deletion_jobs(call: Call, page: Paging) -> Page[DeletionShape]:
    """Return the workspace's deletions, newest first."""
    if page.cursor < 0:
        raise Invalid("deletions are read from the newest on", field="cursorId")
    rows = list_deletions(call.tx, call.workspace_id, page.cursor or None, page.limit + 1)
    answer = make_page(call, page, rows, lambda row: row.id, _read)
    answer.pagination.previous = None
    return answer


@endpoint(router, "GET", "/deletion/{deletion_id}", "contact.delete", own=True)
def read_deletion(call: Call, deletion_id: DeletionId) -> DeletionShape:
    """Return how far a deletion has come."""
    return _read(_get(call, deletion_id))


@endpoint(router, "POST", "/deletion/{deletion_id}/cancel", "contact.delete", own=True)
def cancel_deletion_job(call: Call, deletion_id: DeletionId) -> DeletionShape:
    """Cancel a deletion within its grace period: the contacts are back."""
    cancel_deletion(call.uow, call.workspace_id, deletion_id)
    call.audit("contact.cancel_deletion", deletion_id=deletion_id)
    return _read(_get(call, deletion_id))


class FailureShape(Shape):
    """A contact that could not be purged."""

    contact_id: int
    attempts: int
    error: str


@endpoint(router, "GET", "/deletion/{deletion_id}/failure/list", "contact.delete", own=True)
def list_deletion_failures(call: Call, deletion_id: DeletionId) -> list[FailureShape]:
    """Return the contacts that could not be purged, at most 1,000."""
    rows = list_failures(call.tx, call.workspace_id, _get(call, deletion_id).id)
    return [FailureShape(contact_id=row.contact_id, attempts=row.attempts, error=row.error) for row in rows]


class CertificateShape(Shape):
    """What was erased. `digest` is the SHA-256 of `certificate` as JSON with sorted keys and no blanks."""

    certificate: dict[str, Any]
    digest: str
    issued_at: int


@endpoint(router, "GET", "/deletion/{deletion_id}/certificate", "contact.delete", own=True)
def read_certificate(call: Call, deletion_id: DeletionId) -> CertificateShape:
    """Return the certificate of erasure of a finished deletion."""
    _get(call, deletion_id)
    kept = find_certificate(call.tx, call.workspace_id, deletion_id)
    if kept is None:
        raise NotFound("the deletion is not finished", word="certificate_not_found", field="id")
    return CertificateShape(
        certificate=kept.body, digest=bytes(kept.digest).hex(), issued_at=seconds(kept.issued_at) or 0
    )
