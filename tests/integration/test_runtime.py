"""The engine that every process uses: sessions that are no good any more are left."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from ingest.runtime import make_engine
from workers.failures import is_transient

pytestmark = pytest.mark.database


def test_D4_a_session_begun_while_the_database_was_read_only_is_left_and_not_kept_for_ever(database_url: str) -> None:
    operator = create_engine(database_url, isolation_level="AUTOCOMMIT")
    name = make_url(database_url).database
    engine = make_engine(database_url, "test", pool_size=2)
    with operator.connect() as connection:
        connection.exec_driver_sql(f"alter database {name} set default_transaction_read_only = on")
        with engine.connect(), engine.connect() as begun_then:
            assert begun_then.execute(text("show transaction_read_only")).scalar_one() == "on"
        connection.exec_driver_sql(f"alter database {name} set default_transaction_read_only = off")
    with pytest.raises(DBAPIError) as refused, engine.begin() as tx:
        tx.execute(text("insert into workspace (name) values ('Shop')"))
    assert is_transient(refused.value)
    for _ in range(2):
        with engine.begin() as tx:
            tx.execute(text("insert into workspace (name) values ('Shop')"))
    engine.dispose()
    operator.dispose()
