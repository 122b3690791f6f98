"""How a deleted contact is taken out of what names it beside others: a file's rows, a saved filter, a kept answer."""

import csv
import io
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

ERASED = "erased"
"""What stands where a deleted contact's phone, email or address stood. As a condition's value it matches nobody."""

_ID = re.compile(rb'"(?:id|contactId)"\s*:\s*"?([0-9]{1,18})')
_OF_A_CONTACT = (b'"firstName"', b'"contactId"')


def redact(value: Any, names: Callable[[str], bool]) -> Any:
    """Return the JSON value with each text that names a deleted contact replaced; keys stay."""
    if isinstance(value, str):
        return ERASED if names(value) else value
    if isinstance(value, int) and not isinstance(value, bool):
        return ERASED if names(str(value)) else value
    if isinstance(value, Mapping):
        return {key: redact(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [redact(each, names) for each in value]
    return value


def without_contacts(content: bytes, ids: Collection[int], *, has_header: bool) -> tuple[bytes, int]:
    """Return an export's part without the rows of these contacts, and how many those were. The first cell is the id."""
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    wanted = {str(each) for each in ids}
    kept = [row for place, row in enumerate(rows) if (has_header and place == 0) or not row or row[0] not in wanted]
    if len(kept) == len(rows):
        return content, 0
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(kept)
    return out.getvalue().encode(), len(rows) - len(kept)


def without_rows(content: bytes, names: Callable[[str], bool]) -> tuple[bytes, int]:
    """Return an import's waiting part with the rows that name a deleted contact emptied, and how many those were.

    They keep their place, so that the report counts the file's rows; each will be reported as failed.
    """
    rows: list[list[str]] = msgspec.json.decode(content)
    emptied = 0
    for row in rows:
        if names("\n".join(row)):
            row[:] = [""] * len(row)
            emptied += 1
    return (msgspec.json.encode(rows), emptied) if emptied else (content, 0)


def answers_about(body: bytes, ids: Collection[int]) -> bool:
    """Return whether a kept answer is about one of the contacts, by its id."""
    return any(mark in body for mark in _OF_A_CONTACT) and any(int(each) in ids for each in _ID.findall(body))
