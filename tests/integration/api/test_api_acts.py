"""Merge, block, delete and workflows over the API: shapes, roles, audit lines."""

# ruff: noqa: N802 - the names carry the lines of the specification

from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.domain.blocks import address_hash
from ingest.jobs.act_types import ContinueBulkAct, PurgeDeletion
from ingest.pipeline.block import continue_bulk_act
from ingest.pipeline.delete import purge_deletion
from ingest.web.api import blocks, deletions, merge_rules, merges, workflows
from ingest.web.api.routes import routed

from .conftest import MakeSpace
from .space import ROOT, Space

ASK = {"trigger": {"kind": "manual"}, "steps": [{"id": "q", "kind": "ask", "text": "Phone?", "answer": "phone"}]}
ROLES = ("owner", "manager", "agent")
# Every route of the acts with who may call it: a new route without a line fails the test below.
EVERYBODY, MANAGERS = set(ROLES), {"owner", "manager"}
MATRIX: dict[tuple[str, str], set[str]] = {
    ("POST", "/contact/merge"): EVERYBODY,
    ("POST", "/contact/merge/preview"): EVERYBODY,
    ("POST", "/suggestion/{suggestion_id}/merge"): EVERYBODY,
    ("POST", "/merge/{merge_id}/undo"): EVERYBODY,
    ("POST", "/contact/{identifier}/unmerge"): MANAGERS,
    ("GET", "/contact/{identifier}/merged/list"): MANAGERS,
    ("GET", "/merge/list"): MANAGERS,
    ("GET", "/contact/{identifier}/merge/list"): MANAGERS,
    ("POST", "/contact/{identifier}/block"): MANAGERS,
    ("POST", "/contact/{identifier}/unblock"): MANAGERS,
    ("POST", "/contact/bulk/block"): MANAGERS,
    ("POST", "/contact/bulk/unblock"): MANAGERS,
    ("GET", "/bulk/{bulk_act_id}"): MANAGERS,
    ("GET", "/block/evasion"): MANAGERS,
    ("DELETE", "/contact/{identifier}"): MANAGERS,
    ("POST", "/contact/bulk/delete"): MANAGERS,
    ("GET", "/deletion/list"): MANAGERS,
    ("GET", "/deletion/{deletion_id}"): MANAGERS,
    ("POST", "/deletion/{deletion_id}/cancel"): MANAGERS,
    ("GET", "/deletion/{deletion_id}/failure/list"): MANAGERS,
    ("GET", "/deletion/{deletion_id}/certificate"): MANAGERS,
    ("POST", "/merge/rule"): MANAGERS,
    ("GET", "/merge/rule/list"): MANAGERS,
    ("POST", "/merge/rule/{rule_id}/preview"): MANAGERS,
    ("POST", "/merge/rule/{rule_id}/enable"): MANAGERS,
    ("POST", "/merge/rule/{rule_id}/disable"): MANAGERS,
    ("DELETE", "/merge/rule/{rule_id}"): MANAGERS,
    ("POST", "/workflow"): MANAGERS,
    ("GET", "/workflow/list"): EVERYBODY,
    ("GET", "/workflow/{workflow_id}"): EVERYBODY,
    ("PUT", "/workflow/{workflow_id}"): MANAGERS,
    ("POST", "/workflow/{workflow_id}/publish"): MANAGERS,
    ("POST", "/workflow/{workflow_id}/unpublish"): MANAGERS,
    ("POST", "/workflow/{workflow_id}/start"): EVERYBODY,
    ("POST", "/workflow/{workflow_id}/stop"): MANAGERS,
    ("GET", "/workflow/{workflow_id}/run/list"): MANAGERS,
    ("GET", "/contact/{identifier}/run/list"): EVERYBODY,
    ("POST", "/contact/{identifier}/run/{run_id}/stop"): EVERYBODY,
    ("POST", "/contact/{identifier}/run/stop"): EVERYBODY,
}
ROUTES = routed(
    [merge_rules.router, merges.router, blocks.bulk_router, blocks.router, deletions.router, workflows.router]
)


def purge(space: Space, deletion_id: int) -> None:
    state = "running"
    while state == "running":
        with space.uow() as uow:
            state = purge_deletion(uow, PurgeDeletion(space.id, deletion_id))


def audited(space: Space) -> list[tuple[str, str]]:
    rows = space.rows("select action, outcome from audit_entry where workspace_id = :w order by id")
    return [(row.action, row.outcome) for row in rows]


