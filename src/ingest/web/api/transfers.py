"""Imports, exports and bulk changes: accepted here, worked off in batches, with progress and a report of every row."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Body, Path, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from ingest.domain.csv_cells import MAX_BYTES, Form, read_rows
from ingest.domain.imports import IdentifierField, ImportOptions, Mode, check_options, read_columns
from ingest.domain.refusals import Conflict, Gone, Invalid, NotFound
from ingest.pipeline.contacts_tags import read_tag_names
from ingest.pipeline.transfer_bulk import BulkAction, accept_bulk
from ingest.pipeline.transfer_export import MAX_SELECTED, accept_export, export_selected
from ingest.pipeline.transfer_import import accept_import
from ingest.store import transfers as rows
from ingest.store.contact_lists import list_contact_ids
from ingest.store.custom_fields import list_custom_fields
from ingest.store.transfers import PartKey, Transfer
from ingest.web.api.access import Call
from ingest.web.api.contact_lists import FilterRequest, read_query
from ingest.web.api.contact_marks import read_user
from ingest.web.api.conversations import read_closing
from ingest.web.api.paging import BIGGEST, Page, Paging, make_page
from ingest.web.api.requests import Id, RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.segments import find_segment, segment_filter
from ingest.web.api.shapes import Shape, seconds

router = make_router("Transfer")

TransferId = Annotated[int, Path(ge=1, lt=BIGGEST)]
CSV = "text/csv; charset=utf-8"
MAX_IDS = 10_000
MAX_MATCHES = 1_000_000


class TransferShape(Shape):
    """An import, export or bulk change with its progress."""

    id: int
    kind: str
    state: str = Field(description="queued, running, completed, completed_with_errors or failed.")
    file_name: str
    total: int
    done: int
    counts: dict[str, int] = Field(description="created, updated, unchanged, skipped, failed, exported.")
    created_at: int = Field(alias="created_at")
    started_at: int | None
    finished_at: int | None
    expires_at: int | None
    file_url: str | None = Field(None, description="Where a finished export is; gone after 7 days.")


def _read(call: Call, transfer: Transfer) -> TransferShape:
    root = call.path.split("/export")[0]
    is_ready = transfer.kind == "export" and transfer.state.startswith("completed")
    return TransferShape(
        id=transfer.id,
        kind=transfer.kind,
        state=transfer.state,
        file_name=transfer.file_name,
        total=transfer.total_count,
        done=transfer.done_count,
        counts=transfer.counts,
        created_at=seconds(transfer.created_at) or 0,
        started_at=seconds(transfer.started_at),
        finished_at=seconds(transfer.finished_at),
        expires_at=seconds(transfer.expires_at),
        file_url=f"{call.base_url}{root}/export/{transfer.id}/file" if is_ready else None,
    )


def _find(call: Call, kind: str, transfer_id: int) -> Transfer:
    transfer = rows.find_transfer(call.tx, call.workspace_id, transfer_id)
    if transfer is None or transfer.kind != kind:
        raise NotFound(f"{kind.capitalize()} not found", word="transfer_not_found", field="id")
    return transfer


def _page(call: Call, kind: str, page: Paging) -> Page[TransferShape]:
    found = rows.list_transfers(call.tx, call.workspace_id, kind, page.cursor, page.limit + 1)
    return make_page(call, page, found, lambda row: row.id, lambda row: _read(call, row))


# --- imports ---------------------------------------------------------------------------------------------------------


def _read_mapping(text: str | None) -> dict[str, str] | None:
    if text is None or not text.strip():
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError:
        raise Invalid('a JSON object such as {"First name": "firstName"}', field="mapping") from None


@endpoint(router, "POST", "/import", "contact.import", own=True, status=202)
def import_contacts(  # noqa: PLR0917 - what an import is made of
    call: Call,
    body: Annotated[bytes, Body(media_type="text/csv", description="The file: CSV with a header, under 20 MB.")],
    mode: Annotated[Mode, Query(description="What to do with rows that match a contact, and with those that do not.")],
    identifier: Annotated[IdentifierField | None, Query(description="By what rows match contacts.")] = None,
    mapping: Annotated[
        str | None,
        Query(description="JSON: column name to field name. Without it columns are recognised by their names."),
    ] = None,
    overwrite: Annotated[bool, Query(description="Whether rows replace values that contacts have.")] = True,
    form: Annotated[Form, Query(description="spreadsheet: our own apostrophes are taken off.")] = "spreadsheet",
    tag: Annotated[list[str] | None, Query(max_length=10, description="Put on every contact of the file.")] = None,
    file_name: Annotated[str, Query(alias="fileName", max_length=255)] = "",
) -> TransferShape:
    """Import contacts from a CSV file, in the background. No automation starts; duplicates are looked for afterwards."""
    if len(body) > MAX_BYTES:
        raise Invalid(f"at most {MAX_BYTES // 1_000_000} MB", field="file", word="file_too_large")
    header = next(read_rows(body, form), [])
    columns = read_columns(header, _read_mapping(mapping), list_custom_fields(call.tx, call.workspace_id))
    tags = tuple(read_tag_names(tag)) if tag else ()
    options = ImportOptions(mode, identifier, columns, overwrite, form, tags)
    check_options(options)
    transfer_id = accept_import(call.uow, call.principal, body, options, file_name)
    call.audit("contact.import", transfer_id=transfer_id)
    return _read(call, _find(call, "import", transfer_id))


@endpoint(router, "GET", "/import", "contact.import", own=True)
def list_imports(call: Call, page: Paging) -> Page[TransferShape]:
    """Return the imports of the workspace, newest first."""
    return _page(call, "import", page)


@endpoint(router, "GET", "/import/{transfer_id}", "contact.import", own=True)
def get_import(call: Call, transfer_id: TransferId) -> TransferShape:
    """Return an import with its progress."""
    return _read(call, _find(call, "import", transfer_id))


class RowShape(Shape):
    """What became of a row."""

    row: int = Field(description="From 1, without the header.")
    outcome: str
    contact_id: int | None
    field: str | None
    reason: str | None


def _report(call: Call, transfer: Transfer, page: Paging, only_problems: bool) -> Page[RowShape]:
    found = rows.list_report(
        call.tx,
        call.workspace_id,
        transfer.id,
        after=max(0, page.cursor),
        limit=page.limit + 1,
        only_problems=only_problems,
    )
    lines = [
        RowShape(row=line[0], outcome=line[1], contact_id=line[2], field=line[3], reason=line[4]) for line in found
    ]
    answer = make_page(call, page, lines, lambda line: line.row, lambda line: line)
    # A report is read forwards only.
    answer.pagination.previous = None
    return answer


OnlyProblems = Annotated[bool, Query(alias="onlyProblems", description="Leave out rows that went well.")]


@endpoint(router, "GET", "/import/{transfer_id}/report", "contact.import", own=True)
def get_import_report(
    call: Call, transfer_id: TransferId, page: Paging, only_problems: OnlyProblems = False
) -> Page[RowShape]:
    """Return what became of each row, in the order of the file."""
    return _report(call, _find(call, "import", transfer_id), page, only_problems)


# --- exports ---------------------------------------------------------------------------------------------------------


class SelectedExport(RequestShape):
    """Which contacts to export at once."""

    contact_ids: list[Id] = Field(min_length=1, max_length=MAX_SELECTED)
    form: Form = "spreadsheet"


@endpoint(
    router,
    "POST",
    "/contact/export",
    "contact.export",
    own=True,
    responses={200: {"content": {"text/csv": {}}, "description": "The file."}},
)
def export_selected_contacts(call: Call, body: SelectedExport) -> Response:
    """Return the CSV of at most 100 contacts at once."""
    content = export_selected(call.uow, call.workspace_id, body.contact_ids, body.form)
    call.audit("contact.export", *body.contact_ids)
    return _file(content, "contacts.csv")


def _file(content: str, name: str) -> Response:
    return Response(content.encode(), 200, _file_headers(name), CSV)


def _file_headers(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}


class ExportRequest(FilterRequest):
    """Whom to export: everybody who matches, beyond any window."""

    filter: dict[str, Any] = Field(default_factory=dict)
    form: Form = "spreadsheet"
    segment_id: int | None = Field(None, alias="segmentId", ge=1, lt=BIGGEST)


@endpoint(router, "POST", "/export", "contact.export", own=True, status=202)
def export_contacts(call: Call, body: ExportRequest) -> TransferShape:
    """Export all contacts that match, or that are in a segment, in the background. The file is kept for 7 days."""
    given = segment_filter(find_segment(call, body.segment_id)) if body.segment_id is not None else body
    transfer_id = accept_export(call.uow, call.principal, given.given(), body.form)
    call.audit("contact.export", transfer_id=transfer_id)
    return _read(call, _find(call, "export", transfer_id))


@endpoint(router, "GET", "/export", "contact.export", own=True)
def list_exports(call: Call, page: Paging) -> Page[TransferShape]:
    """Return the exports of the workspace, newest first."""
    return _page(call, "export", page)


@endpoint(router, "GET", "/export/{transfer_id}", "contact.export", own=True)
def get_export(call: Call, transfer_id: TransferId) -> TransferShape:
    """Return an export with its progress, and where its file is once it is finished."""
    return _read(call, _find(call, "export", transfer_id))


@endpoint(
    router,
    "GET",
    "/export/{transfer_id}/file",
    "contact.export",
    own=True,
    responses={200: {"content": {"text/csv": {}}, "description": "The file."}},
)
def get_export_file(call: Call, transfer_id: TransferId) -> Response:
    """Return the file of a finished export."""
    transfer = _find(call, "export", transfer_id)
    if transfer.expires_at is not None and transfer.expires_at <= call.now:
        raise Gone("the file was kept for 7 days", word="export_expired")
    if not transfer.is_over:
        raise Conflict("the export is not finished yet", word="export_running")
    return StreamingResponse(_parts(call, transfer_id), 200, _file_headers(f"contacts-{transfer_id}.csv"), CSV)


def _parts(call: Call, transfer_id: int) -> Iterator[bytes]:
    """Yield the file batch by batch, each read in a transaction of its own: it may be longer than our memory."""
    position = 0
    while True:
        with call.reopen() as tx:
            content = rows.find_content(tx, PartKey(call.workspace_id, transfer_id, position))
        if content is None:
            return
        yield content
        position += 1


# --- bulk changes ----------------------------------------------------------------------------------------------------


class BulkRequest(RequestShape):
    """What to do with many contacts: those of `contactIds`, or all that match `filter` and `search`."""

    action: BulkAction
    contact_ids: list[Id] | None = Field(None, max_length=MAX_IDS)
    filter: dict[str, Any] | None = None
    search: str | None = Field(None, max_length=255)
    timezone: str | None = Field(None, max_length=100)
    tags: list[str] | None = Field(None, max_length=10, description="For tag and untag.")
    assignee: int | str | None = Field(None, description="For assign: user id, email, or null for nobody.")
    category: str | None = Field(None, max_length=128, description="For close.")
    summary: str | None = Field(None, max_length=512, description="For close.")


@endpoint(router, "POST", "/contact/bulk", "contact.bulk", own=True, status=202)
def change_many_contacts(call: Call, body: BulkRequest) -> TransferShape:
    """Tag, untag, assign or close many contacts in the background. Who they are is fixed when this is answered."""
    params = _params(call, body)
    if (body.contact_ids is None) == (body.filter is None):
        raise Invalid("either contactIds or filter", field="contactIds")
    ids = body.contact_ids or []
    if body.filter is not None:
        given = FilterRequest(filter=body.filter, search=body.search, timezone=body.timezone)
        ids = list_contact_ids(call.tx, call.workspace_id, read_query(call, given), limit=MAX_MATCHES)
    transfer_id = accept_bulk(call.uow, call.principal, body.action, ids, params)
    call.audit("contact.bulk", change=body.action, transfer_id=transfer_id, count=len(ids))
    return _read(call, _find(call, "bulk", transfer_id))


def _params(call: Call, body: BulkRequest) -> dict[str, Any]:
    kind: Literal["tag", "untag", "assign", "close"] = body.action
    if kind in {"tag", "untag"}:
        return {"tags": read_tag_names(body.tags or [])}
    if kind == "assign":
        if "assignee" not in body.model_fields_set:
            raise Invalid("a user, or null for nobody", field="assignee")
        return {"assignee": None if body.assignee is None else read_user(call, body.assignee)}
    closing = read_closing(call, body.category, body.summary)
    return {"category": closing.category, "summary": closing.summary}


@endpoint(router, "GET", "/contact/bulk/list", "contact.bulk", own=True)
def list_bulk_changes(call: Call, page: Paging) -> Page[TransferShape]:
    """Return the bulk changes of the workspace, newest first."""
    return _page(call, "bulk", page)


@endpoint(router, "GET", "/contact/bulk/{transfer_id}", "contact.bulk", own=True)
def get_bulk_change(call: Call, transfer_id: TransferId) -> TransferShape:
    """Return a bulk change with its progress."""
    return _read(call, _find(call, "bulk", transfer_id))


@endpoint(router, "GET", "/contact/bulk/{transfer_id}/report", "contact.bulk", own=True)
def get_bulk_report(
    call: Call, transfer_id: TransferId, page: Paging, only_problems: OnlyProblems = False
) -> Page[RowShape]:
    """Return what became of each contact."""
    return _report(call, _find(call, "bulk", transfer_id), page, only_problems)
