"""Contact list, search and filter over a million contacts: how long a page takes, and by which plan.

    DATABASE_URL=postgresql://postgres@localhost/bench python benchmarks/contacts_list.py --contacts 1000000

The database is filled once and kept; it must be empty or filled by this script. Every query runs as the API runs it: behind
row-level security, values bound, planned afresh. One page is 10 contacts with all they show.

Every query is a kind by itself: it has its own p95, and its plan, a line for each statement that found its ids.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text

from benchmarks.load import percentile
from benchmarks.plans import explain
from ingest.domain.filters import Context, read_filter
from ingest.domain.moments import read_zone
from ingest.runtime import make_engine
from ingest.settings import read_settings
from ingest.store.contact_lists import ContactQuery, count_contacts, list_contact_ids, list_contact_window
from ingest.store.custom_fields import list_custom_fields
from ingest.store.filter_sql import compile_filter, compile_search
from ingest.store.migrate import migrate
from ingest.store.views.contacts import list_contacts
from ingest.store.wall import enter_workspace

FIRST = [
    "Aisyah",
    "Ben",
    "Chen",
    "Dewi",
    "Elif",
    "Farid",
    "Grace",
    "Hana",
    "Ivan",
    "Jo",
    "Kumar",
    "Lena",
    "Mei",
    "Nur",
    "Omar",
    "Priya",
    "Quinn",
    "Rosa",
    "Siti",
    "Tan",
    "Uma",
    "Wei",
    "Yusuf",
    "Zoe",
]
LAST = [
    "Rahman",
    "Lim",
    "Smith",
    "Müller",
    "Santos",
    "Khan",
    "Wong",
    "Silva",
    "Novak",
    "Ali",
    "Garcia",
    "Kim",
    "Nguyen",
    "Patel",
    "Rossi",
    "Yilmaz",
    "Costa",
    "Ivanov",
    "Sato",
    "Haddad",
]

FILL = """
    insert into contact (workspace_id, first_name, last_name, phone, phone_valid, email, country_code, language, source,
                         status, last_message_at, last_incoming_at, activity_hour, created_at, fields)
    select :w, (cast(:first as text[]))[1 + i % :firsts] || case when i % 7 = 0 then ' ' || i else '' end,
           (cast(:last as text[]))[1 + (i / 24) % :lasts], '+6012' || lpad(i::text, 8, '0'), true,
           case when i % 3 = 0
               then 'user' || i || '@' || (array['example.com', 'mail.example', 'shop.example'])[1 + (i / 3) % 3] end,
           case when i % 100000 = 77 then 'IS' else (array['MY', 'SG', 'ID', 'BR', 'DE'])[1 + i % 5] end,
           (array['en', 'ms', 'id', 'pt', 'de'])[1 + i % 5], 'channel', 'closed',
           at, at, floor(extract(epoch from at) / 3600), timestamptz '2023-01-01' + i * interval '80 seconds',
           case when i % 10 = 0 then jsonb_build_object(cast(:field as text), (i % 5000)::text) else '{}'::jsonb end
    from generate_series(:low, :high) as i,
         lateral (select case when i % 20 <> 0
                  then timestamptz '2026-01-01' - (hashint8(i) & 67108863) * interval '1 second' end as at) as t
"""


def fill(engine: Engine, count: int) -> int:
    """Fill an empty database and return the workspace's id."""
    with engine.begin() as tx:
        tx.execute(text("set statement_timeout = 0"))
        found = tx.scalar(text("select id from workspace where name = 'contacts benchmark'"))
        if found:
            return int(found)
        workspace_id = tx.scalar(text("insert into workspace (name) values ('contacts benchmark') returning id"))
        field = tx.scalar(
            text("""insert into custom_field (workspace_id, name, slug, data_type) values (:w, 'Score', 'score', 'number')
                    returning id"""),
            {"w": workspace_id},
        )
        began = time.perf_counter()
        given = {"w": workspace_id, "first": FIRST, "last": LAST, "firsts": len(FIRST), "lasts": len(LAST)}
        for low in range(1, count + 1, 50_000):
            high = min(low + 49_999, count)
            tx.execute(text(FILL), {**given, "low": low, "high": high, "field": str(field)})
        _fill_around(tx, int(workspace_id))
        print(f"filled {count:,} contacts in {time.perf_counter() - began:.0f} s")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("set statement_timeout = 0"))
        connection.execute(text("vacuum analyze"))
    return int(workspace_id)


