"""What workflow steps want, done as sets: tags, fields, assignees, conversations, questions. The contacts are locked."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ingest.domain.actors import WORKFLOW
from ingest.domain.fields import STANDARD, FieldChanges, read_changes
from ingest.domain.refusals import Invalid
from ingest.domain.workflow_runs import Wishes
from ingest.jobs.act_types import ReactToFields, ReactToTags
from ingest.jobs.types import ReactToConversations
from ingest.pipeline.contacts import Editor, update_contacts
from ingest.store import contact_edits, conversation_edits, tags
from ingest.store.contact_edits import NewEvent
from ingest.store.conversation_edits import Closing
from ingest.store.custom_fields import list_custom_fields
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.workflow_runs import add_questions, list_closed

SOURCE = WORKFLOW.source
API_NAMES = {column: name for name, column in STANDARD.items()}


def do_wishes(uow: UnitOfWork, workspace_id: int, wishes: Wishes) -> None:
    """Do everything that was wished for; what changes a tag or a field may start further workflows."""
    _do_tags(uow, workspace_id, wishes)
    _do_fields(uow, workspace_id, wishes)
    _do_assignees(uow, workspace_id, wishes)
    _do_conversations(uow, workspace_id, wishes)
    add_questions(uow.tx, workspace_id, wishes.questions, uow.now)


def _do_tags(uow: UnitOfWork, workspace_id: int, wishes: Wishes) -> None:
    groups: defaultdict[tuple[str, str, int], list[int]] = defaultdict(list)
    for (contact_id, _), (name, action, depth) in wishes.tags.items():
        groups[name, action, depth].append(contact_id)
    for (name, action, depth), contact_ids in sorted(groups.items()):
        ids = sorted(contact_ids)
        if action == "add":
            found = [tag.id for tag in tags.ensure_tags(uow.tx, workspace_id, [name]).values()]
            changed = tags.put_tags_on(uow.tx, workspace_id, ids, found, source=SOURCE, now=uow.now)
        else:
            found = [tag.id for tag in tags.find_tags(uow.tx, workspace_id, [name]).values()]
            changed = tags.take_tags_off(uow.tx, workspace_id, ids, found)
        _tell_tags(uow, workspace_id, action, changed)
        # One name is one tag.
        for tag_id in {tag_id for _, tag_id in changed}:
            theirs = tuple(contact_id for contact_id, _ in changed)
            uow.add_job(ReactToTags(workspace_id, tag_id, action, theirs, depth + 1))


def _tell_tags(uow: UnitOfWork, workspace_id: int, action: str, changed: Sequence[tuple[int, int]]) -> None:
    events = [NewEvent(contact_id, {"tag_id": tag_id}) for contact_id, tag_id in changed]
    kind = "tag.added" if action == "add" else "tag.removed"
    contact_edits.add_contact_events(uow.tx, workspace_id, kind, events, source=SOURCE, actor_id=None, now=uow.now)


def _do_fields(uow: UnitOfWork, workspace_id: int, wishes: Wishes) -> None:
    if not wishes.fields:
        return
    definitions = list_custom_fields(uow.tx, workspace_id)
    changes: dict[int, FieldChanges] = {}
    for contact_id, values in sorted(wishes.fields.items()):
        standard = {API_NAMES[name]: value for name, value in values.items() if name in API_NAMES}
        custom = {name.removeprefix("fields."): value for name, value in values.items() if name.startswith("fields.")}
        try:
            changes[contact_id] = read_changes(standard, custom, definitions)
        except Invalid:
            # A value that does not fit the field, or a field that is gone: the contact stays as it is.
            continue
    changed = update_contacts(uow, Editor(workspace_id, SOURCE), changes, starts_automation=False)
    alike: defaultdict[tuple[tuple[str, ...], int], list[int]] = defaultdict(list)
    for contact_id in sorted(changed):
        alike[tuple(sorted(wishes.fields[contact_id])), wishes.field_depths[contact_id] + 1].append(contact_id)
    uow.add_jobs(
        [ReactToFields(workspace_id, names, tuple(ids), depth) for (names, depth), ids in sorted(alike.items())]
    )


def _do_assignees(uow: UnitOfWork, workspace_id: int, wishes: Wishes) -> None:
    groups: defaultdict[int | None, list[int]] = defaultdict(list)
    for contact_id, user_id in wishes.assignees.items():
        groups[user_id].append(contact_id)
    for user_id, contact_ids in groups.items():
        changed = contact_edits.set_assignee(uow.tx, workspace_id, sorted(contact_ids), user_id, uow.now)
        events = [NewEvent(contact_id, {"user_id": user_id}) for contact_id in sorted(changed)]
        contact_edits.add_contact_events(
            uow.tx, workspace_id, "contact.assignee_changed", events, source=SOURCE, actor_id=None, now=uow.now
        )


def _do_conversations(uow: UnitOfWork, workspace_id: int, wishes: Wishes) -> None:
    depths = {contact_id: depth for contact_id, (*_, depth) in wishes.conversations.items()}
    opening = sorted(key for key, (act, *_) in wishes.conversations.items() if act == "open")
    closed_now = list_closed(uow.tx, workspace_id, opening) if opening else []
    if opening:
        woken = conversation_edits.wake(uow.tx, workspace_id, opening, uow.now)
        _tell_conversations(uow, workspace_id, "conversation.unsnoozed", woken, depths)
    if closed_now:
        opened = conversation_edits.open_by_hand(uow.tx, workspace_id, closed_now, SOURCE, uow.now)
        _tell_conversations(uow, workspace_id, "conversation.opened", opened, depths)
    groups: defaultdict[tuple[str | None, str | None], list[int]] = defaultdict(list)
    for contact_id, (act, category, summary, _) in wishes.conversations.items():
        if act == "close":
            groups[category, summary].append(contact_id)
    for (category, summary), contact_ids in groups.items():
        closing = Closing(SOURCE, None, category, summary)
        closed = conversation_edits.close_by_hand(uow.tx, workspace_id, sorted(contact_ids), closing, uow.now)
        _tell_conversations(uow, workspace_id, "conversation.closed", closed, depths)


def _tell_conversations(
    uow: UnitOfWork, workspace_id: int, kind: str, changed: Sequence[tuple[int, int]], depths: Mapping[int, int]
) -> None:
    events = [NewEvent(contact_id, {}, conversation_id) for contact_id, conversation_id in changed]
    contact_edits.add_contact_events(uow.tx, workspace_id, kind, events, source=SOURCE, actor_id=None, now=uow.now)
    if kind == "conversation.unsnoozed":
        return
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for contact_id, conversation_id in changed:
        groups[depths[contact_id] + 1].append(conversation_id)
    trigger = kind.replace(".", "_")
    uow.add_jobs(
        [ReactToConversations(workspace_id, trigger, SOURCE, tuple(ids), depth) for depth, ids in groups.items()]
    )
