"""Our calls that set up a workspace: users, teams' restrictions, tokens, lifecycle stages, closing notes, field order."""

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import Path
from pydantic import Field

from ingest.domain.access import RESTRICTIONS
from ingest.domain.fields import DEFAULT_ORDER, read_email
from ingest.domain.refusals import Conflict, Invalid, NotFound
from ingest.pipeline.administer import create_token
from ingest.store import lifecycles, users
from ingest.store.audit_views import AuditEntry, list_audit_entries
from ingest.store.closing_notes import add_closing_note
from ingest.store.custom_fields import list_custom_fields, order_custom_fields
from ingest.store.field_order import get_field_order, set_field_order
from ingest.store.token_lists import Token, count_tokens, list_tokens, revoke_token
from ingest.web.api.access import Call
from ingest.web.api.paging import BIGGEST, Page, Paging, make_page
from ingest.web.api.requests import Id, RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import CodeAnswer, Shape, seconds
from ingest.web.api.workspace import ClosingNoteShape, UserShape, read_closing_note, read_user_shape

router = make_router("Administration")

Number = Annotated[int, Path(ge=1, lt=BIGGEST)]
RoleName = Literal["owner", "manager", "agent"]
MAX_TOKENS = 10


class NewUser(RequestShape):
    """A user to add."""

    email: str = Field(max_length=320)
    first_name: str = Field("", max_length=255)
    last_name: str = Field("", max_length=255)
    role: RoleName = "agent"
    restrictions: list[str] = Field(default_factory=list, max_length=20)


class UserChange(RequestShape):
    """New values of a user. Absent ones stay."""

    first_name: str | None = Field(None, max_length=255)
    last_name: str | None = Field(None, max_length=255)
    role: RoleName | None = None
    restrictions: list[str] | None = Field(None, max_length=20)


def _check_restrictions(given: list[str]) -> list[str]:
    unknown = sorted(set(given) - set(RESTRICTIONS))
    if unknown:
        raise Invalid(f"no restriction {unknown[0][:50]!r}", field="restrictions")
    return sorted(set(given))


@endpoint(router, "POST", "/space/user", "workspace.users", own=True)
def create_user(call: Call, body: NewUser) -> UserShape:
    """Add a user to the workspace. Only an owner may add an owner."""
    _may_make(call, body.role)
    user_id = users.add_user(
        call.tx,
        call.workspace_id,
        first_name=body.first_name,
        last_name=body.last_name,
        email=read_email(body.email).address,
        role=body.role,
        restrictions=_check_restrictions(body.restrictions),
    )
    if user_id is None:
        raise Conflict("a user with this email exists", word="user_exists", field="email")
    call.audit("workspace.users", user_id, role=body.role)
    return read_user_shape(_lock(call, user_id))


def _may_make(call: Call, role: str | None) -> None:
    if role == "owner" and call.principal.role != "owner":
        raise Invalid("only an owner may make an owner", field="role", word="forbidden_role")


def _lock(call: Call, user_id: int) -> users.User:
    found = users.lock_user(call.tx, call.workspace_id, user_id)
    if found is None:
        raise NotFound("User not found", word="user_not_found", field="id")
    return found


def _refuse_last_owner(call: Call, user: users.User) -> None:
    if user.role != "owner":
        return
    if call.principal.role != "owner":
        raise Invalid("only an owner may change an owner", field="role", word="forbidden_role")
    if users.lock_owners(call.tx, call.workspace_id) == [user.id]:
        raise Conflict("a workspace keeps at least one owner", word="last_owner")


@endpoint(router, "PUT", "/space/user/{user_id}", "workspace.users", own=True)
def update_user(call: Call, user_id: Number, body: UserChange) -> UserShape:
    """Change a user's names, role or restrictions. The last owner stays one."""
    user = _lock(call, user_id)
    _may_make(call, body.role)
    if body.role is not None and body.role != user.role:
        _refuse_last_owner(call, user)
    changed = replace(
        user,
        first_name=user.first_name if body.first_name is None else body.first_name,
        last_name=user.last_name if body.last_name is None else body.last_name,
        role=body.role or user.role,
        restrictions=user.restrictions if body.restrictions is None else _check_restrictions(body.restrictions),
    )
    users.change_user(call.tx, call.workspace_id, changed)
    call.audit("workspace.users", user_id, role=changed.role)
    return read_user_shape(changed)