def _fill_around(tx: Connection, workspace_id: int) -> None:
    """Give contacts tags of very different frequency, keys, channels and conversations."""
    for statement in (
        "insert into tag (workspace_id, name) values (:w, 'everybody'), (:w, 'some'), (:w, 'rare')",
        """insert into contact_tag (workspace_id, contact_id, tag_id, source)
           select c.workspace_id, c.id, tag.id, 'api' from contact c join tag on tag.workspace_id = c.workspace_id
           where c.workspace_id = :w and (tag.name = 'everybody' and c.id % 2 = 0 or tag.name = 'some' and c.id % 200 = 0
                 or tag.name = 'rare' and c.id % 100000 = 5)""",
        """insert into contact_key (workspace_id, contact_id, key, match_key, origin_contact_id)
           select workspace_id, id, 'tel:' || phone, 'tel:' || phone, id from contact where workspace_id = :w""",
        """insert into contact_key (workspace_id, contact_id, key, match_key, origin_contact_id)
           select workspace_id, id, 'mailto:' || email, 'mailto:' || email, id from contact
           where workspace_id = :w and email is not null""",
        "insert into channel (workspace_id, code, name) values (:w, 'telegram', 'Telegram'), (:w, 'line', 'LINE')",
        """insert into identity (workspace_id, channel_id, address, contact_id, origin_contact_id, connected_at)
           select c.workspace_id, channel.id, c.id::text, c.id, c.id, c.created_at
           from contact c join channel on channel.workspace_id = c.workspace_id
           where c.workspace_id = :w and (channel.code = 'telegram' or c.id % 1000 = 0)""",
        """insert into conversation (workspace_id, contact_id, origin_contact_id, opened_at, opened_source)
           select workspace_id, id, id, now(), 'contact' from contact where workspace_id = :w and id % 50 = 3""",
        """update contact set status = 'open', conversation_id = conversation.id from conversation
           where conversation.workspace_id = :w and contact.workspace_id = :w and contact.id = conversation.contact_id""",
        """update contact set last_channel_id = (select min(id) from channel where workspace_id = :w)
           where workspace_id = :w and id % 50 = 3""",
    ):
        tx.execute(text(statement), {"w": workspace_id})


def condition(category: str, field: str | None, operator: str, value: Any = None) -> dict[str, Any]:
    return {"category": category, "field": field, "operator": operator, "value": value}


