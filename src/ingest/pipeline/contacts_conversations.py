"""Conversations opened, closed and snoozed by people and programs, and woken when their time has come.

A blocked contact's conversation can be neither opened nor closed. Setting what is already so changes nothing.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from ingest.domain.refusals import Conflict, Invalid
from ingest.jobs.contact_types import EndSnooze
from ingest.jobs.types import ReactToConversations
from ingest.pipeline.contacts import Editor, lock_all_live, lock_live
from ingest.store import conversation_edits as rows
from ingest.store.contact_edits import NewEvent, add_contact_events
from ingest.store.contacts import LockedContact, lock_contacts
from ingest.store.conversation_edits import Closing
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.workflow_interest import list_interested

TIMER = "timer"


def _refuse_blocked(contacts: Collection[LockedContact]) -> None:
    blocked = sorted(contact.id for contact in contacts if contact.blocked_at is not None)
    if blocked:
        raise Conflict("the contact is blocked", word="contact_blocked", details={"contactIds": blocked[:100]})


def open_conversation(uow: UnitOfWork, editor: Editor, contact_id: int) -> bool:
    """Open the contact's conversation or wake it; return whether it was closed or asleep. Raises NotFound, Conflict."""
    contact = lock_live(uow, editor.workspace_id, contact_id)
    _refuse_blocked([contact])
    if contact.status == "snoozed":
        woken = rows.wake(uow.tx, editor.workspace_id, [contact_id], uow.now)
        _tell(uow, editor, "conversation.unsnoozed", woken)
        return bool(woken)
    if contact.status == "open":
        return False
    opened = rows.open_by_hand(uow.tx, editor.workspace_id, [contact_id], editor.source, uow.now)
    _tell(uow, editor, "conversation.opened", opened)
    _react(uow, editor, "conversation_opened", opened)
    return True


def close_conversations(uow: UnitOfWork, editor: Editor, ids: Collection[int], closing: Closing) -> set[int]:
    """Close the contacts' conversations; return the ids of those that had an open or snoozed one.

    Raises NotFound unless all are live, Conflict when one is blocked.
    """
    found = lock_all_live(uow, editor.workspace_id, ids)
    _refuse_blocked(list(found.values()))
    closed = rows.close_by_hand(uow.tx, editor.workspace_id, sorted(found), closing, uow.now)
    _tell(uow, editor, "conversation.closed", closed)
    _react(uow, editor, "conversation_closed", closed)
    return {contact_id for contact_id, _ in closed}


def snooze_conversation(uow: UnitOfWork, editor: Editor, contact_id: int, until: datetime) -> None:
    """Put the contact's conversation to sleep until then, when it comes back to open by itself.

    Raises Invalid for a time that has passed, Conflict for a closed conversation or a blocked contact.
    """
    contact = lock_live(uow, editor.workspace_id, contact_id)
    _refuse_blocked([contact])
    if until <= uow.now:
        raise Invalid("a moment in the future", field="snoozedUntil")
    if contact.status == "closed":
        raise Conflict("the conversation is closed: open it first", word="conversation_closed")
    snoozed = rows.snooze(uow.tx, editor.workspace_id, [contact_id], until, uow.now)
    _tell(uow, editor, "conversation.snoozed", snoozed)
    uow.add_job(EndSnooze(editor.workspace_id, contact_id), due_at=until)


def end_snooze(uow: UnitOfWork, job: EndSnooze) -> bool:
    """Wake the contact's conversation if its time has come; return whether it had. Starts no workflow."""
    found = lock_contacts(uow.tx, [(job.workspace_id, job.contact_id)])
    if job.contact_id not in found or not found[job.contact_id].is_live:
        return False
    if not rows.is_snooze_over(uow.tx, job.workspace_id, job.contact_id, uow.now):
        return False
    woken = rows.wake(uow.tx, job.workspace_id, [job.contact_id], uow.now)
    _tell(uow, Editor(job.workspace_id, TIMER), "conversation.unsnoozed", woken)
    return True


def _tell(uow: UnitOfWork, editor: Editor, kind: str, changed: Sequence[tuple[int, int]]) -> None:
    events = [NewEvent(contact_id, {}, conversation_id) for contact_id, conversation_id in changed]
    add_contact_events(
        uow.tx, editor.workspace_id, kind, events, source=editor.source, actor_id=editor.user_id, now=uow.now
    )


def _react(uow: UnitOfWork, editor: Editor, trigger: str, changed: Sequence[tuple[int, int]]) -> None:
    if changed and list_interested(uow.tx, [editor.workspace_id]):
        ids = tuple(conversation_id for _, conversation_id in changed)
        uow.add_job(ReactToConversations(editor.workspace_id, trigger, editor.source, ids))
