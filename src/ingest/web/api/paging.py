"""Pages: `limit` and `cursorId` in, items and absolute next and previous URLs out.

The cursor is an integer and opaque to clients; a negative one asks for the page before. Pages go by key and not by
offset, so that rows created meanwhile neither repeat nor vanish.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator, Field

from ingest.web.api.access import Call

Item = TypeVar("Item")
Row = TypeVar("Row")
DEFAULT_LIMIT = 10
MAX_LIMIT = 100
BIGGEST = 2**53


class Pagination(BaseModel):
    """Where the neighbouring pages are; null where there is none."""

    next: str | None = Field(description="Absolute URL of the next page.")
    previous: str | None = Field(description="Absolute URL of the page before.")


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    pagination: Pagination


def _start_when_empty(value: object) -> object:
    return 0 if value == "" else value


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What page is asked for. `cursor` 0 is the start, a negative one the page before that row."""

    limit: int
    cursor: int


def page_query(
    limit: Annotated[int, Query(ge=1, description="Items a page, at most 100; more is cut.")] = DEFAULT_LIMIT,
    cursor_id: Annotated[
        int,
        BeforeValidator(_start_when_empty),
        Query(alias="cursorId", gt=-BIGGEST, lt=BIGGEST, description="The cursor of `next` or `previous`."),
    ] = 0,
) -> PageQuery:
    """Return the page that the query asks for."""
    return PageQuery(min(limit, MAX_LIMIT), cursor_id)


Paging = Annotated[PageQuery, Depends(page_query)]


def make_page(
    call: Call, query: PageQuery, rows: Sequence[Row], key: Callable[[Row], int], read: Callable[[Row], Item]
) -> Page[Item]:
    """Return the page for `rows`, which were read with one more than the limit, from the cursor on.

    With a negative cursor the rows are those before it, nearest first; the page has them in their usual order.
    """
    has_more = len(rows) > query.limit
    kept = list(rows[: query.limit])
    backwards = query.cursor < 0
    if backwards:
        kept.reverse()
    has_next, has_previous = (True, has_more) if backwards else (has_more, query.cursor > 0)
    first, last = (key(kept[0]), key(kept[-1])) if kept else (0, 0)
    return Page(
        items=[read(row) for row in kept],
        pagination=Pagination(
            next=_url(call, query.limit, last) if kept and has_next else None,
            previous=_url(call, query.limit, -first) if kept and has_previous else None,
        ),
    )


def _url(call: Call, limit: int, cursor: int) -> str:
    return f"{call.base_url}{call.path}?{urlencode({'limit': limit, 'cursorId': cursor})}"