FILTERS: dict[str, dict[str, Any]] = {
    "everybody": {},
    "country is MY (1 in 5)": condition("contactField", "countryCode", "isEqualTo", "MY"),
    "country is IS (10 of all)": condition("contactField", "countryCode", "isEqualTo", "IS"),
    "tag everybody (1 in 2)": condition("contactTag", None, "hasAnyOf", ["everybody"]),
    "tag rare (10 of all)": condition("contactTag", None, "hasAnyOf", ["rare"]),
    "not tagged everybody": condition("contactTag", None, "hasNoneOf", ["everybody"]),
    "first name is Zoe": condition("contactField", "firstName", "isEqualTo", "zoe"),
    "first name is of one": condition("contactField", "firstName", "isEqualTo", "Jo 999985"),
    "email contains shop": condition("contactField", "email", "contains", "@shop"),
    "email is of one": condition("contactField", "email", "isEqualTo", "USER600@example.com"),
    "phone is of one": condition("contactField", "phone", "isEqualTo", "+601200000777"),
    "status open (1 in 50)": condition("contactField", "status", "isEqualTo", "open"),
    "created in the last week": condition("timeSince", "createdAt", "isLessThan", "7 days"),
    "created in its last four days": condition("contactField", "created_at", "isTimestampAfter", "2025-07-10"),
    "created on one day": condition(
        "contactField", "created_at", "isTimestampBetween", {"from": "2024-05-05", "to": "2024-05-05"}),
    "last message before 2024": condition("contactField", "lastMessageTime", "isTimestampBefore", "2024-01-01"),
    "no message for 30 days": condition("timeSince", "lastIncomingMessage", "isGreaterThan", "30 days"),
    "score is 4990 (200 of all)": condition("contactField", "score", "isEqualTo", 4990),
    "score over 4980": condition("contactField", "score", "isGreaterThan", 4980),
    "on LINE (1 in 1000)": condition("channel", None, "hasAnyOf", ["line"]),
    "last channel (1 in 50)": condition("lastInteractedChannel", None, "hasAnyOf", ["telegram"]),
    "rare tag or Iceland": {"$or": [
        condition("contactTag", None, "hasAnyOf", ["rare"]), condition("contactField", "countryCode", "isEqualTo", "IS")]},
    "Malaysia, tagged some, named Tan": {"$and": [
        condition("contactField", "countryCode", "isEqualTo", "MY"), condition("contactTag", None, "hasAnyOf", ["some"]),
        condition("contactField", "firstName", "contains", "Tan")]},
}  # fmt: skip
# Many matches, all of them at the far end of the order: what the lists have no quick way for. Measured without a target.
FAR_ENDS = {
    "filter at the far end: created since March 2025": (
        condition("contactField", "created_at", "isTimestampAfter", "2025-03-01"), "", "id"),
    "search at the far end: zoe, by name": ({}, "zoe", "name"),
}  # fmt: skip
SEARCHES = [
    "a",
    "zo",
    "ros",
    "zoe khan",
    "mail.example",
    "user6000",
    "0099",
    "+6012009",
    "999985",
    "no such person",
    "Müller",
]


def measure(run: Callable[[], Any], repeats: int) -> list[float]:
    """Return the milliseconds of each repeat."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


@dataclass(frozen=True)
class Asked:
    """A kind of query: a page of a list."""

    name: str
    given: dict[str, Any]
    search: str = ""
    sort: str = "id"
    cursor: int = 0


@dataclass(frozen=True)
class Kind:
    """What a kind of query takes, in milliseconds, how many contacts its page has, and how they were found."""

    name: str
    p50_ms: float
    p95_ms: float
    found: int
    plan: list[str]


def list_ids(tx: Connection, workspace_id: int, asked: Asked, query: ContactQuery) -> list[int]:
    """Return the ids of the page, and of one more contact, as the API asks for them."""
    if asked.sort.endswith("lastMessage"):
        return list_contact_window(tx, workspace_id, query, offset=0, limit=11)
    return list_contact_ids(tx, workspace_id, query, cursor=asked.cursor, limit=11)


def page(engine: Engine, workspace_id: int, asked: Asked) -> int:
    """Read one page as the API does, and return how many contacts it has."""
    with engine.begin() as tx:
        enter_workspace(tx, workspace_id)
        query = make_query(tx, workspace_id, asked.given, asked.search, asked.sort)
        return len(list_contacts(tx, workspace_id, list_ids(tx, workspace_id, asked, query)))


def plan_of(engine: Engine, workspace_id: int, asked: Asked) -> list[str]:
    """Return how the page's ids are found, a line a statement."""
    with engine.begin() as tx:
        enter_workspace(tx, workspace_id)
        query = make_query(tx, workspace_id, asked.given, asked.search, asked.sort)
        return explain(tx, lambda: list_ids(tx, workspace_id, asked, query))


