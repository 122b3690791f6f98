"""Lists of contacts: which ids match a filter and a search, in which order, and how many there are.

A page is looked for in four ways, the cheapest first, until one has it:

1. Walk the beginning of the order. Where matches are dense, the page is full before long.
2. Look the text up in the index of search terms, which gives the first that have it, by id.
3. Look for matches without an order, by whatever index suits, up to a bound. If those are all, they are sorted.
4. Walk the order as far as it takes. Matches are too many to be sorted, so they are met on the way.

Nothing is left out by any of them: all pages together hold every match once. What can still take long is the fourth: more
than MAX_FOUND matches, none of them near the beginning of the order.
"""

# ruff: noqa: S608 - values are bound; what is put into the text are constants of this module and compiled filters

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import Connection, text

from ingest.store.filter_sql import Compiled, like

# How many contacts of the order are looked at before an index is asked, beside four for each of the page.
MAX_WALK = 1000
# A page beyond this many is no page for people: it is walked at once.
MAX_PAGE = 3000
# More matches than this are too many to check and sort, and dense enough to be met on the way.
MAX_FOUND = 5000
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
CANDIDATES = text("""
    select contacts_with_terms(telling_terms(:workspace_id, lower(:needle)), lower(:pattern), :beyond, :is_descending, :at_most)
""")
FIRST, LAST = 0, 2**62


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
    is_descending = query.is_descending != (cursor < 0)
    listing = _listing(workspace_id, query, query.sort, is_descending)
    if cursor:
        listing = listing.also(_beyond(query.sort, "<" if is_descending else ">"), cursor=abs(cursor))
    return listing.find(tx, limit)


def _beyond(sort: Sort, sign: str) -> str:
    if sort == "id":
        # The contact itself need not exist any more.
        return f"contact.id {sign} :cursor"
    key = KEYS[sort]
    return f"({key}) {sign} (select {key} from contact where workspace_id = :workspace_id and id = :cursor)"


def list_contact_window(
    tx: Connection, workspace_id: int, query: ContactQuery, *, offset: int, limit: int
) -> list[int]:
    """Return the ids from the offset on, which is small, in order."""
    wanted = offset + limit
    if query.sort != "lastMessage":
        return _listing(workspace_id, query, query.sort, query.is_descending).find(tx, wanted)[offset:]
    # Contacts without messages come last when the newest come first; the index has them at the other end.
    heard = _listing(workspace_id, query, query.sort, query.is_descending).also("contact.activity_hour is not null")
    silent = _listing(workspace_id, query, "id", query.is_descending).also("contact.activity_hour is null")
    found: list[int] = []
    for side in (heard, silent) if query.is_descending else (silent, heard):
        if len(found) < wanted:
            found += side.find(tx, wanted - len(found))
    return found[offset:]


def count_contacts(tx: Connection, workspace_id: int, query: ContactQuery) -> int:
    """Return how many contacts match."""
    listing = _listing(workspace_id, query, "id", False)
    candidates = find_candidates(tx, workspace_id, query.compiled)
    source, where, given = "from contact", listing.where, listing.parameters
    if candidates is not None:
        source, given = KNOWN, {**given, "candidates": candidates}
    return int(tx.scalar(text(f"select count(*) {source} where {where}"), given) or 0)


def find_candidates(tx: Connection, workspace_id: int, compiled: Compiled) -> list[int] | None:
    """Return the ids of all contacts with the longest text that the filter names, where they are at most MAX_FOUND.

    None where the filter names no text that the index has, or where more contacts have it.
    """
    found = _with_text(tx, workspace_id, compiled, FIRST, False, MAX_FOUND + 1)
    return None if found is None or len(found) > MAX_FOUND else found


def _with_text(  # noqa: PLR0917 - what a lookup is made of
    tx: Connection, workspace_id: int, compiled: Compiled, beyond: int, is_descending: bool, at_most: int
) -> list[int] | None:
    """Return the first ids beyond one whose contacts have the longest text that the filter names, in that order."""
    needle = max(compiled.needles, key=len, default="")
    if not needle:
        return None
    given = {
        "workspace_id": workspace_id,
        "needle": needle,
        "pattern": like(needle),
        "beyond": beyond,
        "is_descending": is_descending,
        "at_most": at_most,
    }
    found: list[int | None] = list(tx.scalars(CANDIDATES, given))
    # A null says that the text has no terms to look up.
    return None if None in found else [each for each in found if each is not None]


KNOWN = "from unnest(cast(:candidates as bigint[])) as candidate (id) join contact on contact.id = candidate.id"


