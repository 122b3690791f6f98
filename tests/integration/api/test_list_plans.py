"""How much a page of a list reads: a bounded part, over contacts that are many and of which the wanted ones come last."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, text

from benchmarks.plans import explain
from ingest.domain.filters import Context, read_filter
from ingest.domain.moments import read_zone
from ingest.store.contact_lists import ContactQuery, list_contact_ids
from ingest.store.filter_sql import Compiled, compile_filter, compile_search
from ingest.store.wall import enter_workspace

from .space import QuietRuntime


@pytest.fixture(scope="module")
def crowd(api_runtime: QuietRuntime) -> int:
    """A workspace of 30,000 contacts, the newest 5 per cent of them named Zoe and on a channel; the workspace's id."""
    with api_runtime.begin() as tx:
        workspace_id = int(tx.scalar(text("insert into workspace (name) values ('Crowd') returning id")) or 0)
        for statement in (
            """insert into contact (workspace_id, first_name, phone, source)
               select :w, case when i > 28500 then 'Zoe' else 'Ann' end, '+6012' || lpad(i::text, 7, '0'), 'api'
               from generate_series(1, 30000) as i""",
            "insert into channel (workspace_id, code, name) values (:w, 'line', 'LINE')",
            """insert into identity (workspace_id, channel_id, address, contact_id, origin_contact_id, connected_at)
               select c.workspace_id, channel.id, c.phone, c.id, c.id, now()
               from contact c join channel using (workspace_id) where workspace_id = :w and c.first_name = 'Zoe'""",
        ):
            tx.execute(text(statement), {"w": workspace_id})
    with api_runtime.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # The newest terms wait in a list of their own until somebody cleans up.
        connection.execute(text("vacuum analyze contact, identity"))
    return workspace_id


def pages_read(tx: Connection, run: Callable[[], object]) -> int:
    """Return how many pages of tables and indexes the statements of the block go through.

    Without the list of terms that other tests have just added: it waits for a clean-up, and every search walks through it.
    """
    role = tx.scalar(text("select current_setting('role')"))
    tx.execute(text("reset role"))
    tx.execute(text("select gin_clean_pending_list('ix_contact_search')"))
    tx.execute(text("select set_config('role', :role, true)"), {"role": role})
    return sum(int(line.rsplit("; ", 1)[1].removesuffix(" buffers").replace(",", "")) for line in explain(tx, run))


def listed(tx: Connection, workspace_id: int, search: str = "", **query: Any) -> list[int]:
    compiled = compile_search(search, query.pop("compiled", Compiled()))
    return list_contact_ids(tx, workspace_id, ContactQuery(compiled, **query), limit=11)


def first_ids(tx: Connection, workspace_id: int, condition: str, order: str = "id") -> list[int]:
    rows = text(f"select id from contact where workspace_id = :w and {condition} order by {order} limit 11")
    return list(tx.scalars(rows, {"w": workspace_id}))


@pytest.mark.parametrize(
    ("search", "condition", "most"),
    [
        ("ann", "first_name = 'Ann'", 400),
        ("zoe", "first_name = 'Zoe'", 400),
        ("+601200287", "phone like '+601200287%'", 400),
        ("0029999", "phone like '%0029999'", 300),
        ("nobody", "false", 300),
    ],
)
def test_a_search_reads_a_bounded_part_wherever_its_matches_are(
    api_runtime: QuietRuntime, crowd: int, search: str, condition: str, most: int
) -> None:
    with api_runtime.begin() as tx:
        enter_workspace(tx, crowd)
        assert listed(tx, crowd, search) == first_ids(tx, crowd, condition)
        assert pages_read(tx, lambda: listed(tx, crowd, search)) < most
        backwards = listed(tx, crowd, search, is_descending=True)
        assert backwards == first_ids(tx, crowd, condition, "id desc")
        assert pages_read(tx, lambda: listed(tx, crowd, search, is_descending=True)) < most


