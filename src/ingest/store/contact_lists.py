"""Lists of contacts: which ids match a filter and a search, in which order, and how many there are.

A query that names a text is first looked up in the index of search terms. Few candidates are then checked one by one;
many mean that matches are dense, and walking the order of the list finds a page of them soon. So a page is quick either
way, whatever is searched for.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, text

from ingest.store.filter_sql import Compiled

# More candidates than this are too many to check one by one, and dense enough to be met on the way.
MAX_CANDIDATES = 10_000
MAX_BRANCH = 2000
LIVE = "contact.workspace_id = :workspace_id and contact.merged_into is null and contact.deletion_job_id is null"

Sort = Literal["id", "name", "createdAt", "lastMessage"]
ORDERS: dict[tuple[str, bool], str] = {
    ("id", False): "contact.id",
    ("id", True): "contact.id desc",
    ("name", False): "contact.name_key, contact.id",
    ("name", True): "contact.name_key desc, contact.id desc",
    ("createdAt", False): "contact.created_at, contact.id",
    ("createdAt", True): "contact.created_at desc, contact.id desc",
    ("lastMessage", False): "contact.activity_hour, contact.last_message_at, contact.id",
    ("lastMessage", True): "contact.activity_hour desc, contact.last_message_at desc, contact.id desc",
}
# What a page with a cursor goes by.
KEYS = {"id": "contact.id", "name": "contact.name_key, contact.id", "createdAt": "contact.created_at, contact.id"}
CANDIDATES = text("select contacts_with_terms(query_terms(:workspace_id, lower(:needle)), :at_most)")


@dataclass(frozen=True, slots=True)
class ContactQuery:
    """What to list: blocked contacts or, as everywhere else, the others."""

    compiled: Compiled = field(default_factory=Compiled)
    sort: Sort = "id"
    is_descending: bool = False
    is_blocked: bool = False


def list_contact_ids(
    tx: Connection, workspace_id: int, query: ContactQuery, *, cursor: int = 0, limit: int = 10
) -> list[int]:
    """Return the ids after the contact whose id is the cursor, in order; with a negative cursor those before it,
    nearest first. Sorting by last message takes no cursor.
    """
    where, given = _where(tx, workspace_id, query)
    is_descending = query.is_descending != (cursor < 0)
    if cursor:
        where += _beyond(query.sort, "<" if is_descending else ">")
        given["cursor"] = abs(cursor)
    return _select(tx, where, ORDERS[query.sort, is_descending], limit, given)


def _beyond(sort: Sort, sign: str) -> str:
    if sort == "id":
        # The contact itself need not exist any more.
        return f" and contact.id {sign} :cursor"
    key = KEYS[sort]
    return f" and ({key}) {sign} (select {key} from contact where workspace_id = :workspace_id and id = :cursor)"  # noqa: S608


def list_contact_window(
    tx: Connection, workspace_id: int, query: ContactQuery, *, offset: int, limit: int
) -> list[int]:
    """Return the ids from the offset on, which is small, in order."""
    where, given = _where(tx, workspace_id, query)
    order = ORDERS[query.sort, query.is_descending]
    if query.sort != "lastMessage":
        return _select(tx, where, order, offset + limit, given)[offset:]
    # Contacts without messages come last when the newest come first; the index has them at the other end.
    wanted = offset + limit
    silent = ORDERS["id", query.is_descending]
    sides = [(" and contact.activity_hour is not null", order), (" and contact.activity_hour is null", silent)]
    found: list[int] = []
    for side, by in sides if query.is_descending else reversed(sides):
        if len(found) < wanted:
            found += _select(tx, where + side, by, wanted - len(found), given)
    return found[offset:]


def _select(tx: Connection, where: str, order: str, limit: int, given: dict[str, Any]) -> list[int]:
    statement = f"select contact.id from contact where {where} order by {order} limit :limit"  # noqa: S608
    return list(tx.scalars(text(statement), {**given, "limit": limit}))


def count_contacts(tx: Connection, workspace_id: int, query: ContactQuery) -> int:
    """Return how many contacts match."""
    where, given = _where(tx, workspace_id, query)
    return int(tx.scalar(text(f"select count(*) from contact where {where}"), given) or 0)  # noqa: S608


def find_candidates(tx: Connection, workspace_id: int, compiled: Compiled) -> list[int] | None:
    """Return all ids that can match, where an index gives a few: by the longest text that the filter names, else by the
    branches of its choice. None where there is no such way or it leads to too many.
    """
    needle = max(compiled.needles, key=len, default="")
    if needle:
        found = _candidates_by_text(tx, workspace_id, needle)
        if found is not None:
            return found
    return _candidates_by_branch(tx, workspace_id, compiled) if compiled.branches else None


def _candidates_by_text(tx: Connection, workspace_id: int, needle: str) -> list[int] | None:
    given = {"workspace_id": workspace_id, "needle": needle, "at_most": MAX_CANDIDATES + 1}
    found = list(tx.scalars(CANDIDATES, given))
    # A null says that the text has no terms to look up.
    return None if len(found) > MAX_CANDIDATES or None in found else found


def _candidates_by_branch(tx: Connection, workspace_id: int, compiled: Compiled) -> list[int] | None:
    given = {"workspace_id": workspace_id, **compiled.parameters, "at_most": MAX_BRANCH + 1}
    found: set[int] = set()
    for branch in compiled.branches:
        statement = f"select contact.id from contact where {LIVE} and {branch} limit :at_most"  # noqa: S608
        ids = tx.scalars(text(statement), given).all()
        if len(ids) > MAX_BRANCH:
            return None
        found.update(ids)
    return sorted(found)


def _where(tx: Connection, workspace_id: int, query: ContactQuery) -> tuple[str, dict[str, Any]]:
    blocked = "is not null" if query.is_blocked else "is null"
    where = f"{LIVE} and contact.blocked_at {blocked} and {query.compiled.sql}"
    given: dict[str, Any] = {"workspace_id": workspace_id, **query.compiled.parameters}
    candidates = find_candidates(tx, workspace_id, query.compiled)
    if candidates is not None:
        where += " and contact.id = any(:candidates)"
        given["candidates"] = candidates
    return where, given
