"""Finding contacts: the contract's list by search and filter; ours by pages with a total, and blocked ones apart."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ingest.domain.refusals import Invalid
from ingest.pipeline.contact_queries import FilterGiven, make_query
from ingest.store.contact_lists import ContactQuery, Sort, count_contacts, list_contact_ids, list_contact_window
from ingest.store.custom_fields import list_custom_fields
from ingest.store.views.contacts import list_contacts
from ingest.web.api.access import Call
from ingest.web.api.paging import Page, Paging, make_page
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import ContactShape, Shape, read_contact

router = make_router("Contact list")

WINDOW = 2500

SortName = Literal["id", "-id", "name", "-name", "createdAt", "-createdAt", "lastMessage", "-lastMessage"]


class FilterRequest(BaseModel):
    """Whom to look for."""

    model_config = ConfigDict(extra="ignore")

    search: Annotated[
        str | None,
        Field(max_length=255, description="Part of a name, phone or email; one or two letters: beginnings of words."),
    ] = None
    timezone: Annotated[str | None, Field(max_length=100, description="For moments without an offset.")] = None
    filter: dict[str, Any] = Field(
        description='`{"$and": [condition, ...]}` or `{"$or": [...]}`, `{}` for everybody.',
        examples=[
            {"$and": [{"category": "contactTag", "field": None, "operator": "hasAnyOf", "value": ["vip"]}]},
            {"$and": []},
        ],
    )

    def given(self) -> FilterGiven:
        """Return it as the pipeline reads it."""
        return FilterGiven(self.filter, self.search or "", self.timezone or "")


class ListRequest(FilterRequest):
    """Whom to list, in which order."""

    sort: Literal["id", "-id", "name", "-name", "createdAt", "-createdAt"] = "id"


def read_query(call: Call, given: FilterRequest, sort: str = "id", *, is_blocked: bool = False) -> ContactQuery:
    """Return the checked query. Raises Invalid saying which condition is wrong."""
    name: Sort = sort.removeprefix("-")  # type: ignore[assignment] # one of the names of SortName
    return make_query(
        call.uow,
        call.workspace_id,
        given.given(),
        name,
        is_descending=sort.startswith("-"),
        is_blocked=is_blocked,
    )


def read_page(call: Call, ids: list[int]) -> list[ContactShape]:
    """Return the contacts of these ids as clients read them, in their order."""
    fields = list_custom_fields(call.tx, call.workspace_id)
    return [read_contact(row, fields) for row in list_contacts(call.tx, call.workspace_id, ids)]


@endpoint(router, "POST", "/contact/list", "contact.list")
def list_contacts_by_filter(call: Call, body: ListRequest, page: Paging) -> Page[ContactShape]:
    """Return the contacts that match, by id unless another order is asked for. Blocked contacts are left out."""
    query = read_query(call, body, body.sort)
    ids = list_contact_ids(call.tx, call.workspace_id, query, cursor=page.cursor, limit=page.limit + 1)
    shown = read_page(call, ids)
    return make_page(call, page, shown, lambda row: row.id, lambda row: row)


class WindowRequest(FilterRequest):
    """Which page of the list."""

    sort: SortName = "-lastMessage"
    page: int = Field(1, ge=1, le=10_000)
    page_size: int = Field(20, ge=1, le=100, alias="pageSize")
    is_blocked: bool = Field(False, alias="isBlocked", description="List the blocked contacts instead of the others.")
    with_total: bool = Field(True, alias="withTotal", description="Counting takes longer than listing.")


class ContactWindow(Shape):
    """A page of the list by its number."""

    items: list[ContactShape]
    page: int
    page_size: int
    total: int | None = Field(description="How many match in all, beyond the window too.")
    window: int = Field(description="Pages reach this far; beyond it narrow the filter, or use a cursor.")


@endpoint(router, "POST", "/contact/page", "contact.list", own=True)
def list_contacts_by_page(call: Call, body: WindowRequest) -> ContactWindow:
    """Return a page by its number, within the first 2,500 matches, with the number of all matches."""
    query = read_query(call, body, body.sort, is_blocked=body.is_blocked)
    total = count_contacts(call.tx, call.workspace_id, query) if body.with_total else None
    offset = (body.page - 1) * body.page_size
    if offset + body.page_size > WINDOW:
        raise Invalid(
            f"pages reach the first {WINDOW} matches: narrow the filter, or page with a cursor",
            word="window_exceeded",
            field="page",
            details={"total": total, "window": WINDOW},
        )
    ids = list_contact_window(call.tx, call.workspace_id, query, offset=offset, limit=body.page_size)
    return ContactWindow(
        items=read_page(call, ids), page=body.page, page_size=body.page_size, total=total, window=WINDOW
    )
