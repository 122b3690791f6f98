"""Lists as PostgreSQL arrays, quickly: the message path passes every set of rows as columns.

psycopg finds out each list's type and dumps it element by element in Python; with twenty columns of five hundred rows
that was a third of a worker's time. Every array parameter of ours is cast in its statement, so the text form without a
type is enough, and for numbers, texts, times and ids it is one join.
"""

from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg.abc import AdaptContext
from psycopg.adapt import Buffer, PyFormat
from psycopg.types.array import BaseListDumper, ListDumper


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_TEXT: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "NULL",
    int: str,
    float: repr,
    bool: lambda value: "t" if value else "f",
    str: _quoted,
    datetime: lambda value: '"' + value.isoformat() + '"',
    date: lambda value: value.isoformat(),
    UUID: lambda value: value.hex,
}


def array_text(values: list[Any]) -> str | None:
    """Return the array's text form, or None where an element is of a kind that is not ours to write."""
    if values and type(values[0]) is str:
        quick = _plain_texts(values)
        if quick is not None:
            return quick
    try:
        return "{" + ",".join([_TEXT[type(value)](value) for value in values]) + "}"
    except KeyError:
        return None


def _plain_texts(values: list[Any]) -> str | None:
    """Return the array of texts in one join, or None where one of them is no text or needs escaping."""
    try:
        joined = '","'.join(values)
    except TypeError:
        return None
    is_plain = "\\" not in joined and joined.count('"') == 2 * (len(values) - 1)
    return '{"' + joined + '"}' if is_plain else None


class PlainListDumper(BaseListDumper):
    """Dumps lists of plain values as text without a type; hands other lists to psycopg's own dumper."""

    def get_key(self, obj: list[Any], format: PyFormat) -> type:
        """Return the same key for every list: this dumper does not depend on the elements."""
        return self.cls

    def upgrade(self, obj: list[Any], format: PyFormat) -> "PlainListDumper":
        """Return this dumper."""
        return self

    def dump(self, obj: list[Any]) -> Buffer | None:
        """Return the array's text form."""
        text = array_text(obj)
        if text is not None:
            return text.encode()
        return ListDumper(self.cls, self._tx).upgrade(obj, PyFormat.TEXT).dump(obj)


def register_arrays(context: AdaptContext) -> None:
    """Have a connection dump its lists this way."""
    context.adapters.register_dumper(list, PlainListDumper)
