"""Lists become PostgreSQL arrays without psycopg's help: nothing may change on the way."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from ingest.store.arrays import register_arrays

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


@pytest.fixture
def quick(engine: Engine) -> Any:
    with engine.connect() as connection:
        register_arrays(connection.connection.dbapi_connection)  # type: ignore[arg-type]
        yield connection
        connection.invalidate()


def there_and_back(connection: Connection, values: list[Any], kind: str) -> list[Any]:
    found = connection.execute(text(f"select cast(:values as {kind}[])"), {"values": values}).scalar_one()
    return list(found)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(TEXTS | st.none()))
def test_texts_come_back_as_they_went(quick: Connection, values: list[str | None]) -> None:
    assert there_and_back(quick, values, "text") == values


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()))
def test_numbers_come_back_as_they_went(quick: Connection, values: list[int | None]) -> None:
    assert there_and_back(quick, values, "bigint") == values


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None, False], "boolean"),
        ([datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), None], "timestamptz"),
        ([date(2026, 1, 2), None], "date"),
        ([UUID(int=7), None], "uuid"),
        ([b'\x00\\"{}', None, b""], "bytea"),
        ([0.1, -1e300, None], "float8"),
        ([], "text"),
        (['"', "\\", ",", "{}", "NULL", "", " "], "text"),
        ([None, None], "text"),
    ],
)
def test_other_kinds_come_back_as_they_went(quick: Connection, values: list[Any], kind: str) -> None:
    assert there_and_back(quick, values, kind) == values
