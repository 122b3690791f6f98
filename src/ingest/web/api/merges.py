"""Merging contacts, undoing it, taking them apart again, and the history of all that."""

from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from ingest.domain.access import may
from ingest.domain.actors import Actor
from ingest.domain.fields import FieldChanges
from ingest.domain.merges import Obstacle
from ingest.domain.refusals import NotFound
from ingest.pipeline.merge import MergePreview, MergeRequest, merge_contacts, preview_merge
from ingest.pipeline.unmerge import undo_merge, unmerge_contact
from ingest.store.contacts import lock_contacts
from ingest.store.merges import Record, find_last_record, list_absorbed, list_history
from ingest.store.suggestions import list_open_suggestions
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.paging import BIGGEST, Page, Paging, make_page
from ingest.web.api.requests import ContactFields, Id, RequestShape, read_fields
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import ContactAnswer, Shape, seconds

router = make_router("Merge")

MergeId = Annotated[int, Path(ge=1, lt=BIGGEST)]


class MergeBody(ContactFields):
    """Which contact is kept, which is absorbed, and values that win over both."""

    contact_ids: Annotated[list[Id], Field(min_length=2, max_length=2, description="[keep, absorb]")]
    acknowledge_no_shared_key: bool | None = Field(
        None, description="false: refuse where the two share no phone or email; absent: as the role allows."
    )


class MergeAnswer(ContactAnswer):
    """The merge has happened: `contactId` is the kept contact, `mergeId` the handle for undo."""

    merge_id: int
    merged_contact_id: int


def actor_of(call: Call) -> Actor:
    """Return who does it."""
    return Actor(call.principal.source, call.principal.user_id)


def chosen_values(changes: FieldChanges) -> dict[str, Any]:
    """Return checked values by the names that merges know them by."""
    return {**changes.columns, **{f"fields.{key}": value for key, value in changes.custom.items()}}


def _request(call: Call, body: MergeBody, suggestion_id: int | None = None) -> MergeRequest:
    """Return the request, for contacts that whoever asks may see. Raises NotFound for the others."""
    kept_id, absorbed_id = body.contact_ids
    _require_visible(call, [kept_id, absorbed_id])
    is_limited = not may(call.principal, "contact.merge_any") or body.acknowledge_no_shared_key is False
    return MergeRequest(
        call.workspace_id,
        kept_id,
        absorbed_id,
        chosen_values(read_fields(call, body)),
        actor_of(call),
        needs_shared_key=is_limited,
        suggestion_id=suggestion_id,
    )


def _require_visible(call: Call, ids: list[int]) -> None:
    """Raise NotFound for a contact that whoever asks may not see. Absorbed and deleted ones are told apart later."""
    found = lock_contacts(call.tx, [(call.workspace_id, each) for each in ids])
    for contact_id in ids:
        if contact_id not in found:
            raise NotFound("Contact not found", word="contact_not_found", field="contactIds")
        if found[contact_id].is_live:
            find_contact(call, f"id:{contact_id}")


@endpoint(router, "POST", "/contact/merge", "contact.merge")
def merge_two_contacts(call: Call, body: MergeBody) -> MergeAnswer:
    """Merge the second contact into the first, which stays. Repeating it returns the first result."""
    merged = merge_contacts(call.uow, _request(call, body))
    call.audit("contact.merge", merged.kept_id, merged.absorbed_id, merge_id=merged.merge_id)
    return MergeAnswer(contact_id=merged.kept_id, merge_id=merged.merge_id, merged_contact_id=merged.absorbed_id)


class ObstacleShape(Shape):
    """A reason against the merge."""

    error: Obstacle
    about: int | None = Field(description="The contact it is about, or that it went into.")


class FieldChangeShape(Shape):
    """What the merge would make of a field."""

    field: str
    before: Any
    after: Any


