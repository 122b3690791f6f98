"""Who gets in, who may do what, and what a refusal looks like."""

import base64
import json
import time
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient

from ingest.store.audit import find_broken_audit_entry
from ingest.store.wall import enter_workspace

from .conftest import MakeSpace
from .space import ROOT, Space


def ask(space: Space, token: str | None, path: str = "/space/user?limit=1") -> Any:
    client = TestClient(space.owner.app)
    return client.get(f"{ROOT}{path}", headers={} if token is None else {"Authorization": token.encode("latin-1")})


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a.b.c", "Bearer \u00e9.b.c", "Bearer x"]
)
def test_a_call_without_a_usable_token_is_answered_401(space: Space, given: str | None) -> None:
    answer = ask(space, given)
    assert answer.status_code == 401
    assert answer.json()["code"] == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_with_the_right_claims_but_another_signature_is_refused(space: Space) -> None:
    header, claims, _ = space.token().split(".")
    assert ask(space, f"Bearer {header}.{claims}.{base64.urlsafe_b64encode(b'x' * 32).decode()}").status_code == 401


def test_b87_a_token_has_the_claims_that_clients_look_at(space: Space) -> None:
    claims = json.loads(base64.urlsafe_b64decode(space.token().split(".")[1] + "=="))
    assert {name: type(claims[name]) for name in ("id", "spaceId", "orgId", "iat", "type")} == {
        "id": int, "spaceId": int, "orgId": int, "iat": int, "type": str,
    }  # fmt: skip
    assert claims["spaceId"] == space.id


def test_a_revoked_token_stops_within_a_second(space: Space) -> None:
    client = space.client("manager")
    assert client.get(f"{ROOT}/space/user").status_code == 200
    number = space.rows("select max(id) from api_token where workspace_id = :w")[0][0]
    space.call("DELETE", f"/space/token/{number}")
    time.sleep(1.05)
    assert client.get(f"{ROOT}/space/user").status_code == 401


def test_a_token_is_stored_as_a_hash_only(space: Space) -> None:
    token = space.token()
    for row in space.rows("select t::text from api_token t where workspace_id = :w"):
        assert token not in row[0]
        assert token.split(".")[2] not in row[0]


def test_a107_a_refused_call_leaves_a_line_in_the_audit_log(space: Space) -> None:
    space.call("POST", "/contact/list", {"filter": {}}, 403, space.agent)
    lines = space.rows("select action, outcome, role from audit_entry where workspace_id = :w")
    assert [tuple(line) for line in lines] == [("contact.list", "refused", "agent")]


def test_a_foreign_contact_answers_like_a_missing_one(make_space: MakeSpace) -> None:
    one, other = make_space(), make_space()
    foreign = other.contact(phone="+60123456789")
    theirs = one.call("GET", f"/contact/id:{foreign}", status=404)
    missing = one.call("GET", "/contact/id:9007199254740000", status=404)
    assert theirs == missing
    one.call("GET", "/contact/phone:+60123456789", status=404)


def test_row_level_security_hides_other_workspaces_whatever_a_statement_says(make_space: MakeSpace) -> None:
    one, other = make_space(), make_space()
    mine, foreign = one.contact(), other.contact()
    with one.tx() as tx:
        enter_workspace(tx, one.id)
        found = tx.scalars(text("select id from contact where id = any(:ids)"), {"ids": [mine, foreign]}).all()
        by_terms = tx.scalars(text("select contacts_with_terms('{}', null, 0, false, 100000)")).all()
    assert found == [mine]
    assert foreign not in by_terms


def test_every_table_with_a_workspace_is_walled(space: Space) -> None:
    open_tables = space.rows("""
        select relname from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where nspname = 'public' and relkind = 'r' and not relrowsecurity and relname <> 'alembic_version' and :w > 0
    """)
    assert open_tables == []


def test_an_audit_line_can_be_neither_changed_nor_removed(space: Space) -> None:
    space.call("POST", "/contact/list", {"filter": {}}, 403, space.agent)
    for statement in ("update audit_entry set action = 'x'", "delete from audit_entry", "truncate audit_entry"):
        with pytest.raises(DBAPIError, match="can only be added"):
            space.run(f"{statement} -- :w")


def test_a_forged_audit_log_is_found_out(space: Space) -> None:
    for _ in range(3):
        space.call("POST", "/contact/list", {"filter": {}}, 403, space.agent)
    with space.tx() as tx:
        assert find_broken_audit_entry(tx, space.id) is None
    with space.runtime.engine.connect() as tx, tx.begin() as transaction:
        tx.execute(text("alter table audit_entry disable trigger user"))
        tx.execute(text("update audit_entry set role = 'owner' where workspace_id = :w and id = 2"), {"w": space.id})
        assert find_broken_audit_entry(tx, space.id) == 2
        transaction.rollback()


def test_b78_every_answer_tells_the_rate_limit_and_429_says_how_long_to_wait(space: Space) -> None:
    space.run("""update workspace set settings = '{"api_requests_per_second": 5}' where id = :w""")
    client = space.client()
    answers = [client.get(f"{ROOT}/space/tag") for _ in range(12)]
    assert all(answer.headers["x-ratelimit-limit"] == "5" for answer in answers)
    assert [int(answer.headers["x-ratelimit-remaining"]) for answer in answers[:5]] == [4, 3, 2, 1, 0]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert refused[0].json()["code"] == 429
    # Another endpoint has a bucket of its own.
    assert client.get(f"{ROOT}/space/user").status_code == 200


