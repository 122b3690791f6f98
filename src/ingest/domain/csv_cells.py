"""CSV files of contacts: cells that a spreadsheet will not run as formulas, and any spreadsheet's spelling of a file.

Two forms are written. For machines cells are as they are. For spreadsheets a cell, or a line within one, that would be
taken for a formula gets an apostrophe in front; reading that form takes our own apostrophe off again, so that what was
written comes back.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from ingest.domain.messages import clean_text
from ingest.domain.refusals import Invalid

Form = Literal["spreadsheet", "machine"]

MAX_BYTES = 20_000_000
MAX_ROWS = 200_000
MAX_COLUMNS = 200
LINES = re.compile(r"(\r\n|\r|\n)")
FORMULA = re.compile(r"'*(?:[ \u00a0\t\v\f]*[=+\-@]|\t)")
DELIMITERS = ",;\t"


def escape(cell: str) -> str:
    """Return the cell as a spreadsheet can safely show it."""
    parts = LINES.split(cell)
    return "".join(f"'{part}" if _is_risky(parts, place) else part for place, part in enumerate(parts))


def unescape(cell: str) -> str:
    """Return the cell that `escape` was given."""
    if "'" not in cell:
        return cell
    parts = LINES.split(cell)
    return "".join(
        part[1:] if part.startswith("'") and _is_risky([*parts[:place], part[1:], *parts[place + 1 :]], place) else part
        for place, part in enumerate(parts)
    )


def _is_risky(parts: Sequence[str], place: int) -> bool:
    """Return whether the line at that place would be taken for a formula; a cell that begins with a line break too."""
    if place % 2:
        return False
    begins_with_break = place == 0 and len(parts) > 1 and not parts[0].strip("'")
    return begins_with_break or FORMULA.match(parts[place]) is not None


def write_rows(rows: Iterable[Sequence[str]], form: Form) -> str:
    """Return the rows as CSV text."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    for row in rows:
        writer.writerow([escape(cell) for cell in row] if form == "spreadsheet" else row)
    return out.getvalue()


def read_rows(content: bytes, form: Form) -> Iterator[list[str]]:
    """Yield the rows of a file, the header first: in UTF-8, UTF-16 with a mark, or else Windows' Western letters.

    Empty lines are left out. Raises Invalid for a file that is too large, too wide, or no CSV.
    """
    if len(content) > MAX_BYTES:
        raise Invalid(f"at most {MAX_BYTES // 1_000_000} MB", field="file", word="file_too_large")
    text = clean_text(_decode(content))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=False)
    count = -1
    try:
        for row in reader:
            cells = [unescape(cell) for cell in row] if form == "spreadsheet" else row
            # Empty is what holds nothing once our own apostrophes are off.
            if any(cell.strip() for cell in cells):
                count += 1
                _check(cells, count)
                yield cells
    except csv.Error:
        raise Invalid("not a CSV file that we can read", field="file") from None


def _check(row: Sequence[str], count: int) -> None:
    if len(row) > MAX_COLUMNS:
        raise Invalid(f"at most {MAX_COLUMNS} columns", field="file")
    if count > MAX_ROWS:
        raise Invalid(f"at most {MAX_ROWS:,} rows", field="file", word="too_many_rows")


def _decode(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _delimiter(text: str) -> str:
    """Return what separates the header's cells: the candidate that it has most of, outside quotes."""
    header = re.sub(r'"[^"]*"', "", text.split("\n", 1)[0])
    return max(DELIMITERS, key=header.count)


def write_list(values: Sequence[str]) -> str:
    """Return several values as one cell: a row of CSV of its own."""
    if not values:
        return ""
    return write_rows([values], "machine").removesuffix("\r\n")


def read_list(cell: str) -> list[str]:
    """Return the values of a cell that `write_list` made, or that a person wrote with commas between."""
    try:
        found = next(csv.reader(io.StringIO(cell, newline=""), skipinitialspace=True), [])
    except csv.Error:
        found = cell.split(",")
    return [value.strip() for value in found if value.strip()]
