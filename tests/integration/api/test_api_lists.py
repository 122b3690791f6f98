"""Finding contacts: every operator of the filters, search, order, pages, the window."""

# ruff: noqa: E501 - tables of cases

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from ingest.store.contact_lists import ContactQuery, find_candidates, list_contact_ids
from ingest.store.filter_sql import Compiled, compile_search
from ingest.store.wall import enter_workspace

from .conftest import MakeSpace
from .space import Space

NOW = datetime.now(UTC)


def condition(category: str, field: str | None, operator: str, value: Any = None) -> dict[str, Any]:
    return {"category": category, "field": field, "operator": operator, "value": value}


def find(space: Space, given: dict[str, Any], status: int = 200, **more: Any) -> Any:
    """Return the names of the contacts that match, as one string of letters."""
    wanted = given if not given or set(given) <= {"$and", "$or"} else {"$and": [given]}
    answer = space.call("POST", "/contact/list?limit=100", {"filter": wanted, **more}, status)
    return answer if status != 200 else "".join(sorted(each["firstName"][0] for each in answer["items"]))


@pytest.fixture
def people(space: Space) -> Space:
    """Four contacts: Ann and Bob have most things, Cid some, Dee nothing."""
    user = space.user(email="uma@example.com")
    for name, kind in (("Level", "text"), ("Score", "number"), ("Vip", "checkbox"), ("Joined", "date"), ("At", "time")):
        space.call("POST", "/space/custom_field", {"name": name, "dataType": kind})
    space.call("POST", "/space/custom_field", {"name": "Size", "dataType": "list", "allowedValues": ["S", "M", "L"]})
    for stage in ("Lead", "Customer"):
        space.call("POST", "/space/lifecycle", {"name": stage})

    def fields(**values: Any) -> list[dict[str, Any]]:
        return [{"name": name, "value": value} for name, value in values.items()]

    ann = space.contact(firstName="Ann", lastName="Lee", phone="+60123456789", email="Ann@Example.com", language="en",
                        custom_fields=fields(level="Gold", score=10, vip=True, joined="2025-01-31", at="09:00", size="S"))  # fmt: skip
    bob = space.contact(firstName="Bob", lastName="O'Neil", phone="+6591234567", email="bob@shop.example", language="ms",
                        custom_fields=fields(level="silver", score=2.5, vip=False, joined="2025-02-01", at="17:30", size="L"))  # fmt: skip
    cid = space.contact(firstName="Cid", phone="+4915123456789", custom_fields=fields(score=-3))
    dee = space.contact(firstName="Dee", phone="+80012345678")
    space.call("PUT", f"/contact/id:{dee}", {"phone": None})
    for contact_id, tags, stage in ((ann, ["vip", "new"], "Lead"), (bob, ["VIP"], "Customer"), (cid, ["other"], None)):
        space.call("POST", f"/contact/id:{contact_id}/tag", tags)
        if stage:
            space.call("POST", f"/contact/id:{contact_id}/lifecycle/update", {"name": stage})
    space.call("POST", f"/contact/id:{ann}/conversation/assignee", {"assignee": user})
    space.call("POST", f"/contact/id:{ann}/conversation/status", {"status": "open"})
    space.call("POST", f"/contact/id:{bob}/conversation/status", {"status": "open"})
    space.call("POST", f"/contact/id:{bob}/conversation/status", {"status": "snoozed", "snoozedUntil": 4_000_000_000})
    telegram, line = space.channel("telegram", "My Telegram"), space.channel("line", "LINE")
    space.connect(ann, telegram)
    space.connect(ann, line)
    space.connect(bob, line)
    for contact_id, days, last in ((ann, 1, telegram), (bob, 40, line)):
        space.run(
            """update contact set last_message_at = :at, last_incoming_at = :at, last_channel_id = :last,
               activity_hour = floor(extract(epoch from cast(:at as timestamptz)) / 3600) where id = :id and workspace_id = :w""",
            at=NOW - timedelta(days=days), last=last, id=contact_id,
        )  # fmt: skip
    space.run(
        "update contact set created_at = '2025-06-30 23:30+00' where workspace_id = :w and id in (:a, :b)", a=ann, b=bob
    )
    return space


