"""Finding contacts: the contract's list, by search and filter."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ingest.store.contact_lists import list_contact_ids
from ingest.store.custom_fields import list_custom_fields
from ingest.store.views.contacts import list_contacts
from ingest.web.api.access import Call
from ingest.web.api.paging import Page, Paging, make_page
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import ContactShape, read_contact

router = make_router("Contact list")


class ListRequest(BaseModel):
    """What to look for."""

    model_config = ConfigDict(extra="ignore")

    search: Annotated[str | None, Field(max_length=255, description="Part of a name, phone or email.")] = None
    timezone: Annotated[str | None, Field(max_length=100, description="For moments without an offset.")] = None
    filter: dict[str, Any] = Field(description="`{}` for everybody.")


@endpoint(router, "POST", "/contact/list", "contact.list")
def list_contacts_by_filter(call: Call, body: ListRequest, page: Paging) -> Page[ContactShape]:
    """Return the contacts that match, by id. Blocked contacts are left out."""
    ids = list_contact_ids(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    rows = list_contacts(call.tx, call.workspace_id, ids)
    fields = list_custom_fields(call.tx, call.workspace_id)
    return make_page(call, page, rows, lambda row: row.id, lambda row: read_contact(row, fields))
