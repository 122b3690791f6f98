"""Reading one contact: itself, its messages, its channels."""

from typing import Annotated

from fastapi import Path

from ingest.channels.base import address_kind_of
from ingest.channels.registry import UnknownChannelCode, get_adapter
from ingest.domain.channel_kinds import channel_kind
from ingest.domain.refusals import NotFound
from ingest.store.custom_fields import list_custom_fields
from ingest.store.views.channels import ContactChannelView, list_contact_channels
from ingest.store.views.contacts import ContactView, list_contacts
from ingest.store.views.messages import find_message, list_messages
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.message_shapes import MessageShape, read_message
from ingest.web.api.paging import BIGGEST, Page, PageQuery, Pagination, Paging, make_page
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import ContactChannelShape, ContactShape, read_contact, read_contact_channel

router = make_router("Contact")

MessageId = Annotated[int, Path(ge=1, lt=BIGGEST)]


def contact_view(call: Call, contact_id: int) -> ContactView:
    """Return the live contact. Raises NotFound."""
    found = list_contacts(call.tx, call.workspace_id, [contact_id])
    if not found:
        raise NotFound("Contact not found", word="contact_not_found")
    return found[0]


@endpoint(router, "GET", "/contact/{identifier}", "contact.read")
def get_contact(call: Call, identifier: IdentifierPath) -> ContactShape:
    """Return the contact. The id of a contact that was merged away leads to the one it was merged into."""
    contact = contact_view(call, find_contact(call, identifier).id)
    return read_contact(contact, list_custom_fields(call.tx, call.workspace_id))


@endpoint(router, "GET", "/contact/{identifier}/message/list", "message.read")
def list_contact_messages(call: Call, identifier: IdentifierPath, page: Paging) -> Page[MessageShape]:
    """Return the contact's messages, newest first by the provider's time."""
    contact = find_contact(call, identifier)
    rows = list_messages(call.tx, call.workspace_id, contact.id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, read_message)


@endpoint(router, "GET", "/contact/{identifier}/message/{message_id}", "message.read")
def get_message(call: Call, identifier: IdentifierPath, message_id: MessageId) -> MessageShape:
    """Return one message of the contact."""
    contact = find_contact(call, identifier)
    message = find_message(call.tx, call.workspace_id, contact.id, message_id)
    if message is None:
        raise NotFound("Message not found", word="message_not_found", field="messageId")
    return read_message(message)


@endpoint(router, "GET", "/contact/{identifier}/channels", "contact.read")
def list_channels_of_contact(call: Call, identifier: IdentifierPath, page: Paging) -> Page[ContactChannelShape]:
    """Return the channels that the contact is connected to, in the order of connection."""
    return channel_page(call, page, [each for each in all_channels(call, identifier) if each.contact_channel_id])


@endpoint(router, "GET", "/contact/{identifier}/channels/all", "contact.read", own=True)
def list_all_channels_of_contact(call: Call, identifier: IdentifierPath, page: Paging) -> Page[ContactChannelShape]:
    """Return every channel of the workspace for this contact: active, inactive (a user may start it) or unavailable."""
    return channel_page(call, page, all_channels(call, identifier))


def all_channels(call: Call, identifier: str) -> list[ContactChannelShape]:
    """Return every channel of the workspace for the contact: the connected ones first."""
    contact = contact_view(call, find_contact(call, identifier).id)
    found = list_contact_channels(call.tx, call.workspace_id, contact.id)
    return [read_contact_channel(each, _kind(each, contact)) for each in found]


def _kind(found: ContactChannelView, contact: ContactView) -> str:
    try:
        adapter = get_adapter(found.channel.code)
    except (UnknownChannelCode, ImportError):
        return channel_kind(found.identity_id is not None, False, "opaque", contact.phone, contact.email)
    address_kind = address_kind_of(adapter, found.settings)
    return channel_kind(found.identity_id is not None, adapter.startable, address_kind, contact.phone, contact.email)


def channel_page(call: Call, query: PageQuery, found: list[ContactChannelShape]) -> Page[ContactChannelShape]:
    """Return a page of the few channels a contact has; the cursor is the place in the list."""
    start = max(0, query.cursor if query.cursor >= 0 else -query.cursor - query.limit - 1)
    end = start + query.limit
    url = f"{call.base_url}{call.path}?limit={query.limit}&cursorId="
    return Page(
        items=found[start:end],
        pagination=Pagination(
            next=f"{url}{end}" if end < len(found) else None, previous=f"{url}{-start - 1}" if start > 0 else None
        ),
    )