@endpoint(router, "DELETE", "/space/user/{user_id}", "workspace.users", own=True)
def delete_user(call: Call, user_id: Number) -> CodeAnswer:
    """Remove a user; their tokens stop working. The last owner cannot be removed."""
    user = _lock(call, user_id)
    _refuse_last_owner(call, user)
    users.remove_user(call.tx, call.workspace_id, user_id)
    call.audit("workspace.users", user_id, removed=True)
    return CodeAnswer(message="User removed")


class TokenShape(Shape):
    """A token, without its secret."""

    id: int
    name: str
    role: str
    user_id: int | None
    created_at: int = Field(alias="created_at")
    last_used_on: str | None
    is_revoked: bool


def _read_token(token: Token) -> TokenShape:
    return TokenShape(
        id=token.id,
        name=token.name,
        role=token.role,
        user_id=token.user_id,
        created_at=seconds(token.created_at) or 0,
        last_used_on=token.last_used_on.isoformat() if token.last_used_on else None,
        is_revoked=token.revoked_at is not None,
    )


@endpoint(router, "GET", "/space/token", "workspace.tokens", own=True)
def list_workspace_tokens(call: Call, page: Paging) -> Page[TokenShape]:
    """Return the tokens of the workspace. What they are is shown once, when they are made."""
    rows = list_tokens(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, _read_token)


class NewToken(RequestShape):
    """A token to make."""

    name: str = Field("", max_length=100, description="n8n, make or zapier: changes are recorded under that source.")
    role: RoleName = "owner"


class MadeToken(Shape):
    """The token itself: shown this once, and kept nowhere."""

    token: str


@endpoint(router, "POST", "/space/token", "workspace.tokens", own=True)
def create_workspace_token(call: Call, body: NewToken) -> MadeToken:
    """Make a token; a workspace has at most 10 that are not revoked."""
    if count_tokens(call.tx, call.workspace_id) >= MAX_TOKENS:
        raise Conflict(f"at most {MAX_TOKENS} tokens: revoke one first", word="too_many_tokens")
    token = create_token(call.tx, call.workspace_id, body.role, body.name, call.secret_key)
    call.audit("workspace.tokens", made=body.role)
    return MadeToken(token=token)


@endpoint(router, "DELETE", "/space/token/{token_id}", "workspace.tokens", own=True)
def revoke_workspace_token(call: Call, token_id: Number) -> CodeAnswer:
    """Revoke a token: within a second it works no more."""
    if not revoke_token(call.tx, call.workspace_id, token_id):
        raise NotFound("Token not found", word="token_not_found", field="id")
    call.audit("workspace.tokens", token_id, revoked=True)
    return CodeAnswer(message="Token revoked")


class StageShape(Shape):
    """A stage of the lifecycle."""

    id: int
    name: str
    position: int


class NewStage(RequestShape):
    """A stage to add behind the others."""

    name: str = Field(min_length=1, max_length=255)


@endpoint(router, "GET", "/space/lifecycle", "workspace.read", own=True)
def list_lifecycle(call: Call) -> list[StageShape]:
    """Return the stages of the lifecycle, first to last."""
    found = lifecycles.list_stages(call.tx, call.workspace_id)
    return [StageShape(id=each.id, name=each.name, position=each.position) for each in found]


@endpoint(router, "POST", "/space/lifecycle", "workspace.configure", own=True)
def create_stage(call: Call, body: NewStage) -> StageShape:
    """Add a stage behind the others."""
    stage = lifecycles.add_stage(call.tx, call.workspace_id, body.name.strip()) if body.name.strip() else None
    if stage is None:
        raise Conflict("a stage needs a name that no other has", word="stage_exists", field="name")
    return StageShape(id=stage.id, name=stage.name, position=stage.position)


