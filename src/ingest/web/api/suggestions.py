"""Merge suggestions: on the dashboard for all of a workspace, beside a contact for that one."""

from typing import Annotated

from fastapi import Path
from pydantic import Field

from ingest.domain.access import may, sees_contact
from ingest.domain.refusals import NotFound
from ingest.store.contact_keys import SharedKey, list_shared_keys
from ingest.store.custom_fields import CustomField, list_custom_fields
from ingest.store.suggestions import OpenSuggestion, list_open_suggestions, mark_dismissed
from ingest.store.users import find_user
from ingest.store.views.contacts import ContactView, list_contacts
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.paging import BIGGEST, Page, Paging, make_page
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import CodeAnswer, ContactShape, Shape, read_contact, seconds

router = make_router("Suggestion")

FIELDS = {"tel": "phone", "mailto": "email", "identity": "identity"}


class MatchedKey(Shape):
    """A key that both contacts have: `field` says which, so that it can be marked beside the value."""

    field: str
    value: str
    is_verified: bool


class SuggestionShape(Shape):
    """Two contacts that may be one person. `contacts` is null where whoever asks may not see both."""

    id: int
    contact_ids: list[int]
    kind: str = Field(
        description="exact; probable: the same number by national variants; identity: named by the provider."
    )
    keys: list[MatchedKey]
    opened_at: int
    contacts: list[ContactShape] | None
    needs_manager: bool = Field(description="One of the two is not visible to whoever asks.")


def _read_key(key: str, suggestion: OpenSuggestion) -> MatchedKey:
    scheme, _, value = key.partition(":")
    return MatchedKey(field=FIELDS.get(scheme, scheme), value=value, is_verified=key not in suggestion.unverified_keys)


def _read(
    call: Call, suggestion: OpenSuggestion, contacts: dict[int, ContactView], fields: list[CustomField]
) -> SuggestionShape:
    parties = [contacts[each] for each in suggestion.pair if each in contacts]
    visible = len(parties) == 2 and all(_sees(call, each) for each in parties)
    return SuggestionShape(
        id=suggestion.id,
        contact_ids=list(suggestion.pair) if visible else [],
        kind=suggestion.kind,
        keys=[_read_key(key, suggestion) for key in suggestion.keys] if visible else [],
        opened_at=seconds(suggestion.opened_at) or 0,
        contacts=[read_contact(each, fields) for each in parties] if visible else None,
        needs_manager=not visible,
    )


def _sees(call: Call, contact: ContactView) -> bool:
    assignee_id = contact.assignee["id"] if contact.assignee else None
    if call.principal.role != "agent" or not call.principal.restrictions:
        return True
    user = find_user(call.tx, call.workspace_id, assignee_id) if assignee_id is not None else None
    return sees_contact(call.principal, assignee_id, user.team_id if user else None)


def _page(call: Call, query: Paging, contact_id: int | None = None) -> Page[SuggestionShape]:
    rows = list_open_suggestions(call.tx, call.workspace_id, max(0, query.cursor), query.limit + 1, contact_id)
    ids = sorted({each for row in rows for each in row.pair})
    contacts = {each.id: each for each in list_contacts(call.tx, call.workspace_id, ids)}
    fields = list_custom_fields(call.tx, call.workspace_id)
    page = make_page(call, query, rows, lambda row: row.id, lambda row: _read(call, row, contacts, fields))
    # Suggestions are read forwards only.
    page.pagination.previous = None
    return page


@endpoint(router, "GET", "/suggestion", "dashboard.read", own=True)
def list_suggestions(call: Call, page: Paging) -> Page[SuggestionShape]:
    """Return the open suggestions of the workspace with both contacts, to compare them before merging."""
    return _page(call, page)


@endpoint(router, "GET", "/contact/{identifier}/suggestion/list", "suggestion.read", own=True)
def list_suggestions_of_contact(call: Call, identifier: IdentifierPath, page: Paging) -> Page[SuggestionShape]:
    """Return the open suggestions of the contact."""
    return _page(call, page, find_contact(call, identifier).id)


@endpoint(router, "POST", "/suggestion/{suggestion_id}/dismiss", "suggestion.dismiss", own=True)
def dismiss_suggestion(call: Call, suggestion_id: Annotated[int, Path(ge=1, lt=BIGGEST)]) -> CodeAnswer:
    """Say that the two are different people. Only a new key that they share brings the suggestion back."""
    found = list_open_suggestions(call.tx, call.workspace_id, suggestion_id - 1, 1)
    if not found or found[0].id != suggestion_id:
        raise NotFound("Suggestion not found", word="suggestion_not_found", field="id")
    parties = list_contacts(call.tx, call.workspace_id, found[0].pair)
    if not may(call.principal, "dashboard.read") and not all(_sees(call, each) for each in parties):
        raise NotFound("Suggestion not found", word="suggestion_not_found", field="id")
    mark_dismissed(call.tx, call.workspace_id, suggestion_id, call.principal.user_id, call.now)
    call.audit("suggestion.dismiss", *found[0].pair, suggestion_id=suggestion_id)
    return CodeAnswer(message="Suggestion dismissed")


class SharedKeyShape(Shape):
    """A key that more than ten contacts share: an office line, an info@ address."""

    field: str
    value: str
    contact_count: int


def _read_shared(key: SharedKey) -> SharedKeyShape:
    scheme, _, value = key.match_key.partition(":")
    return SharedKeyShape(field=FIELDS.get(scheme, scheme), value=value, contact_count=key.contact_count)


@endpoint(router, "GET", "/suggestion/shared", "dashboard.read", own=True)
def list_shared(call: Call) -> list[SharedKeyShape]:
    """Return the keys that more than ten contacts share, the most shared first; at most 100."""
    return [_read_shared(each) for each in list_shared_keys(call.tx, call.workspace_id, 100)]
