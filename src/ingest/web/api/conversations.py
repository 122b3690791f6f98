"""The status of a contact's conversation: open, closed, snoozed."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from ingest.domain.refusals import Invalid
from ingest.pipeline.contacts import Editor
from ingest.pipeline.contacts_conversations import close_conversations, open_conversation, snooze_conversation
from ingest.store.closing_notes import find_closing_note
from ingest.store.conversation_edits import Closing
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.requests import RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import ContactAnswer

router = make_router("Conversation")

# The last second that a date can hold, with room for time zones.
LATEST = 253_402_214_400


class StatusUpdate(RequestShape):
    """What the conversation is to be."""

    status: Literal["open", "close", "closed", "snoozed"]
    category: str | None = Field(None, max_length=128, description="For closing: a closing note of the workspace.")
    summary: str | None = Field(None, max_length=512, description="For closing.")
    snoozed_until: int | None = Field(None, ge=1, lt=LATEST, description="For snoozing: unix seconds.")


@endpoint(router, "POST", "/contact/{identifier}/conversation/status", "conversation.change")
def update_conversation_status(call: Call, identifier: IdentifierPath, body: StatusUpdate) -> ContactAnswer:
    """Open, close or snooze the contact's conversation. What is already so stays so, without an event."""
    contact = find_contact(call, identifier)
    editor = Editor.of(call.principal)
    if body.status == "open":
        open_conversation(call.uow, editor, contact.id)
    elif body.status == "snoozed":
        if body.snoozed_until is None:
            raise Invalid("until when", field="snoozedUntil")
        snooze_conversation(call.uow, editor, contact.id, datetime.fromtimestamp(body.snoozed_until, UTC))
    else:
        close_conversations(call.uow, editor, [contact.id], read_closing(call, body.category, body.summary))
    return ContactAnswer(contact_id=contact.id)


def read_closing(call: Call, category: str | None, summary: str | None) -> Closing:
    """Return how to close. Raises Invalid for a category that is no closing note of the workspace."""
    note = find_closing_note(call.tx, call.workspace_id, category) if category else None
    if category and note is None:
        raise Invalid("no closing note of the workspace", field="category", word="unknown_category")
    return Closing(call.principal.source, call.principal.user_id, note.category if note else None, summary or None)