def test_matches_that_are_dense_are_found_by_walking_a_few_contacts_alone(
    api_runtime: QuietRuntime, crowd: int
) -> None:
    """And not by looking up all of them first."""
    with api_runtime.begin() as tx:
        enter_workspace(tx, crowd)
        for search in ("a", "ann", "+6012"):
            (plan,) = explain(tx, lambda search=search: listed(tx, crowd, search))  # type: ignore[misc]
            assert "contacts_with_terms" not in plan
            assert " (11)" in plan


def test_a_filter_by_channel_looks_each_of_its_contacts_up_once(api_runtime: QuietRuntime, crowd: int) -> None:
    with api_runtime.begin() as tx:
        enter_workspace(tx, crowd)
        channel_id = int(tx.scalar(text("select id from channel")) or 0)
        group = {"$and": [{"category": "channel", "field": None, "operator": "hasAnyOf", "value": ["line"]}]}
        context = Context(read_zone("UTC"), datetime.now(UTC), [], {"line": channel_id}, {})
        compiled = compile_filter(read_filter(group, context))
        assert listed(tx, crowd, compiled=compiled) == first_ids(tx, crowd, "first_name = 'Zoe'")
        assert len(explain(tx, lambda: listed(tx, crowd, compiled=compiled))) == 2


@pytest.fixture(scope="module")
def scattered(api_runtime: QuietRuntime) -> int:
    """A workspace of 40,000 contacts whose ids lie far apart, as between many others', one in ten of them named Lou."""
    with api_runtime.begin() as tx:
        workspace_id = int(tx.scalar(text("insert into workspace (name) values ('Scattered') returning id")) or 0)
        people = """
            insert into contact (workspace_id, id, first_name, source)
            select :w, 10000000 + i * 997, case when i % 10 = 0 then 'Lou' else 'Kim' end, 'api'
            from generate_series(1, 40000) as i"""
        tx.execute(text(people), {"w": workspace_id})
    return workspace_id


def test_a_search_goes_by_its_index_before_anybody_has_analysed_the_table(
    api_runtime: QuietRuntime, scattered: int
) -> None:
    with api_runtime.begin() as tx:
        enter_workspace(tx, scattered)
        assert pages_read(tx, lambda: listed(tx, scattered, "nobody")) < 700


@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize(("name", "count"), [("Kim", 100), ("Kim", 30_000), ("Lou", 22), ("Lou", 3000), ("Lou", 5000)])
def test_going_from_neighbourhood_to_neighbourhood_leaves_nobody_out(
    api_runtime: QuietRuntime, scattered: int, name: str, count: int, is_descending: bool
) -> None:
    direction = "desc" if is_descending else ""
    with api_runtime.begin() as tx:
        enter_workspace(tx, scattered)
        given = {
            "w": scattered,
            "name": name,
            "count": count,
            "down": is_descending,
            "from": 2**62 if is_descending else 0,
        }
        looked_up = text(
            "select contacts_with_terms(query_terms(:w, lower(:name)), lower('%' || :name || '%'), :from, :down, :count)"
        )
        expected = text(
            f"select id from contact where workspace_id = :w and first_name = :name order by id {direction} limit :count"
        )
        assert list(tx.scalars(looked_up, given)) == list(tx.scalars(expected, given))


def test_every_page_of_a_search_together_holds_each_match_once(api_runtime: QuietRuntime, crowd: int) -> None:
    with api_runtime.begin() as tx:
        enter_workspace(tx, crowd)
        query = ContactQuery(compile_search("0028", Compiled()))
        expected = list(
            tx.scalars(
                text("select id from contact where workspace_id = :w and phone like '%0028%' order by id"), {"w": crowd}
            )
        )
        found: list[int] = []
        while page := list_contact_ids(tx, crowd, query, cursor=found[-1] if found else 0, limit=100):
            found += page
        assert found == expected
        before = list_contact_ids(tx, crowd, query, cursor=-expected[150], limit=100)
        assert before == expected[50:150][::-1]


def test_no_page_of_a_list_starts_a_second_process(api_runtime: QuietRuntime, crowd: int) -> None:
    with api_runtime.begin() as tx:
        enter_workspace(tx, crowd)
        assert tx.scalar(text("show max_parallel_workers_per_gather")) == "0"
