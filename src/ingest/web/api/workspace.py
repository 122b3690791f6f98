"""Calls about the workspace that clients of the contract make: users, channels, custom fields, closing notes, tags."""

import re
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import Field

from ingest.domain.refusals import Conflict, Invalid, NotFound
from ingest.store import tags as tag_rows
from ingest.store.closing_notes import ClosingNote, list_closing_notes
from ingest.store.custom_fields import CustomField, add_custom_field, find_custom_field, list_custom_field_page
from ingest.store.users import User, find_user, list_users
from ingest.store.views.channels import list_channels
from ingest.web.api.access import Call
from ingest.web.api.paging import BIGGEST, Page, Pagination, Paging, make_page
from ingest.web.api.requests import RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import ChannelShape, CodeAnswer, Shape, read_channel, seconds

router = make_router("Workspace")

Number = Annotated[int, Path(ge=1, lt=BIGGEST)]
NOT_SLUG = re.compile(r"[^A-Za-z0-9_]+")


class TeamShape(Shape):
    """A team."""

    id: int
    name: str


class UserShape(Shape):
    """A user of the workspace."""

    id: int
    first_name: str
    last_name: str
    email: str
    role: str
    team: TeamShape | None
    restrictions: list[str]


def read_user_shape(user: User) -> UserShape:
    """Return the user as clients read it."""
    team = TeamShape(id=user.team_id, name=user.team_name or "") if user.team_id is not None else None
    return UserShape(
        id=user.id,
        first_name=user.first_name,
        last_name=user.last_name,
        email=user.email,
        role=user.role,
        team=team,
        restrictions=user.restrictions,
    )


@endpoint(router, "GET", "/space/user", "workspace.read")
def list_workspace_users(call: Call, page: Paging) -> Page[UserShape]:
    """Return the users of the workspace, without those who are only invited."""
    rows = list_users(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, read_user_shape)


@endpoint(router, "GET", "/space/user/{user_id}", "workspace.read")
def get_workspace_user(call: Call, user_id: Number) -> UserShape:
    """Return one user."""
    user = find_user(call.tx, call.workspace_id, user_id)
    if user is None:
        raise NotFound("User not found", word="user_not_found", field="id")
    return read_user_shape(user)


@endpoint(router, "GET", "/space/channel", "workspace.read")
def list_workspace_channels(call: Call, page: Paging) -> Page[ChannelShape]:
    """Return the channels of the workspace."""
    rows = list_channels(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, read_channel)


def _require_channel(call: Call, channel_id: int) -> None:
    found = list_channels(call.tx, call.workspace_id, channel_id - 1, 1)
    if not found or found[0].id != channel_id:
        raise NotFound("Channel not found", word="channel_not_found", field="channelId")


NO_TEMPLATES: Page[dict[str, Any]] = Page(items=[], pagination=Pagination(next=None, previous=None))


@endpoint(router, "GET", "/space/channel/{channel_id}/template", "workspace.read")
def list_channel_templates(call: Call, channel_id: Number, page: Paging) -> Page[dict[str, Any]]:
    """Return the channel's message templates. They are kept at the provider, so there are none here."""
    _require_channel(call, channel_id)
    return NO_TEMPLATES


@endpoint(router, "GET", "/space/channel/{channel_id}/mtm", "workspace.read")
def list_channel_message_templates(call: Call, channel_id: Number, page: Paging) -> Page[dict[str, Any]]:
    """Return the same as `/template`, under the other name that clients know."""
    _require_channel(call, channel_id)
    return NO_TEMPLATES


@endpoint(router, "GET", "/space/mtm/{template_id}", "workspace.read")
def get_message_template(call: Call, template_id: Number) -> CodeAnswer:
    """Answer 404: templates are kept at the provider."""
    raise NotFound("Template not found", word="template_not_found", field="templateId")


class CustomFieldShape(Shape):
    """A custom field. `allowedValues` is for lists only; clients that expect an object get one."""

    id: int
    name: str
    slug: str
    title: str
    description: str
    data_type: str
    allowed_values: list[str] | dict[str, list[str]] | None
    created_at: int = Field(alias="created_at")


def read_custom_field(call: Call, found: CustomField) -> CustomFieldShape:
    """Return the field as this client reads it."""
    values: list[str] | dict[str, list[str]] | None = found.allowed_values
    if values is not None and call.user_agent.startswith("n8n"):
        values = {"listValues": found.allowed_values or []}
    return CustomFieldShape(
        id=found.id,
        name=found.name,
        slug=found.slug,
        title=found.name,
        description=found.description,
        data_type=found.data_type,
        allowed_values=values,
        created_at=seconds(found.created_at) or 0,
    )


@endpoint(router, "GET", "/space/custom_field", "workspace.read")
def list_workspace_custom_fields(call: Call, page: Paging) -> Page[CustomFieldShape]:
    """Return the custom fields of the workspace."""
    rows = list_custom_field_page(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, lambda row: read_custom_field(call, row))


@endpoint(router, "GET", "/space/custom_field/{field_id}", "workspace.read")
def get_workspace_custom_field(call: Call, field_id: Number) -> CustomFieldShape:
    """Return one custom field."""
    found = find_custom_field(call.tx, call.workspace_id, field_id)
    if found is None:
        raise NotFound("Custom field not found", word="field_not_found", field="id")
    return read_custom_field(call, found)


class NewCustomField(RequestShape):
    """A field to add."""

    name: str = Field(min_length=1, max_length=50)
    slug: str | None = Field(
        None, max_length=50, pattern=r"^[A-Za-z0-9_]+$", description="Made from the name if absent."
    )
    description: str | None = Field(None, max_length=255)
    data_type: Literal["text", "list", "checkbox", "email", "number", "url", "date", "time"]
    allowed_values: list[Annotated[str, Field(min_length=1, max_length=255)]] | None = Field(
        None, max_length=500, description="For lists: what they may hold."
    )