# --- who may do what -------------------------------------------------------------------------------------------------


def test_A107_every_route_of_the_acts_is_in_the_matrix() -> None:
    assert {(method, route.path) for route in ROUTES for method in route.methods or ()} == set(MATRIX)


@pytest.mark.parametrize("role", ROLES)
def test_A11_A70_A76_A84_and_A107_refused_calls_answer_403_and_leave_an_audit_line(space: Space, role: str) -> None:
    client = space.client(role)
    for (method, path), allowed in MATRIX.items():
        ids = {"suggestion_id": "1", "merge_id": "1", "identifier": "id:1", "bulk_act_id": "1", "deletion_id": "1"}
        url = path.format(**ids, workflow_id="1", run_id="1", rule_id="1")
        before = len(audited(space))
        status = client.request(method, f"{ROOT}{url}", json={}).status_code
        refused = [each for each in audited(space)[before:] if each[1] == "refused"]
        assert (status == 403, len(refused)) == ((False, 0) if role in allowed else (True, 1)), (
            role,
            method,
            path,
            status,
        )


def test_A84_a_manager_with_the_restriction_may_not_delete(space: Space) -> None:
    user_id = space.user("manager", ["restrict_contact_deletion"])
    client = space.client("manager", user_id)
    space.call("DELETE", f"/contact/id:{space.contact()}", status=403, client=client)


@pytest.mark.parametrize("path", ["/contact/id:{id}/block", "/contact/id:{id}/unblock", "/contact/id:{id}/run/stop"])
def test_P9_contacts_of_another_workspace_answer_like_missing_ones(make_space: MakeSpace, path: str) -> None:
    mine, theirs = make_space(), make_space()
    foreign = mine.call("POST", path.format(id=theirs.contact()), {}, 404)
    missing = mine.call("POST", path.format(id=2**50), {}, 404)
    assert foreign == missing


# --- merge -----------------------------------------------------------------------------------------------------------


def test_B21_the_first_id_stays_and_is_answered(space: Space) -> None:
    kept, absorbed = space.contact(firstName="Ada"), space.contact(firstName="Eve", lastName="Test")
    answer = space.call("POST", "/contact/merge", {"contactIds": [kept, str(absorbed)], "firstName": "Both"})
    assert answer == {"contactId": kept, "mergeId": answer["mergeId"], "mergedContactId": absorbed}
    shown = space.get(kept)
    assert (shown["firstName"], shown["lastName"]) == ("Both", "Test")
    assert ("contact.merge", "done") in audited(space)


def test_B29_the_absorbed_id_lives_on_as_a_redirect_and_is_not_listed(space: Space) -> None:
    kept, absorbed = space.contact(), space.contact()
    space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]})
    shown = space.get(absorbed)
    assert (shown["id"], shown["mergedFrom"]) == (kept, [absorbed])
    listed = space.call("POST", "/contact/list", {"filter": {"$and": []}})
    assert [each["id"] for each in listed["items"]] == [kept]


@pytest.mark.parametrize("ids", [[1], [1, 2, 3], []])
def test_A57_exactly_two_ids(space: Space, ids: list[int]) -> None:
    space.call("POST", "/contact/merge", {"contactIds": ids}, 400)


def test_B24_and_A58_refusals_of_the_contract(space: Space) -> None:
    kept, absorbed = space.contact(), space.contact()
    space.call("POST", "/contact/merge", {"contactIds": [kept, kept]}, 400)
    space.call("POST", "/contact/merge", {"contactIds": [kept, 2**50]}, 404)
    space.call("POST", f"/contact/id:{absorbed}/block", {})
    refusal = space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]}, 409)
    assert (refusal["error"], refusal["details"]) == ("blocked", {"contact_id": absorbed})
    space.call("POST", f"/contact/id:{absorbed}/unblock", {})
    space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]})
    third = space.contact()
    gone = space.call("POST", "/contact/merge", {"contactIds": [third, absorbed]}, 409)
    assert (gone["error"], gone["details"]) == ("merged_into", {"merged_into": kept})
    space.call("DELETE", f"/contact/id:{third}")
    space.call("POST", "/contact/merge", {"contactIds": [kept, third]}, 410)