def measure_kind(engine: Engine, workspace_id: int, asked: Asked, repeats: int) -> tuple[Kind, list[float]]:
    """Return what the kind takes, and the milliseconds of each repeat."""
    found = page(engine, workspace_id, asked)
    taken = sorted(measure(lambda: page(engine, workspace_id, asked), repeats))
    plan = plan_of(engine, workspace_id, asked)
    kind = Kind(asked.name, round(statistics.median(taken), 1), round(percentile(taken, 95), 1), found, plan)
    return kind, taken


def all_kinds(contacts: int) -> list[Asked]:
    """Return every kind of query that is measured."""
    chosen = random.Random(7)
    sorts = [
        Asked(f"sort: {sort} from contact {cursor}", {}, "", sort, cursor)
        for sort in ("name", "-name", "createdAt", "-createdAt", "-lastMessage", "lastMessage")
        for cursor in (0 if sort.endswith("lastMessage") else chosen.randrange(1, contacts),)
    ]
    return [
        *(Asked(f"filter: {name}", given) for name, given in FILTERS.items()),
        *(Asked(f"search: {search}", {}, search) for search in SEARCHES),
        *sorts,
        *(Asked(name, *given) for name, given in FAR_ENDS.items()),
    ]


def make_query(tx: Connection, workspace_id: int, given: dict[str, Any], search: str, sort: str) -> ContactQuery:
    definitions = list_custom_fields(tx, workspace_id)
    channels = {row.name.lower(): row.id for row in tx.execute(text("select id, name from channel"))}
    wanted = {"$and": [given]} if given and "$or" not in given and "$and" not in given else given
    tags = {row.name: row.id for row in tx.execute(text("select id, name from tag"))}
    context = Context(read_zone("UTC"), datetime.now(UTC), definitions, channels, tags)
    compiled = compile_search(search, compile_filter(read_filter(wanted, context)))
    return ContactQuery(compiled, sort.removeprefix("-"), sort.startswith("-"))  # type: ignore[arg-type]


def show(kind: Kind) -> None:
    print(f"{kind.name:42} p50 {kind.p50_ms:7.1f} ms   p95 {kind.p95_ms:7.1f} ms   {kind.found:3} rows", flush=True)
    for line in kind.plan:
        print(f"    {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--counts", action="store_true", help="also count all matches")
    parser.add_argument("--json", type=Path, help="write what every kind takes there")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    given = parser.parse_args()
    engine = make_engine(read_settings(database_url=os.environ["DATABASE_URL"]).database_url, "benchmark", 2)
    migrate(engine)
    workspace_id = fill(engine, given.contacts)
    kinds: list[Kind] = []
    everything: list[float] = []
    for asked in all_kinds(given.contacts):
        if given.only in asked.name:
            kind, taken = measure_kind(engine, workspace_id, asked, given.repeats)
            show(kind)
            kinds.append(kind)
            everything += taken if asked.name not in FAR_ENDS else []
    everything.sort()
    pooled = round(percentile(everything, 95), 1)
    print(f"{'all of the above':42} p50 {statistics.median(everything):7.1f} ms   p95 {pooled:7.1f} ms")
    if given.json:
        given.json.write_text(json.dumps({"pooled_p95_ms": pooled, "kinds": [asdict(each) for each in kinds]}))
    if given.counts:
        _show_counts(engine, workspace_id)


def _show_counts(engine: Engine, workspace_id: int) -> None:
    for name, wanted in FILTERS.items():
        with engine.begin() as tx:
            enter_workspace(tx, workspace_id)
            query = make_query(tx, workspace_id, wanted, "", "id")
            began = time.perf_counter()
            total = count_contacts(tx, workspace_id, query)
            print(f"count: {name:38} {(time.perf_counter() - began) * 1000:7.1f} ms   {total:,}")


if __name__ == "__main__":
    main()
