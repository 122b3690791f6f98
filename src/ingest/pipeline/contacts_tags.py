"""Tags put on contacts and taken off: unknown ones are made, removal keeps the tag in the workspace."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Literal

from ingest.domain.refusals import Invalid
from ingest.jobs.act_types import ReactToTags
from ingest.pipeline.contacts import Editor, lock_all_live
from ingest.store import tags as rows
from ingest.store.contact_edits import NewEvent, add_contact_events
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.workflow_interest import list_interested

MAX_TAG_NAME = 255
MAX_CONTACTS = 100
EVENTS: dict[str, str] = {"add": "tag.added", "remove": "tag.removed"}


def read_tag_names(names: Sequence[str], at_most: int = 10) -> list[str]:
    """Return the names, trimmed, each once. Raises Invalid for none, too many, or one that is too long or empty."""
    if not 1 <= len(names) <= at_most:
        raise Invalid(f"1 to {at_most} tags", field="body")
    trimmed = [name.strip() for name in names]
    if any(not 1 <= len(name) <= MAX_TAG_NAME for name in trimmed):
        raise Invalid(f"a tag has 1 to {MAX_TAG_NAME} characters", field="body")
    return list({name.lower(): name for name in reversed(trimmed)}.values())[::-1]


def tag_contacts(uow: UnitOfWork, editor: Editor, ids: Collection[int], names: Sequence[str]) -> set[int]:
    """Put the tags on the contacts; return the ids of those that lacked one. A tag that does not exist is made.

    Raises NotFound unless all contacts are live: then nothing is tagged.
    """
    lock_all_live(uow, editor.workspace_id, ids)
    tags = rows.ensure_tags(uow.tx, editor.workspace_id, names)
    changed = rows.put_tags_on(
        uow.tx,
        editor.workspace_id,
        sorted(set(ids)),
        [tag.id for tag in tags.values()],
        source=editor.source,
        now=uow.now,
    )
    tell_tags(uow, editor, "add", changed)
    return {contact_id for contact_id, _ in changed}


def untag_contacts(uow: UnitOfWork, editor: Editor, ids: Collection[int], names: Sequence[str]) -> set[int]:
    """Take the tags off the contacts; return the ids of those that had one. The tags stay in the workspace."""
    lock_all_live(uow, editor.workspace_id, ids)
    tags = rows.find_tags(uow.tx, editor.workspace_id, names)
    tag_ids = [tag.id for tag in tags.values()]
    changed = rows.take_tags_off(uow.tx, editor.workspace_id, sorted(set(ids)), tag_ids)
    tell_tags(uow, editor, "remove", changed)
    return {contact_id for contact_id, _ in changed}


def tell_tags(
    uow: UnitOfWork, editor: Editor, action: Literal["add", "remove"], changed: Sequence[tuple[int, int]]
) -> None:
    """Write the timeline of (contact, tag) pairs that changed, and start the workflows that wait for it."""
    events = [NewEvent(contact_id, {"tag_id": tag_id}) for contact_id, tag_id in changed]
    add_contact_events(
        uow.tx,
        editor.workspace_id,
        EVENTS[action],
        events,
        source=editor.source,
        actor_id=editor.user_id,
        now=uow.now,
    )
    if not changed or not list_interested(uow.tx, [editor.workspace_id]):
        return
    contacts_of: defaultdict[int, list[int]] = defaultdict(list)
    for contact_id, tag_id in changed:
        contacts_of[tag_id].append(contact_id)
    uow.add_jobs([ReactToTags(editor.workspace_id, tag_id, action, tuple(ids)) for tag_id, ids in contacts_of.items()])