def test_b78_a_workspace_starts_with_5_calls_a_second_of_each_endpoint(space: Space) -> None:
    space.run("update workspace set settings = '{}' where id = :w")
    answer = space.client().get(f"{ROOT}/space/tag")
    assert (answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == ("5", "4")


def test_b78_an_owner_raises_the_rate_and_puts_it_back(space: Space) -> None:
    space.run("update workspace set settings = '{}' where id = :w")
    owner, manager = space.client(), space.client("manager")
    path = "/space/rate_limit"
    assert space.call("GET", path, client=manager) == {"requestsPerSecond": 5}
    space.call("PUT", path, {"requestsPerSecond": 40}, 403, manager)
    assert space.call("PUT", path, {"requestsPerSecond": 40}, client=owner) == {"requestsPerSecond": 40}
    # Who a token stands for is remembered for a second.
    assert space.client().get(f"{ROOT}/space/tag").headers["x-ratelimit-limit"] == "40"
    for wrong in (0, -1, 10**9, "many"):
        space.call("PUT", path, {"requestsPerSecond": wrong}, 422, space.client())
    assert space.call("PUT", path, {"requestsPerSecond": None}, client=space.client()) == {"requestsPerSecond": 5}
    assert {"requests_per_second": 40} in [
        row.data for row in space.rows("select data from audit_entry where workspace_id = :w")
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PATCH", "/contact/list", 405),
        ("POST", "/contact/list", 400),
        ("GET", "/contact/x", 400),
    ],
)
def test_every_error_has_one_shape(space: Space, method: str, path: str, status: int) -> None:
    body = space.call(method, path, status=status)
    assert body["code"] == status
    assert isinstance(body["message"], str)
    assert set(body) == {"code", "message", "error", "field", "details"}


def test_an_error_names_the_field(space: Space) -> None:
    body = space.call("POST", "/contact/phone:+60123456789", {"firstName": "Ann", "language": "english"}, 400)
    assert body["field"] == "language"


def test_all_roots_and_a_trailing_slash_lead_to_the_same_call(space: Space) -> None:
    contact_id = space.contact()
    for path in (f"/api/v2/contact/id:{contact_id}", f"/v2/contact/id:{contact_id}", f"/v2/contact/id:{contact_id}/"):
        assert space.owner.get(path).json()["id"] == contact_id


def test_an_idempotency_key_gives_the_first_answer_again(space: Space) -> None:
    headers = {"Idempotency-Key": "k"}
    first = space.owner.post(f"{ROOT}/contact/phone:+60123456789", json={"firstName": "Ann"}, headers=headers)
    again = space.owner.post(f"{ROOT}/contact/phone:+60123456789", json={"firstName": "Ann"}, headers=headers)
    other = space.owner.post(f"{ROOT}/contact/phone:+60123456789", json={"firstName": "Bob"}, headers=headers)
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert other.status_code == 409


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"[" * 100_000, b'{"firstName": "\\u0000"}', b'{"firstName": "\\ud800"}']
)
def test_a_body_that_no_database_could_hold_is_no_error_of_ours(space: Space, body: bytes) -> None:
    answer = space.owner.post(
        f"{ROOT}/contact/phone:+60123456789", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {200, 400}


def test_b86_an_agent_limited_to_own_contacts_sees_no_others(space: Space) -> None:
    user_id = space.user("agent", ["show_only_mine"])
    client = space.client("agent", user_id)
    contact_id = space.contact()
    space.call("GET", f"/contact/id:{contact_id}", status=404, client=client)
    space.call("POST", f"/contact/id:{contact_id}/conversation/assignee", {"assignee": user_id})
    assert space.call("GET", f"/contact/id:{contact_id}", client=client)["assignee"]["id"] == user_id


def test_b86_an_agent_limited_to_the_team_sees_its_contacts(space: Space) -> None:
    team = space.rows("insert into team (workspace_id, name) values (:w, 'North') returning id")[0][0]
    me = space.user("agent", ["show_team_contacts"], team_id=team)
    mate = space.user("agent", team_id=team)
    contact_id = space.contact()
    client = space.client("agent", me)
    space.call("GET", f"/contact/id:{contact_id}", status=404, client=client)
    space.call("POST", f"/contact/id:{contact_id}/conversation/assignee", {"assignee": mate})
    space.call("GET", f"/contact/id:{contact_id}", client=client)


def test_b86_a_manager_without_settings_access_configures_nothing(space: Space) -> None:
    client = space.client("manager", space.user("manager", ["restrict_space_setting"]))
    space.call("POST", "/space/tag", {"name": "x"}, 403, client)
    space.call("POST", "/space/tag", {"name": "x"})


def test_b86_the_last_owner_cannot_be_removed(space: Space) -> None:
    one, two = space.user("owner"), space.user("owner")
    space.call("DELETE", f"/space/user/{one}")
    space.call("DELETE", f"/space/user/{two}", status=409)
    space.call("PUT", f"/space/user/{two}", {"role": "agent"}, 409)


def test_b87_a_token_acts_as_owner_unless_given_less_and_its_user_bounds_it(space: Space) -> None:
    agent = space.user("agent")
    space.call("POST", "/contact/list", {"filter": {}}, 403, space.client("owner", agent))
    space.call("POST", "/contact/list", {"filter": {}}, 200, space.client("owner"))


def test_a_token_of_a_removed_user_stops(space: Space) -> None:
    user_id = space.user("agent")
    client = space.client("agent", user_id)
    space.call("DELETE", f"/space/user/{user_id}")
    space.call("GET", "/space/user", status=401, client=client)
