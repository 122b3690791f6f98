"""Comments on contacts, and whom they mention."""

import re

from ingest.domain.refusals import Invalid
from ingest.pipeline.contacts import Editor, lock_live
from ingest.store.comments import Comment, add_comment
from ingest.store.contact_edits import NewEvent, add_contact_events
from ingest.store.unit_of_work import UnitOfWork

MAX_TEXT = 1000
# Clients write mentions in one way or the other.
MENTION = re.compile(r"\{\{@user\.(\d{1,15})\}\}|\$(\d{1,15})\$")


def comment_on_contact(uow: UnitOfWork, editor: Editor, contact_id: int, content: str) -> Comment:
    """Add a comment to the contact's timeline and return it. Raises NotFound; Invalid for an empty or long text."""
    if not content.strip() or len(content) > MAX_TEXT:
        raise Invalid(f"1 to {MAX_TEXT} characters", field="text")
    contact = lock_live(uow, editor.workspace_id, contact_id)
    mentioned = [int(one or other) for one, other in MENTION.findall(content)]
    comment = add_comment(
        uow.tx,
        editor.workspace_id,
        contact_id,
        conversation_id=contact.conversation_id,
        source=editor.source,
        author_id=editor.user_id,
        content=content,
        mentioned=mentioned,
        now=uow.now,
    )
    add_contact_events(
        uow.tx,
        editor.workspace_id,
        "comment.added",
        [NewEvent(contact_id, {"comment_id": comment.id}, contact.conversation_id)],
        source=editor.source,
        actor_id=editor.user_id,
        now=uow.now,
    )
    return comment