class PreviewShape(Shape):
    """What a merge would do. `obstacles` empty: it can be done."""

    obstacles: list[ObstacleShape]
    shared_keys: list[str]
    changes: list[FieldChangeShape]
    added_tag_ids: list[int]
    moving: dict[str, int] = Field(description="Rows that would move, by kind.")
    status: str | None = Field(description="The conversation status of the merged contact.")
    closed_conversation_id: int | None = Field(description="The conversation that the merge would close.")


def _read_preview(preview: MergePreview) -> PreviewShape:
    plan = preview.plan
    changes = plan.changes.items() if plan is not None else ()
    return PreviewShape(
        obstacles=[ObstacleShape(error=error, about=about) for error, about in preview.obstacles],
        shared_keys=list(preview.shared_keys),
        changes=[FieldChangeShape(field=name, before=each.before, after=each.after) for name, each in changes],
        added_tag_ids=list(plan.added_tag_ids) if plan is not None else [],
        moving=dict(preview.moving_counts),
        status=plan.conversation.status if plan is not None else None,
        closed_conversation_id=plan.conversation.closed_id if plan is not None else None,
    )


@endpoint(router, "POST", "/contact/merge/preview", "contact.merge", own=True)
def preview_merge_of_two(call: Call, body: MergeBody) -> PreviewShape:
    """Return what the merge would do and every reason against it, without doing it."""
    return _read_preview(preview_merge(call.uow, _request(call, body)))


class SuggestionMerge(ContactFields):
    """Which of the two is kept, and values that win over both."""

    keep: Id | None = Field(None, description="The contact that stays; absent: the older one.")


@endpoint(router, "POST", "/suggestion/{suggestion_id}/merge", "contact.merge", own=True)
def merge_suggestion(
    call: Call, suggestion_id: Annotated[int, Path(ge=1, lt=BIGGEST)], body: SuggestionMerge
) -> MergeAnswer:
    """Merge the two contacts of an open suggestion."""
    found = list_open_suggestions(call.tx, call.workspace_id, suggestion_id - 1, 1)
    if not found or found[0].id != suggestion_id:
        raise NotFound("Suggestion not found", word="suggestion_not_found", field="id")
    kept_id = body.keep if body.keep is not None else min(found[0].pair)
    others = [each for each in found[0].pair if each != kept_id]
    if len(others) != 1:
        raise NotFound("Contact not found", word="contact_not_found", field="keep")
    _require_visible(call, [kept_id, *others])
    request = MergeRequest(
        call.workspace_id,
        kept_id,
        others[0],
        chosen_values(read_fields(call, body)),
        actor_of(call),
        suggestion_id=suggestion_id,
    )
    merged = merge_contacts(call.uow, request)
    call.audit("contact.merge", kept_id, others[0], merge_id=merged.merge_id, suggestion_id=suggestion_id)
    return MergeAnswer(contact_id=kept_id, merge_id=merged.merge_id, merged_contact_id=others[0])


@endpoint(router, "POST", "/merge/{merge_id}/undo", "contact.undo_merge", own=True)
def undo_merge_of_two(call: Call, merge_id: MergeId) -> ContactAnswer:
    """Undo a merge within ten minutes, as long as nothing new came to the contact. Agents undo their own."""
    undone = undo_merge(
        call.uow, call.workspace_id, merge_id, actor_of(call), may_undo_any=may(call.principal, "contact.unmerge")
    )
    call.audit("contact.undo_merge", undone.kept_id, undone.absorbed_id, merge_id=merge_id)
    return ContactAnswer(contact_id=undone.kept_id)


class UnmergeBody(RequestShape):
    """Which contact is taken out."""

    contact_id: Id


@endpoint(router, "POST", "/contact/{identifier}/unmerge", "contact.unmerge", own=True)
def unmerge_from_contact(call: Call, identifier: IdentifierPath, body: UnmergeBody) -> MergeAnswer:
    """Take a contact that was merged into this one out again, at once. What came after the merge stays."""
    kept_id = _kept_by(call, identifier, body.contact_id)
    parted = unmerge_contact(call.uow, call.workspace_id, kept_id, body.contact_id, actor_of(call))
    call.audit("contact.unmerge", kept_id, body.contact_id, merge_id=parted.merge_id)
    return MergeAnswer(contact_id=kept_id, merge_id=parted.merge_id, merged_contact_id=body.contact_id)


