"""The page shows the newest figures of each row, sums them up, and puts naive's beside ours."""

from pathlib import Path

import pytest

from tests.faults.record import QUICK, Figures, Row, end_test, record
from tests.faults.report import read_lines, render

ROW = Row("Q4", "replies dropped", "nothing lost")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAULTS_OUT", str(tmp_path))
    record(ROW, Figures(100, 7, 0), load="100 requests")
    record(ROW, Figures(100, 0, 0, 0, 0, 1.25, 10, 33.0, 0.125, {"dropped": 5}), load="100 requests")
    record(ROW, Figures(100, 5, 0, recovery_seconds=11, recovery_bound_seconds=10), load="100 requests", system="naive")
    record(Row("K10", "x", "y", when=QUICK), Figures(1, 0, 0), load="1 request")
    return render(read_lines(tmp_path / "results.jsonl"))


def cells(page: str, row: str) -> list[list[str]]:
    """Return what the tables say of a row."""
    found = [line for line in page.splitlines() if line.startswith(f"| {row} |")]
    return [[each.strip() for each in line.split("|")[1:-1]] for line in found]


def test_the_newest_line_of_a_row_counts_and_naive_stands_beside_it(page: str) -> None:
    assert cells(page, "Q4") == [
        [
            *("Q4", "replies dropped", "nothing lost", "100", "0", "0", "0", "0", "1.2 (≤ 10)", "33.0", "12.5%"),
            *("dropped 5", "nightly", "1"),
        ],
        ["Q4", "replies dropped", "0, 0 of 100", "1.2 (≤ 10)", "5, 0 of 100", "0", "**more than 10**"],
    ]
    assert [row[-2] for row in cells(page, "K10")] == ["quick"]


def test_the_page_begins_with_the_sums_and_its_tables_come_in_the_order_of_the_matrix(page: str) -> None:
    assert "**2 rows, 101 messages: 0 lost, 0 stored twice, 0 phantoms, 0 orphans.**" in page
    assert "slowest recovery took 1.2 (≤ 10) s: Q4, replies dropped." in page
    assert "lost 5 of 100 in 1 of these rows" in page
    assert page.index("## Processes are killed") < page.index("## The broker fails") < page.index("## Beside")


def test_the_rows_of_a_test_that_failed_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS_OUT", str(tmp_path))
    for row, has_failed in (("K3", True), ("K4", False)):
        record(Row(row, "killed", "stored"), Figures(1, 0, 0), load="1 request")
        end_test(has_failed=has_failed)
    page = render(read_lines(tmp_path / "results.jsonl"))
    assert "Failed: K3." in page
    assert (len(cells(page, "K3 **failed**")), len(cells(page, "K4"))) == (1, 1)


def test_without_a_place_for_them_figures_are_printed_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FAULTS_OUT", raising=False)
    monkeypatch.chdir(tmp_path)
    record(ROW, Figures(100, 0, 0, more={"cuts": 3}), load="100 requests")
    assert "[Q4] ours: accepted 100, lost 0, stored_twice 0, cuts 3" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