@endpoint(router, "DELETE", "/space/lifecycle/{stage_id}", "workspace.configure", own=True)
def delete_stage(call: Call, stage_id: Number) -> CodeAnswer:
    """Remove a stage that no contact is in."""
    if lifecycles.is_stage_used(call.tx, call.workspace_id, stage_id):
        raise Conflict("contacts are in this stage", word="stage_in_use")
    if not lifecycles.remove_stage(call.tx, call.workspace_id, stage_id):
        raise NotFound("Stage not found", word="stage_not_found", field="id")
    return CodeAnswer(message="Stage removed")


class NewClosingNote(RequestShape):
    """A category to add."""

    category: str = Field(min_length=1, max_length=128)
    description: str = Field("", max_length=255)
    content: str | None = Field(None, max_length=512)


@endpoint(router, "POST", "/space/closing_notes", "workspace.configure", own=True)
def create_closing_note(call: Call, body: NewClosingNote) -> ClosingNoteShape:
    """Add a category for closing conversations."""
    note = add_closing_note(call.tx, call.workspace_id, body.category, body.description, body.content)
    if note is None:
        raise Conflict("this category exists", word="category_exists", field="category")
    return read_closing_note(note)


class FieldOrder(RequestShape):
    """The order in which a contact's fields are shown: standard names and ids of custom fields."""

    standard: list[str] | None = Field(None, max_length=20)
    custom: list[Id] | None = Field(None, max_length=1000)


class FieldOrderShape(Shape):
    """The order in which a contact's fields are shown."""

    standard: list[str]
    custom: list[int]


def _field_order(call: Call) -> FieldOrderShape:
    stored = get_field_order(call.tx, call.workspace_id)
    custom = [each.id for each in list_custom_fields(call.tx, call.workspace_id)]
    return FieldOrderShape(standard=stored or list(DEFAULT_ORDER), custom=custom)


@endpoint(router, "GET", "/space/field_order", "workspace.read", own=True)
def get_order_of_fields(call: Call) -> FieldOrderShape:
    """Return the order in which a contact's fields are shown."""
    return _field_order(call)


@endpoint(router, "PUT", "/space/field_order", "workspace.configure", own=True)
def set_order_of_fields(call: Call, body: FieldOrder) -> FieldOrderShape:
    """Set the order in which a contact's fields are shown; each list names all of its fields."""
    if body.standard is not None:
        if sorted(body.standard) != sorted(DEFAULT_ORDER):
            raise Invalid(f"each of {', '.join(DEFAULT_ORDER)} once", field="standard")
        set_field_order(call.tx, call.workspace_id, body.standard)
    if body.custom is not None:
        if sorted(body.custom) != sorted(each.id for each in list_custom_fields(call.tx, call.workspace_id)):
            raise Invalid("the id of each custom field once", field="custom")
        order_custom_fields(call.tx, call.workspace_id, body.custom)
    return _field_order(call)


class AuditShape(Shape):
    """A line of the audit log."""

    id: int
    at: int
    source: str
    user_id: int | None
    token_id: int | None
    role: str | None
    action: str
    outcome: str
    target_ids: list[int]
    data: dict[str, object]
    hash: str


def _read_audit(entry: AuditEntry) -> AuditShape:
    return AuditShape(
        id=entry.id,
        at=seconds(entry.at) or 0,
        source=entry.source,
        user_id=entry.user_id,
        token_id=entry.token_id,
        role=entry.role,
        action=entry.action,
        outcome=entry.outcome,
        target_ids=entry.target_ids,
        data=entry.data,
        hash=entry.hash.hex(),
    )


@endpoint(router, "GET", "/audit", "audit.read", own=True)
def list_audit_log(call: Call, page: Paging) -> Page[AuditShape]:
    """Return who did what to whom, newest first. Each line's hash covers the line before it."""
    rows = list_audit_entries(call.tx, call.workspace_id, page.cursor, page.limit + 1)
    return make_page(call, page, rows, lambda row: row.id, _read_audit)