F = "contactField"
CASES: list[tuple[dict[str, Any], str]] = [
    ({}, "ABCD"),
    ({"$and": []}, "ABCD"),
    ({"$or": []}, "ABCD"),
    (condition(F, "firstName", "isEqualTo", "ann"), "A"),
    (condition(F, "firstName", "isNotEqualTo", "ANN"), "BCD"),
    (condition(F, "lastName", "exists"), "AB"),
    (condition(F, "lastName", "doesNotExist"), "CD"),
    (condition(F, "lastName", "contains", "o'n"), "B"),
    (condition(F, "lastName", "contains", "%"), ""),
    (condition(F, "email", "isEqualTo", " ANN@example.COM "), "A"),
    (condition(F, "email", "isNotEqualTo", "ann@example.com"), "BCD"),
    (condition(F, "email", "contains", "shop"), "B"),
    (condition(F, "phone", "isEqualTo", "60 12-345 6789"), "A"),
    (condition(F, "phone", "isEqualTo", "nothing"), ""),
    (condition(F, "phone", "contains", "123456"), "ABC"),
    (condition(F, "phone", "doesNotExist"), "D"),
    (condition(F, "countryCode", "isEqualTo", "my"), "A"),
    (condition(F, "countryCode", "isNotEqualTo", "MY"), "BCD"),
    (condition(F, "language", "isEqualTo", "EN"), "A"),
    (condition(F, "status", "isEqualTo", "open"), "A"),
    (condition(F, "status", "isEqualTo", "close"), "CD"),
    (condition(F, "status", "isNotEqualTo", "closed"), "AB"),
    (condition(F, "status", "isEqualTo", "snoozed"), "B"),
    (condition(F, "assigneeUserId", "exists"), "A"),
    (condition(F, "assigneeUserId", "doesNotExist"), "BCD"),
    (condition(F, "assigneeUserId", "isEqualTo", "999999"), ""),
    (condition(F, "assigneeUserId", "isNotEqualTo", 999999), "ABCD"),
    (condition(F, "assigneeUserId", "hasNoneOf", ["999999"]), "ABCD"),
    (condition(F, "tags", "hasAnyOf", ["vip"]), "AB"),
    (condition("contactTag", None, "hasAnyOf", ["Vip", "other"]), "ABC"),
    (condition("contactTag", None, "hasAllOf", ["vip", "NEW"]), "A"),
    (condition("contactTag", None, "hasNoneOf", ["vip"]), "CD"),
    (condition("contactTag", None, "hasNoneOf", ["vip", "never"]), "CD"),
    (condition("contactTag", None, "exists"), "ABC"),
    (condition("contactTag", None, "doesNotExist"), "D"),
    (condition("contactTag", None, "hasAnyOf", ["never"]), ""),
    (condition("lifecycle", None, "isEqualTo", "lead"), "A"),
    (condition("lifecycle", None, "isNotEqualTo", "Lead"), "BCD"),
    (condition("lifecycle", None, "hasAnyOf", ["Lead", "Customer"]), "AB"),
    (condition("lifecycle", None, "hasNoneOf", ["Lead"]), "BCD"),
    (condition("lifecycle", None, "exists"), "AB"),
    (condition("lifecycle", None, "doesNotExist"), "CD"),
    (condition(F, "level", "isEqualTo", "GOLD"), "A"),
    (condition(F, "Level", "isNotEqualTo", "gold"), "BCD"),
    (condition(F, "level", "contains", "il"), "B"),
    (condition(F, "level", "exists"), "AB"),
    (condition(F, "score", "isEqualTo", "10.0"), "A"),
    (condition(F, "score", "isGreaterThan", 2), "AB"),
    (condition(F, "score", "isLessThan", "2.5"), "C"),
    (condition(F, "score", "isBetween", {"from": -3, "to": 2.5}), "BC"),
    (condition(F, "score", "doesNotExist"), "D"),
    (condition(F, "vip", "isEqualTo", True), "A"),
    (condition(F, "vip", "isEqualTo", "false"), "B"),
    (condition(F, "joined", "isTimestampAfter", "2025-01-31"), "B"),
    (condition(F, "joined", "isTimestampBefore", "2025-02-01"), "A"),
    (condition(F, "joined", "isTimestampBetween", {"from": "2025-01-31", "to": "2025-02-01"}), "AB"),
    (condition(F, "joined", "isEqualTo", "2025-01-31"), "A"),
    (condition(F, "at", "isTimestampAfter", "12:00"), "B"),
    (condition(F, "size", "hasAnyOf", ["s", "M"]), "A"),
    (condition(F, "size", "hasNoneOf", ["S"]), "BCD"),
    (condition(F, "created_at", "isTimestampBefore", "2025-07-01"), "AB"),
    (condition(F, "createdAt", "isTimestampAfter", "2025-06-30"), "CD"),
    (condition(F, "created_at", "isTimestampBetween", {"from": "2025-06-30", "to": "2025-06-30"}), "AB"),
    (condition(F, "lastMessageTime", "exists"), "AB"),
    (condition(F, "lastInteractionTime", "doesNotExist"), "CD"),
    (condition(F, "lastIncomingMessageTime", "isTimestampAfter", int((NOW - timedelta(days=2)).timestamp())), "A"),
    (condition(F, "lastMessageTime", "isTimestampBefore", int((NOW - timedelta(days=2)).timestamp() * 1000)), "B"),
    (condition("timeSinceLastIncomingMessage", None, "isGreaterThan", "30 days"), "B"),
    (condition("timeSince", "lastMessage", "isLessThan", "48 hours"), "A"),
    (condition("timeSince", "createdAt", "isLessThan", "7 days"), "CD"),
    (condition("timeSince", "lastMessage", "isBetween", {"from": "1 hour", "to": "50 days"}), "AB"),
    (condition("timeSince", "lastMessage", "doesNotExist"), "CD"),
    (condition("channel", None, "hasAnyOf", ["my telegram"]), "A"),
    (condition("channel", None, "hasAllOf", ["LINE", "My Telegram"]), "A"),
    (condition("channel", None, "hasNoneOf", ["line"]), "CD"),
    (condition("channel", None, "exists"), "AB"),
    (condition("channel", None, "doesNotExist"), "CD"),
    (condition("channel", None, "hasAnyOf", ["unknown"]), ""),
    (condition("lastInteractedChannel", None, "isEqualTo", "LINE"), "B"),
    (condition("lastInteractedChannel", None, "hasNoneOf", ["LINE"]), "ACD"),
    (condition("lastInteractedChannel", None, "doesNotExist"), "CD"),
    ({"$or": [condition(F, "firstName", "isEqualTo", "Ann"), condition(F, "firstName", "isEqualTo", "Cid")]}, "AC"),
    ({"$and": [condition("contactTag", None, "exists")], "$or": [condition(F, "lastName", "exists"), condition(F, "score", "isLessThan", 0)]}, "ABC"),
    ({"$and": [{"$or": [condition(F, "firstName", "isEqualTo", "Ann"), condition(F, "firstName", "isEqualTo", "Dee")]},
               {"$or": [condition("contactTag", None, "exists"), condition(F, "score", "exists")]}]}, "A"),
]  # fmt: skip