def test_A66_and_A67_agents_merge_what_shares_a_key_and_managers_anything(space: Space) -> None:
    kept, absorbed = space.contact(phone="+60123456781"), space.contact(phone="+60123456782")
    body = {"contactIds": [kept, absorbed]}
    assert space.call("POST", "/contact/merge", body, 403, space.agent)["error"] == "no_shared_key"
    preview = space.call("POST", "/contact/merge/preview", body, client=space.agent)
    assert [each["error"] for each in preview["obstacles"]] == ["no_shared_key"]
    assert space.call("POST", "/contact/merge/preview", body, client=space.manager)["obstacles"] == []
    space.call("POST", "/contact/merge", body, client=space.manager)


def test_B20_an_agent_limited_to_their_own_contacts_merges_only_those(space: Space) -> None:
    user_id = space.user("agent", ["show_only_mine"])
    client = space.client("agent", user_id)
    mine, other = space.contact(), space.contact()
    space.call("PUT", f"/contact/id:{other}", {"email": "same@example.com"})
    space.call("PUT", f"/contact/id:{mine}", {"email": "same@example.com"})
    space.call("POST", f"/contact/id:{mine}/conversation/assignee", {"assignee": user_id})
    space.call("POST", "/contact/merge", {"contactIds": [mine, other]}, 404, client)
    space.call("POST", f"/contact/id:{other}/conversation/assignee", {"assignee": user_id})
    space.call("POST", "/contact/merge", {"contactIds": [mine, other]}, client=client)


def test_A66_a_suggestion_can_be_merged(space: Space) -> None:
    older, newer = space.contact(), space.contact()
    (row,) = space.rows(
        "insert into merge_suggestion (workspace_id, low_contact_id, high_contact_id, kind, keys) "
        "values (:w, :low, :high, 'exact', '{tel:1}') returning id",
        low=older,
        high=newer,
    )
    answer = space.call("POST", f"/suggestion/{row.id}/merge", {"keep": newer}, client=space.agent)
    assert (answer["contactId"], answer["mergedContactId"]) == (newer, older)
    space.call("POST", f"/suggestion/{row.id}/merge", {}, 404)


def test_A64_and_A71_undo_and_unmerge_over_the_api(space: Space) -> None:
    kept, absorbed = space.contact(firstName="Ada"), space.contact(firstName="Eve")
    merge_id = space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]})["mergeId"]
    space.call("POST", f"/merge/{merge_id}/undo", {}, 403, space.agent)
    assert space.call("POST", f"/merge/{merge_id}/undo") == {"contactId": kept}
    assert space.get(absorbed)["firstName"] == "Eve"
    space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]})
    (inside,) = space.call("GET", f"/contact/id:{kept}/merged/list")
    assert (inside["id"], inside["name"]) == (absorbed, "Eve")
    space.call("POST", f"/contact/id:{kept}/unmerge", {"contactId": absorbed})
    assert space.get(absorbed)["id"] == absorbed
    history = space.call("GET", f"/contact/id:{kept}/merge/list")["items"]
    assert [each["state"] for each in history] == ["unmerged", "undone"]
    assert space.call("GET", "/merge/list")["items"] == history


def test_B31_an_idempotency_key_returns_the_first_answer(space: Space) -> None:
    kept, absorbed = space.contact(), space.contact()
    client = space.client("owner", **{"Idempotency-Key": "once"})
    first = space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]}, client=client)
    assert space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]}, client=client) == first


def test_C1_a_rule_is_tried_out_switched_on_and_removed(space: Space) -> None:
    body = {"name": "Same", "keyKind": "phone", "agreeingFields": ["first_name"]}
    rule = space.call("POST", "/merge/rule", body)
    assert (rule["isEnabled"], rule["hourlyCap"]) == (False, 100)
    path = f"/merge/rule/{rule['id']}"
    assert space.call("POST", f"{path}/preview") == []
    assert space.call("POST", f"{path}/enable")["isEnabled"] is True
    assert space.call("POST", f"{path}/disable") == rule
    assert space.call("GET", "/merge/rule/list") == [rule]
    space.call("DELETE", path)
    space.call("DELETE", path, status=404)


# --- block -----------------------------------------------------------------------------------------------------------


