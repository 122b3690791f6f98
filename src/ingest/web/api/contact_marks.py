"""What is put on a contact: tags, assignee, lifecycle stage, comments; and channels taken off."""

from typing import Annotated, Any

from fastapi import Body, Path
from pydantic import Field

from ingest.domain.refusals import Invalid, NotFound
from ingest.pipeline.contacts import Editor, assign_contacts, move_through_lifecycle
from ingest.pipeline.contacts_channels import remove_channel
from ingest.pipeline.contacts_comments import comment_on_contact
from ingest.pipeline.contacts_tags import MAX_CONTACTS, read_tag_names, tag_contacts, untag_contacts
from ingest.store.comments import Comment, list_comments
from ingest.store.lifecycles import find_stage
from ingest.store.users import find_user, find_user_by_email
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.paging import BIGGEST, Page, Paging, make_page
from ingest.web.api.requests import Id, RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import CodeAnswer, ContactAnswer, Shape, seconds

router = make_router("Contact")
bulk_router = make_router("Contact")

TagNames = Annotated[list[str], Body(description="1 to 10 names of 1 to 255 characters.", examples=[["vip"]])]


@endpoint(router, "POST", "/contact/{identifier}/tag", "contact.tag")
def add_tags(call: Call, identifier: IdentifierPath, body: TagNames) -> ContactAnswer:
    """Put tags on the contact. A tag that the workspace does not have is made."""
    names = read_tag_names(body)
    contact = find_contact(call, identifier)
    tag_contacts(call.uow, Editor.of(call.principal), [contact.id], names)
    return ContactAnswer(contact_id=contact.id)


@endpoint(router, "DELETE", "/contact/{identifier}/tag", "contact.tag")
def remove_tags(call: Call, identifier: IdentifierPath, body: TagNames) -> ContactAnswer:
    """Take tags off the contact. They stay in the workspace; one that the contact does not have is no error."""
    names = read_tag_names(body)
    contact = find_contact(call, identifier)
    untag_contacts(call.uow, Editor.of(call.principal), [contact.id], names)
    return ContactAnswer(contact_id=contact.id)


class BulkTags(RequestShape):
    """Tags for several contacts."""

    contact_ids: list[Id] = Field(min_length=1, max_length=MAX_CONTACTS)
    tags: list[str]


class BulkAnswer(Shape):
    """How many contacts are different now."""

    contact_ids: list[int]
    changed: int


@endpoint(bulk_router, "POST", "/contact/bulk/tag", "contact.bulk", own=True)
def tag_several(call: Call, body: BulkTags) -> BulkAnswer:
    """Put tags on at most 100 contacts, or on none when one of them does not exist."""
    changed = tag_contacts(call.uow, Editor.of(call.principal), body.contact_ids, read_tag_names(body.tags))
    return BulkAnswer(contact_ids=body.contact_ids, changed=len(changed))


@endpoint(bulk_router, "DELETE", "/contact/bulk/tag", "contact.bulk", own=True)
def untag_several(call: Call, body: BulkTags) -> BulkAnswer:
    """Take tags off at most 100 contacts."""
    changed = untag_contacts(call.uow, Editor.of(call.principal), body.contact_ids, read_tag_names(body.tags))
    return BulkAnswer(contact_ids=body.contact_ids, changed=len(changed))


class LifecycleUpdate(RequestShape):
    """The stage to move to; null for none."""

    name: str | None = Field(max_length=255)


@endpoint(router, "POST", "/contact/{identifier}/lifecycle/update", "contact.edit")
def update_lifecycle(call: Call, identifier: IdentifierPath, body: LifecycleUpdate | None) -> CodeAnswer:
    """Move the contact to a stage of the lifecycle. `null`, bare or as name, takes it out of all."""
    contact = find_contact(call, identifier)
    name = body.name if body is not None else None
    stage = find_stage(call.tx, call.workspace_id, name) if name is not None else None
    if name is not None and stage is None:
        raise Invalid("there is no such lifecycle stage", field="name", word="unknown_lifecycle")
    move_through_lifecycle(call.uow, Editor.of(call.principal), contact.id, stage.id if stage else None)
    return CodeAnswer(message="Lifecycle updated successfully!")


class AssigneeUpdate(RequestShape):
    """Who the contact is assigned to."""

    assignee: int | str | None = Field(description="User id, user email, or null for nobody.")


@endpoint(router, "POST", "/contact/{identifier}/conversation/assignee", "contact.edit")
def update_assignee(call: Call, identifier: IdentifierPath, body: AssigneeUpdate) -> ContactAnswer:
    """Assign the contact to a user of the workspace, or to nobody."""
    contact = find_contact(call, identifier)
    user_id = None if body.assignee is None else read_user(call, body.assignee)
    assign_contacts(call.uow, Editor.of(call.principal), [contact.id], user_id)
    return ContactAnswer(contact_id=contact.id)


def read_user(call: Call, wanted: int | str) -> int:
    """Return the id of the user whose id (as number or digits) or email this is. Raises NotFound."""
    text = str(wanted).strip()
    user = None
    if text.isascii() and text.isdigit() and int(text) < BIGGEST:
        user = find_user(call.tx, call.workspace_id, int(text))
    elif "@" in text:
        user = find_user_by_email(call.tx, call.workspace_id, text)
    if user is None:
        raise NotFound("User not found", word="user_not_found", field="assignee")
    return user.id


class CommentRequest(RequestShape):
    """What to say."""

    text: str = Field(min_length=1, max_length=1000, description="`{{@user.ID}}` mentions a user.")


class CommentShape(Shape):
    """A comment on a contact."""

    id: int
    contact_id: int
    text: str
    author_id: int | None
    mentioned_user_ids: list[int]
    created_at: int = Field(alias="created_at")


def read_comment(comment: Comment) -> CommentShape:
    """Return the comment as clients read it."""
    given: dict[str, Any] = {
        "id": comment.id,
        "contact_id": comment.contact_id,
        "text": comment.text,
        "author_id": comment.author_id,
        "mentioned_user_ids": comment.mentioned_user_ids,
        "created_at": seconds(comment.created_at),
    }
    return CommentShape(**given)


@endpoint(router, "POST", "/contact/{identifier}/comment", "contact.comment")
def add_comment_to_contact(call: Call, identifier: IdentifierPath, body: CommentRequest) -> CommentShape:
    """Add a comment, which only users of the workspace see."""
    contact = find_contact(call, identifier)
    return read_comment(comment_on_contact(call.uow, Editor.of(call.principal), contact.id, body.text))


@endpoint(router, "GET", "/contact/{identifier}/comment/list", "contact.read", own=True)
def list_comments_of_contact(call: Call, identifier: IdentifierPath, page: Paging) -> Page[CommentShape]:
    """Return the contact's comments, newest first."""
    contact = find_contact(call, identifier)
    rows = list_comments(call.tx, call.workspace_id, contact.id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, read_comment)


@endpoint(router, "DELETE", "/contact/{identifier}/channels/{channel_id}", "contact.remove_channel", own=True)
def remove_channel_of_contact(
    call: Call, identifier: IdentifierPath, channel_id: Annotated[int, Path(ge=1, lt=BIGGEST)]
) -> ContactAnswer:
    """Take a channel off the contact. Its messages stay; the next message from there makes a new contact."""
    contact = find_contact(call, identifier)
    remove_channel(call.uow, Editor.of(call.principal), contact.id, channel_id)
    call.audit("contact.remove_channel", contact.id, channel_id=channel_id)
    return ContactAnswer(contact_id=contact.id)
