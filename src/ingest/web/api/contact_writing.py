"""Creating and changing contacts: create, update, create or update."""

from dataclasses import replace
from typing import Annotated

from fastapi import Body
from pydantic import Field

from ingest.domain.access import require
from ingest.domain.fields import FieldChanges, read_email, read_phone
from ingest.domain.identifiers import Identifier, parse_identifier
from ingest.domain.refusals import Conflict, Invalid, NotFound
from ingest.pipeline.contacts import Editor, create_contacts, update_contact
from ingest.store.contact_edits import lock_keys
from ingest.store.views.identifiers import list_identified
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.requests import ContactFields, read_fields
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import CodeAnswer, ContactAnswer

router = make_router("Contact")


class NewContact(ContactFields):
    """A contact to create."""

    first_name: Annotated[str, Field(min_length=1, max_length=255)]


class ContactCreated(CodeAnswer):
    """The contact is there."""

    message: str = "Contact added successfully!"
    contact_id: int


@endpoint(router, "POST", "/contact/create_or_update/{identifier}", "contact.edit")
def create_or_update_contact(call: Call, identifier: IdentifierPath, body: ContactFields) -> ContactAnswer:
    """Change the contact, or create it under the identifier where there is none."""
    wanted = parse_identifier(identifier)
    if wanted.kind != "id":
        lock_keys(call.tx, call.workspace_id, [wanted.key])
    try:
        contact_id = find_contact(call, identifier).id
    except NotFound:
        if wanted.kind == "id" or list_identified(call.tx, call.workspace_id, wanted):
            raise
        require(call.principal, "contact.create")
        return ContactAnswer(contact_id=_create(call, wanted, read_fields(call, body)))
    update_contact(call.uow, Editor.of(call.principal), contact_id, read_fields(call, body))
    return ContactAnswer(contact_id=contact_id)


@endpoint(router, "POST", "/contact/{identifier}", "contact.create")
def create_contact(call: Call, identifier: IdentifierPath, body: NewContact) -> ContactCreated:
    """Create a contact under its phone or email. It is there at once, and no automation starts."""
    wanted = parse_identifier(identifier)
    if wanted.kind == "id":
        raise Invalid("a new contact is named by email: or phone:", field="identifier")
    lock_keys(call.tx, call.workspace_id, [wanted.key])
    there = list_identified(call.tx, call.workspace_id, wanted)
    if there:
        raise Conflict(
            "a contact with this identifier exists",
            word="contact_exists",
            field="identifier",
            details={"contactIds": [each.id for each in there[:100]]},
        )
    return ContactCreated(contact_id=_create(call, wanted, read_fields(call, body)))


@endpoint(router, "PUT", "/contact/{identifier}", "contact.edit")
def update_contact_fields(
    call: Call, identifier: IdentifierPath, body: Annotated[ContactFields, Body(default_factory=ContactFields)]
) -> ContactAnswer:
    """Change fields of the contact. A phone or email that another contact has is taken: it gives a merge suggestion."""
    contact = find_contact(call, identifier)
    update_contact(call.uow, Editor.of(call.principal), contact.id, read_fields(call, body))
    return ContactAnswer(contact_id=contact.id)


def _create(call: Call, wanted: Identifier, changes: FieldChanges) -> int:
    return create_contacts(call.uow, Editor.of(call.principal), [_under(wanted, changes)])[0]


def _under(wanted: Identifier, changes: FieldChanges) -> FieldChanges:
    """Return the changes with the identifier in its own field. Raises Invalid when they have another value for it."""
    given = changes.columns.get(wanted.kind)
    if wanted.kind == "phone":
        if given not in {None, wanted.value}:
            raise Invalid("not the phone of the identifier", field="phone")
        return replace(changes, columns={**changes.columns, "phone": wanted.value}, phone=read_phone(wanted.value))
    email = read_email(wanted.value)
    if given is not None and changes.email is not None and changes.email.key != email.key:
        raise Invalid("not the email of the identifier", field="email")
    return replace(changes, columns={**changes.columns, "email": given or wanted.value}, email=changes.email or email)
