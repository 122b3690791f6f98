"""Lists of contacts: which ids match a filter and a search, in which order, and how many there are.

Before the order of a list is walked, its matches are looked for without an order, by whatever index suits: up to a bound.
If those are all, they are few enough to be sorted; if there are more, matches are dense, and walking the order finds a
page of them soon. So a page is quick either way, whatever is asked for. A text goes by the index of search terms.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, text

from ingest.store.filter_sql import Compiled

# More candidates than this are too many to check one by one, and dense enough to be met on the way.
MAX_CANDIDATES = 5000
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
SORTED_BY = "contact.id, contact.name_key, contact.created_at, contact.activity_hour, contact.last_message_at"
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
    matches = _match(tx, workspace_id, query)
    is_descending = query.is_descending != (cursor < 0)
    if cursor:
        matches = matches.also(_beyond(query.sort, "<" if is_descending else ">"), cursor=abs(cursor))
    return matches.select(tx, ORDERS[query.sort, is_descending], limit)


def _beyond(sort: Sort, sign: str) -> str:
    if sort == "id":
        # The contact itself need not exist any more.
        return f"contact.id {sign} :cursor"
    key = KEYS[sort]
    return f"({key}) {sign} (select {key} from contact where workspace_id = :workspace_id and id = :cursor)"  # noqa: S608


def list_contact_window(
    tx: Connection, workspace_id: int, query: ContactQuery, *, offset: int, limit: int
) -> list[int]:
    """Return the ids from the offset on, which is small, in order."""
    matches = _match(tx, workspace_id, query)
    order, wanted = ORDERS[query.sort, query.is_descending], offset + limit
    if query.sort != "lastMessage":
        return matches.select(tx, order, wanted)[offset:]
    # Contacts without messages come last when the newest come first; the index has them at the other end.
    heard = matches.also("contact.activity_hour is not null"), order
    silent = matches.also("contact.activity_hour is null"), ORDERS["id", query.is_descending]
    found: list[int] = []
    for side, by in (heard, silent) if query.is_descending else (silent, heard):
        if len(found) < wanted:
            found += side.select(tx, by, wanted - len(found))
    return found[offset:]


def count_contacts(tx: Connection, workspace_id: int, query: ContactQuery) -> int:
    """Return how many contacts match."""
    return _match(tx, workspace_id, query).count(tx)


@dataclass(frozen=True, slots=True)
class Matches:
    """The contacts that match, as SQL: out of `source`, under `where`."""

    source: str
    where: str
    parameters: dict[str, Any]

    def also(self, condition: str, **parameters: Any) -> "Matches":
        """Return the matches for which the condition holds too."""
        return Matches(self.source, f"{self.where} and {condition}", {**self.parameters, **parameters})

    def select(self, tx: Connection, order: str, limit: int) -> list[int]:
        """Return the first ids in that order."""
        head = (
            f"with contact as materialized (select {SORTED_BY} {self.source} where {self.where})" if self.is_few else ""
        )
        rest = "from contact" if self.is_few else f"{self.source} where {self.where}"
        statement = f"{head} select contact.id {rest} order by {order} limit :limit"
        return list(tx.scalars(text(statement), {**self.parameters, "limit": limit}))

    def count(self, tx: Connection) -> int:
        """Return how many there are."""
        statement = f"select count(*) {self.source} where {self.where}"
        return int(tx.scalar(text(statement), self.parameters) or 0)

    @property
    def is_few(self) -> bool:
        """Whether the ids are known: they are fetched and sorted, instead of walking the order past everybody else."""
        return "candidates" in self.parameters


def _match(tx: Connection, workspace_id: int, query: ContactQuery) -> Matches:
    blocked = "is not null" if query.is_blocked else "is null"
    where = f"{LIVE} and contact.blocked_at {blocked} and {query.compiled.sql}"
    given: dict[str, Any] = {"workspace_id": workspace_id, **query.compiled.parameters}
    candidates = find_candidates(tx, workspace_id, query.compiled)
    if candidates is None:
        return Matches("from contact", where, given)
    source = "from unnest(cast(:candidates as bigint[])) as candidate (id) join contact on contact.id = candidate.id"
    return Matches(source, where, {**given, "candidates": candidates})


def find_candidates(tx: Connection, workspace_id: int, compiled: Compiled) -> list[int] | None:
    """Return all ids that can match, where an index gives a few: by the longest text that the filter names, else by the
    branches of its choice. None where there is no such way or it leads to too many.
    """
    needle = max(compiled.needles, key=len, default="")
    if needle:
        found = _candidates_by_text(tx, workspace_id, needle)
        if found is not None:
            return found
    branches = compiled.branches or [compiled.sql]
    return None if branches == ["true"] else _candidates_by_branch(tx, workspace_id, compiled, branches)


def _candidates_by_text(tx: Connection, workspace_id: int, needle: str) -> list[int] | None:
    given = {"workspace_id": workspace_id, "needle": needle, "at_most": MAX_CANDIDATES + 1}
    found = list(tx.scalars(CANDIDATES, given))
    # A null says that the text has no terms to look up.
    return None if len(found) > MAX_CANDIDATES or None in found else found


def _candidates_by_branch(
    tx: Connection, workspace_id: int, compiled: Compiled, branches: list[str]
) -> list[int] | None:
    given = {"workspace_id": workspace_id, **compiled.parameters, "at_most": MAX_BRANCH + 1}
    found: set[int] = set()
    for branch in branches:
        statement = f"select contact.id from contact where {LIVE} and {branch} limit :at_most"  # noqa: S608
        ids = tx.scalars(text(statement), given).all()
        if len(ids) > MAX_BRANCH:
            return None
        found.update(ids)
    return sorted(found)