def _kept_by(call: Call, identifier: str, absorbed_id: int) -> int:
    """Return the contact to take it out of. One that is itself absorbed is named as it is, so that it can be told so."""
    contact = find_contact(call, identifier)
    plain = identifier.removeprefix("id:")
    if (
        plain.isdigit()
        and int(plain) != contact.id
        and find_last_record(call.tx, call.workspace_id, int(plain), absorbed_id)
    ):
        return int(plain)
    return contact.id


class AbsorbedShape(Shape):
    """A contact that can be taken out."""

    id: int
    name: str
    merge_id: int
    merged_at: int
    channel_ids: list[int] = Field(description="Channels that came with it and are still there.")


@endpoint(router, "GET", "/contact/{identifier}/merged/list", "contact.unmerge", own=True)
def list_merged_into_contact(call: Call, identifier: IdentifierPath) -> list[AbsorbedShape]:
    """Return the contacts that were merged into this one and can be taken out, oldest merge first."""
    contact = find_contact(call, identifier)
    return [_read_absorbed(row) for row in list_absorbed(call.tx, call.workspace_id, contact.id)]


def _read_absorbed(row: Record) -> AbsorbedShape:
    full_name = " ".join(filter(None, (row.first_name, row.last_name)))
    return AbsorbedShape(
        id=row.id,
        name=full_name or row.display_name or row.phone or row.email or f"Contact {row.id}",
        merge_id=row.merge_id,
        merged_at=seconds(row.merged_at) or 0,
        channel_ids=list(row.channel_ids),
    )


class MergeShape(Shape):
    """A merge in the history. Times are unix seconds."""

    id: int
    kept_contact_id: int
    merged_contact_id: int
    state: str = Field(description="active, undone or unmerged.")
    source: str
    user_id: int | None
    rule_id: int | None
    suggestion_id: int | None
    merged_at: int
    ended_at: int | None
    ended_by_user_id: int | None
    chosen: dict[str, Any]
    changes: list[FieldChangeShape]
    moved: dict[str, int]


def _read_merge(row: Record) -> MergeShape:
    return MergeShape(
        id=row.id,
        kept_contact_id=row.kept_contact_id,
        merged_contact_id=row.absorbed_contact_id,
        state=row.state,
        source=row.source,
        user_id=row.actor_id,
        rule_id=row.rule_id,
        suggestion_id=row.suggestion_id,
        merged_at=seconds(row.merged_at) or 0,
        ended_at=seconds(row.ended_at),
        ended_by_user_id=row.ended_by,
        chosen=row.chosen,
        changes=[
            FieldChangeShape(field=name, before=each["before"], after=each["after"])
            for name, each in row.changes.items()
        ],
        moved=row.moved_counts,
    )


def _history(call: Call, page: Paging, contact_id: int | None) -> Page[MergeShape]:
    rows = list_history(
        call.tx, call.workspace_id, contact_id=contact_id, before_id=page.cursor or None, limit=page.limit + 1
    )
    answer = make_page(call, page, rows, lambda row: row.id, _read_merge)
    # The history is read from the newest on only.
    answer.pagination.previous = None
    return answer


@endpoint(router, "GET", "/merge/list", "contact.merge_history", own=True)
def list_merges(call: Call, page: Paging) -> Page[MergeShape]:
    """Return the workspace's merges, newest first."""
    return _history(call, page, None)


@endpoint(router, "GET", "/contact/{identifier}/merge/list", "contact.merge_history", own=True)
def list_merges_of_contact(call: Call, identifier: IdentifierPath, page: Paging) -> Page[MergeShape]:
    """Return the contact's merges, newest first."""
    return _history(call, page, find_contact(call, identifier).id)
