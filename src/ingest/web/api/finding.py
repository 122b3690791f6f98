"""From an identifier in a path to the one contact it means, for whoever asks."""

from typing import Annotated

from fastapi import Path

from ingest.domain.access import sees_contact
from ingest.domain.identifiers import parse_identifier
from ingest.domain.refusals import Conflict, NotFound
from ingest.store.views.identifiers import ResolvedContact, list_identified
from ingest.web.api.access import Call

IdentifierPath = Annotated[
    str,
    Path(
        description="`id:<number>`, `email:<address>` or `phone:<number with country code>`.",
        examples=["id:42", "email:ann@example.com", "phone:+60123456789"],
    ),
]


def find_contact(call: Call, identifier: str) -> ResolvedContact:
    """Return the contact that the identifier means. An absorbed id leads to the contact that absorbed it.

    Raises Invalid for a text that is no identifier; NotFound for a contact that is missing, another workspace's, or one
    that whoever asks may not see; Conflict when several contacts have the phone or email, with their ids.
    """
    found = list_identified(call.tx, call.workspace_id, parse_identifier(identifier))
    visible = [each for each in found if sees_contact(call.principal, each.assignee_id, each.assignee_team_id)]
    if len(found) > 1 and visible:
        raise Conflict(
            "several contacts have this identifier: use one of their ids",
            word="ambiguous_identifier",
            field="identifier",
            details={"contactIds": [each.id for each in visible[:100]]},
        )
    if not visible:
        raise NotFound("Contact not found", word="contact_not_found", field="identifier")
    return visible[0]