def test_A76_A82_and_B43_block_shows_and_unblock_returns_to_closed(space: Space) -> None:
    contact_id = space.contact()
    space.call("POST", f"/contact/id:{contact_id}/conversation/status", {"status": "open"})
    space.call("POST", f"/contact/id:{contact_id}/block", {"reason": "spam"})
    space.call("POST", f"/contact/id:{contact_id}/block", {})
    shown = space.get(contact_id)
    assert (shown["isBlocked"], shown["status"], shown["shownStatus"]) == (True, "closed", "blocked")
    space.call("POST", f"/contact/id:{contact_id}/conversation/status", {"status": "open"}, 409)
    blocked = space.call("POST", "/contact/page", {"filter": {}, "isBlocked": True})
    assert [each["id"] for each in blocked["items"]] == [contact_id]
    space.call("POST", f"/contact/id:{contact_id}/unblock")
    assert (space.get(contact_id)["isBlocked"], space.get(contact_id)["status"]) == (False, "closed")


def test_B45_agents_block_only_where_the_workspace_has_switched_it_on(space: Space) -> None:
    contact_id = space.contact()
    space.call("POST", f"/contact/id:{contact_id}/block", {}, 403, space.agent)
    assert audited(space)[-1] == ("contact.block_one", "refused")
    space.run("""update workspace set settings = settings || '{"agents_may_block": true}' where id = :w""")
    # A token of its own: who asks is remembered for a second.
    agent = space.client("agent")
    space.call("POST", f"/contact/id:{contact_id}/block", {}, client=agent)
    assert space.get(contact_id)["isBlocked"] is True
    space.call("POST", "/contact/bulk/block", {"contactIds": [contact_id]}, 403, agent)


def test_C12_a_block_has_an_end_in_the_future(space: Space) -> None:
    contact_id = space.contact()
    refused = space.call("POST", f"/contact/id:{contact_id}/block", {"until": 1}, 422)
    assert refused["field"] == "until"
    later = int(datetime.now(UTC).timestamp()) + 3600
    space.call("POST", f"/contact/id:{contact_id}/block", {"until": later})
    assert space.jobs("end_timed_block") == [{"contact_id": contact_id}]


def test_C19_bulk_block_is_accepted_and_followed(space: Space) -> None:
    ids = [space.contact(), space.contact()]
    act = space.call("POST", "/contact/bulk/block", {"contactIds": ids, "reason": "spam"}, 202)
    assert (act["state"], act["contactCount"]) == ("queued", 2)
    with space.uow() as uow:
        continue_bulk_act(uow, ContinueBulkAct(space.id, act["id"]))
    done = space.call("GET", f"/bulk/{act['id']}")
    assert (done["state"], done["changedCount"]) == ("completed", 2)
    assert space.call("GET", "/block/evasion") == {"contactCount": 0}


# --- delete ----------------------------------------------------------------------------------------------------------


def test_A85_and_A86_a_deleted_contact_is_gone_at_once(space: Space) -> None:
    contact_id = space.contact(phone="+60123456789")
    assert space.call("DELETE", f"/contact/id:{contact_id}") == {"contactId": contact_id}
    space.call("GET", f"/contact/id:{contact_id}", status=404)
    space.call("GET", "/contact/phone:+60123456789", status=404)
    space.call("DELETE", f"/contact/id:{contact_id}", status=404)
    assert space.contact(phone="+60123456789") != contact_id


def test_B52_an_absorbed_id_is_refused_with_where_it_went(space: Space) -> None:
    kept, absorbed = space.contact(), space.contact()
    space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]})
    refusal = space.call("DELETE", f"/contact/id:{absorbed}", status=409)
    assert (refusal["error"], refusal["details"]) == ("merged_into", {"merged_into": kept})


@pytest.mark.parametrize("way", ["ids", "filter", "all"])
def test_A87_A89_A90_and_B46_bulk_deletion_by_ids_filter_or_all(space: Space, way: str) -> None:
    ids = [space.contact(lastName="Gone") for _ in range(3)]
    stays = [] if way == "all" else [space.contact(lastName="Stays")]
    condition = {"category": "contactField", "field": "lastName", "operator": "isEqualTo", "value": "Gone"}
    body: dict[str, Any] = {
        "ids": {"contactIds": ids}, "filter": {"filter": {"$and": [condition]}}, "all": {"all": True},
    }[way]  # fmt: skip
    refusal = space.call("POST", "/contact/bulk/delete", {**body, "count": 2}, 409)
    assert (refusal["error"], refusal["details"]) == ("wrong_count", {"contact_count": 3})
    job = space.call("POST", "/contact/bulk/delete", {**body, "count": 3}, 202)
    assert (job["state"], job["contactCount"], job["selection"]) == ("queued", 3, way)
    listed = space.call("POST", "/contact/list", {"filter": {"$and": []}})["items"]
    assert [each["id"] for each in listed] == stays
    purge(space, job["id"])
    done = space.call("GET", f"/deletion/{job['id']}")
    assert (done["state"], done["purgedCount"], done["failedCount"]) == ("completed", 3, 0)
    certificate = space.call("GET", f"/deletion/{job['id']}/certificate")
    assert certificate["certificate"]["contacts"] == 3
    assert space.call("GET", "/deletion/list")["items"][0]["id"] == job["id"]
    assert space.call("GET", f"/deletion/{job['id']}/failure/list") == []