def test_a33_a97_b77_every_operator_finds_the_contacts_it_says(people: Space) -> None:
    wrong = [(case, expected, found) for case, expected in CASES if (found := find(people, case)) != expected]
    assert wrong == []


@pytest.mark.parametrize(
    "wrong",
    [
        condition("nope", "x", "isEqualTo", "x"), condition(F, "nope", "isEqualTo", "x"), condition(F, "firstName", "hasAnyOf", ["x"]),
        condition(F, "firstName", "isEqualTo"), condition(F, "firstName", "isEqualTo", ["a", "b"]), condition("contactTag", None, "hasAnyOf", []),
        condition(F, "status", "isEqualTo", "x"), condition(F, "assigneeUserId", "isEqualTo", "x"), condition(F, "created_at", "isTimestampAfter", "soon"),
        condition(F, "created_at", "isTimestampBetween", "2025-01-01"), condition("timeSince", "lastMessage", "isLessThan", "a while"),
        condition(F, None, "exists"), condition(F, "firstName", "isEqualTo", {"a": 1}), {"category": F}, "x", {"$and": "x"}, {"$and": ["x"]},
        {"$xor": []}, {"$and": [condition(F, "firstName", "exists")] * 51}, {"$and": [{"$and": [{"$and": [{"$and": [{"$and": [{"$and": []}]}]}]}]}]},
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_is_400(space: Space, wrong: Any) -> None:
    given = wrong if not isinstance(wrong, dict) or "category" not in wrong else {"$and": [wrong]}
    space.call("POST", "/contact/list", {"filter": given}, 400)
    space.call("POST", "/contact/list", {"search": "x"}, 400)


def test_moments_without_an_offset_are_in_the_given_zone_and_an_unknown_zone_is_utc(people: Space) -> None:
    on_july_first = condition(F, "created_at", "isTimestampBetween", {"from": "2025-07-01", "to": "2025-07-01"})
    assert find(people, on_july_first) == ""
    assert find(people, on_july_first, timezone="Asia/Kuala_Lumpur") == "AB"
    for unknown in ("utc", "UK/London", "../etc/passwd", ""):
        assert find(people, on_july_first, timezone=unknown) == ""


SEARCHES = [
    ("ann", "A"), ("ANN LEE", "A"), ("nn le", "A"), ("o'neil", "B"), ("shop.ex", "B"), ("@example", "A"), ("+6591", "B"), ("1234567", "ABC"),
    ("123456789", "AC"), ("c", "AC"), ("de", "D"), ("id", ""), ("%%%", ""), ("nobody", ""), ("", "ABCD"), ("  ", "ABCD"), ("+6", "AB"),
]  # fmt: skip


def test_a96_b77_search_finds_parts_of_names_emails_and_phones(people: Space) -> None:
    wrong = [
        (search, expected, found)
        for search, expected in SEARCHES
        if (found := find(people, {}, search=search)) != expected
    ]
    assert wrong == []


def test_a96_search_finds_ideographs_and_accents(space: Space) -> None:
    for name in ("王小明", "Élodie Ünal", "Ван Иван"):
        space.contact(firstName=name)
    assert [find(space, {}, search=each) for each in ("小", "王小", "élod", "ünal", "ИВАН", "明王")] == [
        "王",
        "王",
        "É",
        "É",
        "В",
        "",
    ]


NAMES = st.text(alphabet=st.sampled_from("abcABC éß王明-.'%_\\ 12"), max_size=12)


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("firstName", "Winifred", "Gwendolyn"),
        ("lastName", "Oldcastle", "Newbridge"),
        ("email", "old@example.com", "new@example.org"),
        ("phone", "+6591234567", "+60123456789"),
    ],
)
def test_a96_search_and_order_follow_what_is_edited(space: Space, field: str, old: str, new: str) -> None:
    given = {"firstName": "Winifred", "lastName": "Oldcastle", "email": "old@example.com", "phone": "+6591234567"}
    contact_id = space.contact(**given)
    space.contact(firstName="Mia")
    old, sought = old.lower().lstrip("+"), new.lower().lstrip("+")
    assert find(space, {}, search=old) == "W"
    space.call("PUT", f"/contact/id:{contact_id}", {field: new})
    letter = "G" if field == "firstName" else "W"
    assert (find(space, {}, search=sought), find(space, {}, search=old)) == (letter, "")
    (page,) = pages(space, "/contact/list?limit=9", {"filter": {}, "sort": "name"})
    assert "".join(name[0] for name in page) == ("GM" if letter == "G" else "MW")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=6), search=NAMES)
