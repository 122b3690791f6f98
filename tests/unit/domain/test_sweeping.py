"""A deleted contact is taken out of files, filters and answers; everything beside it stays as it was."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ingest.domain.csv_cells import write_rows
from ingest.domain.filters import Context, read_filter
from ingest.domain.sweeping import answers_about, redact, without_contacts, without_rows

HEADER = ["id", "firstName", "phone", "note"]
ROWS = [
    ["7", "Ada", "+60123456789", "two\nlines"],
    ["8", "=Eve", "+60199999999", 'a "quote", a comma'],
    ["77", "Bob", "", ""],
]


def test_an_export_loses_the_rows_of_these_contacts_and_keeps_the_others_to_the_byte() -> None:
    for form in ("spreadsheet", "machine"):
        content = write_rows([HEADER, *ROWS], form).encode()
        kept, count = without_contacts(content, {7, 9}, has_header=True)
        assert (kept.decode(), count) == (write_rows([HEADER, *ROWS[1:]], form), 1)


def test_an_export_without_them_is_the_very_same() -> None:
    content = write_rows([HEADER, *ROWS], "machine").encode()
    assert without_contacts(content, {1}, has_header=True) == (content, 0)


def test_a_part_without_a_header_may_begin_with_such_a_row() -> None:
    kept, count = without_contacts(write_rows(ROWS, "machine").encode(), {7}, has_header=False)
    assert (kept.decode(), count) == (write_rows(ROWS[1:], "machine"), 1)


def test_rows_of_an_import_are_emptied_in_their_place() -> None:
    content = json.dumps([["Ada", "+60123456789"], ["Eve", "x"]]).encode()
    kept, count = without_rows(content, lambda text: "+60123456789" in text)
    assert (json.loads(kept), count) == ([["", ""], ["Eve", "x"]], 1)


def test_a_filter_stays_a_filter_with_its_values_replaced() -> None:
    def condition(operator: str, value: object) -> dict[str, object]:
        return {"category": "contactField", "field": "phone", "operator": operator, "value": value}

    given = {"$or": [condition("isEqualTo", "+60123456789"), {"$and": [condition("contains", "6789")]}]}
    redacted = redact(given, lambda text: text == "+60123456789")
    assert redacted == {"$or": [condition("isEqualTo", "erased"), {"$and": [condition("contains", "6789")]}]}
    read_filter(redacted, Context(ZoneInfo("UTC"), datetime(2026, 3, 1, tzinfo=UTC)))


def test_numbers_are_texts_too_and_truths_are_not() -> None:
    assert redact({"value": [60123456789, 5, True, None]}, lambda text: text == "60123456789") == {
        "value": ["erased", 5, True, None]
    }


def test_answers_are_known_by_the_contacts_id() -> None:
    assert answers_about(b'{"contactId":7}', {7})
    assert answers_about(b'{"items":[{"id": "7", "firstName": "Ada"}]}', {7})
    assert not answers_about(b'{"contactId":77}', {7})
    assert not answers_about(b'{"id":7,"name":"a tag"}', {7})