@dataclass(frozen=True, slots=True)
class Listing:
    """A list to be: those that are `listed` and match the filter, in the order of `sort`."""

    workspace_id: int
    compiled: Compiled
    sort: Sort
    is_descending: bool
    listed: str
    parameters: dict[str, Any]

    @property
    def where(self) -> str:
        """What holds for every contact of the list."""
        return f"{self.listed} and {self.compiled.sql}"

    @property
    def order(self) -> str:
        """The order as SQL."""
        return ORDERS[self.sort, self.is_descending]

    def also(self, condition: str, **parameters: Any) -> "Listing":
        """Return the list of those for which the condition holds too."""
        return replace(self, listed=f"{self.listed} and {condition}", parameters={**self.parameters, **parameters})

    def find(self, tx: Connection, limit: int) -> list[int]:
        """Return the first ids of the list."""
        if self.compiled.sql == "true" or limit > MAX_PAGE:
            return self._walk(tx, limit)
        found = self._walk_beginning(tx, limit)
        if len(found) == limit:
            return found
        for way in (self._by_text, self._by_index):
            known = way(tx, limit)
            if known is not None:
                return known
        return self._walk(tx, limit)

    def _walk(self, tx: Connection, limit: int) -> list[int]:
        statement = f"select contact.id from contact where {self.where} order by {self.order} limit :limit"
        return list(tx.scalars(text(statement), {**self.parameters, "limit": limit}))

    def _walk_beginning(self, tx: Connection, limit: int) -> list[int]:
        """Return the matches among the first contacts of the order, at most the limit."""
        statement = f"""
            select contact.id from (
                select contact.* from contact where {self.listed} order by {self.order} limit :walked
            ) as contact where {self.compiled.sql} order by {self.order} limit :limit"""
        given = {**self.parameters, "limit": limit, "walked": MAX_WALK + 4 * limit}
        return list(tx.scalars(text(statement), given))

    def _by_text(self, tx: Connection, limit: int) -> list[int] | None:
        if self.sort != "id":
            candidates = find_candidates(tx, self.workspace_id, self.compiled)
            return None if candidates is None else self._sort(tx, candidates, limit)
        return self._by_text_and_id(tx, limit)

    def _by_text_and_id(self, tx: Connection, limit: int) -> list[int] | None:
        """Return the page of the order of ids, None where too many contacts have the text and too few all else."""
        found: list[int] = []
        beyond = int(self.parameters.get("cursor", LAST if self.is_descending else FIRST))
        # At last as many as were walked: where fewer match, another condition is the rarer one.
        for at_most in (2 * limit, MAX_WALK + 4 * limit):
            candidates = _with_text(tx, self.workspace_id, self.compiled, beyond, self.is_descending, at_most)
            if candidates is None:
                return None
            found += self._sort(tx, candidates, limit - len(found))
            if len(found) == limit or len(candidates) < at_most:
                return found
            beyond = candidates[-1]
        return None

    def _sort(self, tx: Connection, candidates: Sequence[int], limit: int) -> list[int]:
        """Return the first of the candidates that match, in order."""
        statement = f"""
            with contact as materialized (select {SORTED_BY} {KNOWN} where {self.where})
            select contact.id from contact order by {self.order} limit :limit"""
        return list(tx.scalars(text(statement), {**self.parameters, "candidates": list(candidates), "limit": limit}))

    def _by_index(self, tx: Connection, limit: int) -> list[int] | None:
        """Return the page, None where there are too many matches to sort."""
        if self.compiled.branches:
            return self._by_branches(tx, limit)
        statement = f"""
            with contact as materialized (select {SORTED_BY} from contact where {self.where} limit :at_most)
            select contact.id, count(*) over () as total from contact order by {self.order} limit :limit"""
        found = tx.execute(text(statement), {**self.parameters, "at_most": MAX_FOUND + 1, "limit": limit}).all()
        return None if found and found[0].total > MAX_FOUND else [row.id for row in found]

    def _by_branches(self, tx: Connection, limit: int) -> list[int] | None:
        """Return the page of a choice, each of whose branches is looked for by itself: PostgreSQL has no index for a union
        over several tables.
        """
        found: set[int] = set()
        for branch in self.compiled.branches:
            statement = f"select contact.id from contact where {self.listed} and {branch} limit :at_most"
            ids = tx.scalars(text(statement), {**self.parameters, "at_most": MAX_FOUND + 1}).all()
            if len(ids) > MAX_FOUND:
                return None
            found.update(ids)
        return self._sort(tx, sorted(found), limit)


def _listing(workspace_id: int, query: ContactQuery, sort: Sort, is_descending: bool) -> Listing:
    listed = f"{LIVE} and contact.blocked_at {'is not null' if query.is_blocked else 'is null'}"
    given = {"workspace_id": workspace_id, **query.compiled.parameters}
    return Listing(workspace_id, query.compiled, sort, is_descending, listed, given)