def test_the_index_of_search_terms_never_hides_a_match(space: Space, names: list[str], search: str) -> None:
    with space.runtime.engine.connect() as tx, tx.begin() as transaction:
        tx.execute(
            text(
                "insert into contact (workspace_id, first_name, source) select :w, each, 'api' from unnest(cast(:names as text[])) each"
            ),
            {"w": space.id, "names": [" ".join(name.split()) for name in names]},
        )
        enter_workspace(tx, space.id)
        compiled = compile_search(search, Compiled())
        scanned = list_contact_ids(tx, space.id, ContactQuery(Compiled(compiled.sql, compiled.parameters)), limit=100)
        assert list_contact_ids(tx, space.id, ContactQuery(compiled), limit=100) == scanned
        candidates = find_candidates(tx, space.id, compiled)
        assert candidates is None or set(scanned) <= set(candidates)
        transaction.rollback()


def test_b38_b83_blocked_contacts_are_in_no_list_but_their_own(people: Space) -> None:
    people.run("update contact set blocked_at = now() where first_name = 'Bob' and workspace_id = :w")
    assert find(people, {}) == "ACD"
    assert find(people, {}, search="bob") == ""
    blocked = people.call("POST", "/contact/page", {"filter": {}, "isBlocked": True})
    assert [each["firstName"] for each in blocked["items"]] == ["Bob"]


def test_absorbed_and_detached_contacts_are_in_no_list(people: Space) -> None:
    people.run(
        """update contact set merged_into = (select id from contact where first_name = 'Ann' and workspace_id = :w)
           where first_name = 'Bob' and workspace_id = :w"""
    )
    people.run("update contact set deletion_job_id = 1 where first_name = 'Cid' and workspace_id = :w")
    assert find(people, {}) == "AD"


