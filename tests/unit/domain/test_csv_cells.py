"""Cells that a spreadsheet will not run, and lists within a cell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.csv_cells import MAX_COLUMNS, escape, read_list, read_rows, unescape, write_list, write_rows
from ingest.domain.refusals import Invalid

CELLS = st.text(st.sampled_from("ab=+-@'\", ;\t\r\n\u00a0é王"), max_size=12)


@given(CELLS)
def test_what_is_escaped_comes_back(cell: str) -> None:
    assert unescape(escape(cell)) == cell


@given(CELLS)
def test_no_line_of_an_escaped_cell_begins_like_a_formula(cell: str) -> None:
    for line in escape(cell).replace("\r", "\n").split("\n"):
        assert not line.lstrip(" \u00a0\t").startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("cell", ["plain", "a=b", "it's", "'quoted'", "", "1-2", "a@b.c"])
def test_harmless_cells_stay_as_they_are(cell: str) -> None:
    assert escape(cell) == cell


@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=3), min_size=1, max_size=3),
    st.sampled_from(["spreadsheet", "machine"]),
)
def test_rows_come_back_as_they_were_written(rows: list[list[str]], form: str) -> None:
    kept = [row for row in rows if any(cell.strip() for cell in row)]
    written = write_rows([["a", "b", "c"], *rows], form)  # type: ignore[arg-type]
    assert list(read_rows(written.encode(), form))[1:] == kept  # type: ignore[arg-type]


@given(st.lists(CELLS.map(str.strip).filter(bool), max_size=4))
def test_a_list_in_a_cell_comes_back(values: list[str]) -> None:
    assert read_list(write_list(values)) == values


@pytest.mark.parametrize("line", [b"," * 300, b" " + b"," * 300])
def test_an_empty_line_counts_for_nothing_however_wide_it_is(line: bytes) -> None:
    assert list(read_rows(b"a,b\r\n" + line + b"\r\n1,2\r\n", "machine")) == [["a", "b"], ["1", "2"]]


def test_a_row_that_is_wider_than_may_be_is_refused() -> None:
    with pytest.raises(Invalid, match="columns"):
        list(read_rows(b"a,b\r\n1" + b"," * MAX_COLUMNS + b"\r\n", "machine"))


def test_a_row_that_is_empty_without_our_apostrophe_is_left_out() -> None:
    written = write_rows([["a", "b"], ["", "\r"]], "spreadsheet")
    assert list(read_rows(written.encode(), "spreadsheet")) == [["a", "b"]]
