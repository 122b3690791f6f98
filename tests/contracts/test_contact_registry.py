"""A table that refers to contacts cannot be forgotten by merge and delete."""

from sqlalchemy import Connection, inspect

from ingest.store.contact_registry import DEPENDENTS, REFERENCES, moving_tables


def _mentions_a_contact(column: str) -> bool:
    return column in {"merged_into", "contact_ids"} or column.endswith("contact_id")


def test_every_column_that_names_a_contact_is_in_the_registry(tx: Connection) -> None:
    schema = inspect(tx)
    named = {
        (table, column["name"])
        for table in schema.get_table_names()
        for column in schema.get_columns(table)
        if _mentions_a_contact(column["name"])
    }
    assert named == {(each.table, each.column) for each in REFERENCES}


def test_every_table_that_hangs_on_a_contact_through_another_is_named(tx: Connection) -> None:
    schema = inspect(tx)
    direct = {each.table for each in REFERENCES} - {"contact"}
    hanging = {
        table: key["referred_table"]
        for table in schema.get_table_names()
        for key in schema.get_foreign_keys(table)
        if key["referred_table"] in direct and table not in direct
    }
    assert hanging == DEPENDENTS


def test_every_foreign_key_to_a_contact_is_in_the_registry(tx: Connection) -> None:
    schema = inspect(tx)
    keys = {
        (table, key["constrained_columns"][1])
        for table in schema.get_table_names()
        for key in schema.get_foreign_keys(table)
        if key["referred_table"] == "contact"
    }
    assert keys <= {(each.table, each.column) for each in REFERENCES}


def test_what_a_merge_moves_has_an_id_to_be_moved_back_by(tx: Connection) -> None:
    schema = inspect(tx)
    for table in moving_tables():
        assert schema.get_pk_constraint(table)["constrained_columns"] == ["workspace_id", "id"], table