def test_a_list_holds_nothing_of_another_workspace(make_space: MakeSpace) -> None:
    one, other = make_space(), make_space()
    other.contact(firstName="Zoe", email="zoe@example.com")
    for search in ("", "zoe", "z"):
        assert find(one, {}, search=search) == ""


def pages(space: Space, path: str, body: dict[str, Any]) -> list[list[str]]:
    found, url = [], f"/api/v2{path}"
    while url:
        answer = space.owner.post(url.removeprefix("https://api.example"), json=body).json()
        found.append([each["firstName"] for each in answer["items"]])
        url = answer["pagination"]["next"]
    return found


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("id", "CABD"),
        ("-id", "DBAC"),
        ("name", "ABCD"),
        ("-name", "DCBA"),
        ("createdAt", "ABCD"),
        ("-createdAt", "DCBA"),
    ],
)
def test_a93_a_sorted_list_gives_each_contact_once_over_its_pages(space: Space, sort: str, expected: str) -> None:
    for day, name in ((3, "Cid"), (1, "Ann"), (2, "Bob"), (4, "Dee")):
        contact_id = space.contact(firstName=name)
        space.run(
            "update contact set created_at = :at where id = :id and workspace_id = :w",
            at=NOW - timedelta(days=9 - day),
            id=contact_id,
        )
    found = pages(space, "/contact/list?limit=3", {"filter": {}, "sort": sort})
    assert [len(page) for page in found] == [3, 1]
    assert "".join(name[0] for page in found for name in page) == expected


def test_a93_the_list_can_be_sorted_by_last_message_with_silent_contacts_last(people: Space) -> None:
    def order(sort: str, size: int = 20) -> str:
        found = [
            people.call("POST", "/contact/page", {"filter": {}, "sort": sort, "page": number, "pageSize": size})[
                "items"
            ]
            for number in range(1, 4 // size + 2)
        ]
        return "".join(each["firstName"][0] for page in found for each in page)

    assert order("-lastMessage") == order("-lastMessage", 1) == "ABDC"
    assert order("lastMessage") == order("lastMessage", 3) == "CDBA"


def test_rows_created_meanwhile_neither_repeat_nor_vanish(space: Space) -> None:
    ids = [space.contact() for _ in range(4)]
    first = space.call("POST", "/contact/list?limit=2", {"filter": {}})
    space.run("update contact set deletion_job_id = 1 where id = :id and workspace_id = :w", id=ids[1])
    late = space.contact()
    second = space.owner.post(
        first["pagination"]["next"].removeprefix("https://api.example"), json={"filter": {}}
    ).json()
    assert [each["id"] for each in second["items"]] == ids[2:]
    assert late > ids[-1]


def test_a102_b85_page_numbers_reach_the_first_2500_matches_and_total_stays_true(space: Space) -> None:
    space.run("insert into contact (workspace_id, source) select :w, 'api' from generate_series(1, 2600)")
    inside = space.call("POST", "/contact/page", {"filter": {}, "page": 25, "pageSize": 100})
    assert (len(inside["items"]), inside["total"]) == (100, 2600)
    beyond = space.call("POST", "/contact/page", {"filter": {}, "page": 26, "pageSize": 100}, 422)
    assert (beyond["error"], beyond["details"]["total"]) == ("window_exceeded", 2600)
    counted = 0
    for page in pages(space, "/contact/list?limit=100", {"filter": {}}):
        counted += len(page)
    assert counted == 2600


def test_a91_the_contacts_module_is_not_for_agents(space: Space) -> None:
    for path in ("/contact/list", "/contact/page"):
        space.call("POST", path, {"filter": {}}, 403, space.agent)
        space.call("POST", path, {"filter": {}}, 200, space.manager)


def test_a92_a_list_has_what_its_columns_show(people: Space) -> None:
    shown = people.call("POST", "/contact/list", {"filter": condition_for("Ann")})["items"][0]
    for name in ("firstName", "lastName", "avatar", "channels", "email", "phone", "tags", "countryCode", "language", "shownStatus",
                 "assignee", "lastMessageTime", "created_at"):  # fmt: skip
        assert shown[name], name


def condition_for(name: str) -> dict[str, Any]:
    return {"$and": [condition(F, "firstName", "isEqualTo", name)]}