def test_one_way_of_selecting_is_needed(space: Space) -> None:
    space.call("POST", "/contact/bulk/delete", {"count": 1}, 422)
    space.call("POST", "/contact/bulk/delete", {"count": 1, "all": True, "contactIds": [1]}, 422)


def test_B53_a_deletion_is_cancelled_within_its_grace_period(space: Space) -> None:
    contact_id = space.contact(phone="+60123456789")
    body = {"contactIds": [contact_id], "count": 1, "graceSeconds": 600}
    job = space.call("POST", "/contact/bulk/delete", body, 202)
    assert job["state"] == "waiting"
    space.call("GET", f"/contact/id:{contact_id}", status=404)
    assert space.call("POST", f"/deletion/{job['id']}/cancel")["state"] == "cancelled"
    assert space.call("GET", "/contact/phone:+60123456789")["id"] == contact_id


def test_B51_the_answer_warns_of_blocked_contacts(space: Space) -> None:
    contact_id = space.contact()
    space.connect(contact_id, space.channel())
    space.call("POST", f"/contact/id:{contact_id}/block", {})
    body = {"contactIds": [contact_id], "count": 1, "keepBlock": True}
    assert space.call("POST", "/contact/bulk/delete", body, 202)["blockedCount"] == 1
    (kept,) = space.rows("select channel_id, address_hash from block_list where workspace_id = :w")
    (identity,) = space.rows("select address from identity where workspace_id = :w")
    assert bytes(kept.address_hash) == address_hash(space.runtime.salts[0], kept.channel_id, identity.address)


# --- workflows -------------------------------------------------------------------------------------------------------


def test_B61_and_C5_a_workflow_is_kept_published_started_and_stopped(space: Space) -> None:
    contact_id = space.contact()
    channel_id = space.channel()
    space.connect(contact_id, channel_id)
    space.run("update contact set last_channel_id = :channel where workspace_id = :w", channel=channel_id)
    flow = space.call("POST", "/workflow", {"name": "Ask", "definition": ASK})
    assert (flow["state"], flow["version"]) == ("draft", 1)
    path = f"/workflow/{flow['id']}"
    space.call("POST", f"{path}/start", {"contactIds": [contact_id]}, 409)
    assert space.call("POST", f"{path}/publish")["publishedVersion"] == 1
    assert space.call("POST", f"{path}/start", {"contactIds": [contact_id]}, client=space.agent) == {"runCount": 1}
    (run,) = space.call("GET", f"/contact/id:{contact_id}/run/list?state=active")["items"]
    assert (run["workflowName"], run["waitsFor"], run["state"]) == ("Ask", "answer", "active")
    assert space.call("GET", f"{path}/run/list")["items"] == [run]
    assert space.call("POST", f"/contact/id:{contact_id}/run/{run['id']}/stop") == {"runCount": 1}
    assert space.call("GET", f"/contact/id:{contact_id}/run/list")["items"][0]["reason"] == "manual"
    space.call("POST", f"{path}/start", {"contactIds": [contact_id]})
    assert space.call("POST", f"{path}/stop") == {"runCount": 1}
    space.call("POST", f"{path}/start", {"contactIds": [contact_id]})
    assert space.call("POST", f"/contact/id:{contact_id}/run/stop") == {"runCount": 1}
    assert space.call("PUT", path, {"definition": ASK})["version"] == 2
    assert space.call("POST", f"{path}/unpublish")["state"] == "unpublished"
    assert [each["id"] for each in space.call("GET", "/workflow/list")] == [flow["id"]]


def test_B61_a_definition_that_cannot_be_is_answered_with_its_place(space: Space) -> None:
    broken = {"trigger": {"kind": "manual"}, "steps": [{"id": "a", "kind": "dance"}]}
    refusal = space.call("POST", "/workflow", {"name": "Odd", "definition": broken}, 422)
    assert refusal["field"] == "steps.0.kind"