@endpoint(router, "POST", "/space/custom_field", "workspace.configure")
def create_custom_field(call: Call, body: NewCustomField) -> CustomFieldShape:
    """Add a custom field to the workspace."""
    if body.data_type == "list" and not body.allowed_values:
        raise Invalid("a list needs its values", field="allowedValues")
    slug = body.slug or NOT_SLUG.sub("_", body.name.strip().lower()).strip("_") or f"field_{call.now:%Y%m%d%H%M%S}"
    added = add_custom_field(
        call.tx,
        call.workspace_id,
        name=body.name.strip() or slug,
        slug=slug,
        description=body.description or "",
        data_type=body.data_type,
        allowed_values=body.allowed_values if body.data_type == "list" else None,
    )
    if added is None:
        raise Conflict("a custom field of this name or slug exists", word="field_exists", field="name")
    call.audit("workspace.configure", field_id=added.id)
    return read_custom_field(call, added)


class ClosingNoteShape(Shape):
    """A category for closing conversations."""

    id: int
    category: str
    description: str
    content: str | None
    timestamp: int


def read_closing_note(note: ClosingNote) -> ClosingNoteShape:
    """Return the note as clients read it."""
    return ClosingNoteShape(
        id=note.id,
        category=note.category,
        description=note.description,
        content=note.content,
        timestamp=seconds(note.created_at) or 0,
    )


@endpoint(router, "GET", "/space/closing_notes", "workspace.read")
def list_workspace_closing_notes(call: Call, page: Paging) -> Page[ClosingNoteShape]:
    """Return the categories for closing conversations."""
    rows = list_closing_notes(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, read_closing_note)


class TagShape(Shape):
    """A tag of the workspace."""

    id: int
    name: str
    description: str
    color_code: str
    emoji: str
    created_at: int = Field(alias="created_at")
    contact_count: int = 0


class TagAnswer(TagShape):
    """The tag, with what some clients look for beside it."""

    code: int = 200
    message: str


def _tag_fields(tag: tag_rows.Tag) -> dict[str, Any]:
    return {
        "id": tag.id,
        "name": tag.name,
        "description": tag.description,
        "color_code": tag.color_code,
        "emoji": tag.emoji,
        "created_at": seconds(tag.created_at) or 0,
        "contact_count": tag.contact_count,
    }


class NewTag(RequestShape):
    """A tag to add."""

    name: str = Field(min_length=1, max_length=255)
    description: str | None = Field(None, max_length=255)
    color_code: str | None = Field(None, max_length=50)
    emoji: str | None = Field(None, max_length=50)


@endpoint(router, "GET", "/space/tag", "workspace.read", own=True)
def list_workspace_tags(call: Call, page: Paging) -> Page[TagShape]:
    """Return the tags of the workspace with how many contacts have them."""
    rows = tag_rows.list_tags(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, lambda row: TagShape(**_tag_fields(row)))


@endpoint(router, "POST", "/space/tag", "workspace.configure")
def create_tag(call: Call, body: NewTag) -> TagAnswer:
    """Add a tag to the workspace."""
    name = _tag_name(body.name)
    tag = tag_rows.add_tag(
        call.tx,
        call.workspace_id,
        name=name,
        description=body.description or "",
        color_code=body.color_code or "",
        emoji=body.emoji or "",
    )
    if tag is None:
        raise Conflict("a tag of this name exists", word="tag_exists", field="name")
    return TagAnswer(**_tag_fields(tag), message="Tag created successfully!")


def _tag_name(name: str) -> str:
    if not name.strip():
        raise Invalid("a tag needs a name", field="name")
    return name.strip()


class TagChange(RequestShape):
    """New values of a tag. Absent ones stay."""

    current_name: str = Field(min_length=1, max_length=255)
    name: str | None = Field(None, max_length=255)
    description: str | None = Field(None, max_length=255)
    color_code: str | None = Field(None, max_length=50)
    emoji: str | None = Field(None, max_length=50)


def _find_tag(call: Call, name: str, field: str) -> tag_rows.Tag:
    found = tag_rows.find_tags(call.tx, call.workspace_id, [name.strip()]).get(name.strip().lower())
    if found is None:
        raise NotFound("Tag not found", word="tag_not_found", field=field)
    return found


@endpoint(router, "PUT", "/space/tag", "workspace.configure")
def update_tag(call: Call, body: TagChange) -> TagAnswer:
    """Change a tag of the workspace."""
    found = _find_tag(call, body.current_name, "currentName")
    name = _tag_name(body.name) if body.name is not None else None
    taken = tag_rows.find_tags(call.tx, call.workspace_id, [name]) if name else {}
    if any(each.id != found.id for each in taken.values()):
        raise Conflict("a tag of this name exists", word="tag_exists", field="name")
    tag = tag_rows.change_tag(
        call.tx,
        call.workspace_id,
        found.id,
        name=name,
        description=body.description,
        color_code=body.color_code,
        emoji=body.emoji,
    )
    return TagAnswer(**_tag_fields(tag), message="Tag updated successfully!")


class TagName(RequestShape):
    """Which tag."""

    name: str = Field(min_length=1, max_length=255)


@endpoint(router, "DELETE", "/space/tag", "workspace.configure")
def delete_tag(call: Call, body: TagName) -> CodeAnswer:
    """Remove a tag from the workspace and from all contacts."""
    tag_rows.remove_tag(call.tx, call.workspace_id, _find_tag(call, body.name, "name").id)
    return CodeAnswer(message="Tag deleted successfully!")
