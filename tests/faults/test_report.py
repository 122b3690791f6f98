"""The table shows the newest figures of each row, ours beside naive's."""

from pathlib import Path

import pytest

from tests.faults.record import Figures, Row, record
from tests.faults.report import read_lines, render

ROW = Row("Q4", "replies dropped", "nothing lost")


def test_the_newest_line_of_a_row_counts_and_naive_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTS_OUT", str(tmp_path))
    record(ROW, Figures(100, 7, 0), load="100 requests")
    record(ROW, Figures(100, 0, 0, 0, 0, 1.25, 10, 33.0, 0.125, {"dropped": 5}), load="100 requests")
    record(ROW, Figures(100, 5, 0), load="100 requests", system="naive")
    record(Row("K10", "x", "y"), Figures(1, 0, 0), load="1 request")
    lines = [line for line in render(read_lines(tmp_path / "results.jsonl")).splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert lines[2].startswith("| K10 |")
    assert lines[3].split("|")[1:-1] == [
        f" {each} " if each != "" else "  "
        for each in (
            *("Q4", "replies dropped", "nothing lost", 100, 0, 0, 0, 0, "1.2 (≤ 10)", 33.0, "12.5%"),
            *("5, 0 of 100", "dropped 5", 1),
        )
    ]


def test_without_a_place_for_them_figures_are_printed_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FAULTS_OUT", raising=False)
    monkeypatch.chdir(tmp_path)
    record(ROW, Figures(100, 0, 0, more={"cuts": 3}), load="100 requests")
    assert "[Q4] ours: accepted 100, lost 0, stored_twice 0, cuts 3" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
