"""Trigger registration as the n8n node does it, and tokens made over the API."""

from typing import Any

import pytest

from .conftest import MakeSpace
from .space import ROOT, Space

N8N = "/integration/n8n-api"
BODY = {
    "webHookName": "default - x",
    "type": "newIncomingMessage",
    "url": "http://10.0.0.1:5678/webhook/1",
    "hookId": "h-1",
    "bundle": {},
}


def register(space: Space, status: int = 200, **changes: Any) -> Any:
    answer = space.owner.post(f"{N8N}/subscribe", json={**BODY, **changes})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_trigger_registers_replaces_and_leaves(space: Space) -> None:
    assert space.owner.get(f"{N8N}/webhook/h-1").status_code == 404
    register(space)
    assert register(space, type="contactUpdated")["eventType"] == "contact.updated"
    assert space.owner.get(f"{N8N}/webhook/h-1").json()["url"] == BODY["url"]
    assert len(space.rows("select 1 from webhook_subscription where workspace_id = :w")) == 1
    assert space.owner.delete(f"{N8N}/unsubscribe/h-1?hookUrl=https://other.example/").status_code == 404
    assert space.owner.delete(f"{N8N}/unsubscribe/h-1?hookUrl={BODY['url']}").status_code == 200
    assert space.owner.delete(f"{N8N}/unsubscribe/h-1").status_code == 404


def test_the_filters_of_a_trigger_are_kept_in_our_words(space: Space) -> None:
    register(
        space,
        bundle={
            "sources": ["user"],
            "fields": ["lang", "phone"],
            "contactFieldType": "standard_field",
            "messageType": [],
        },
    )
    stored = space.rows("select filters from webhook_subscription where workspace_id = :w")[0][0]
    assert stored == {"sources": ["user"], "fields": ["language", "phone"], "field_kind": "standard_field"}


@pytest.mark.parametrize(
    "changes", [{"type": "nope"}, {"url": "ftp://x"}, {"url": "x"}, {"hookId": ""}, {"bundle": {"source": "x"}}]
)
def test_a_trigger_that_cannot_be_is_400(space: Space, changes: dict[str, Any]) -> None:
    assert register(space, 400, **changes)["code"] == 400


def test_a_trigger_of_another_workspace_does_not_exist(make_space: MakeSpace) -> None:
    one, other = make_space(), make_space()
    register(one)
    assert other.owner.get(f"{N8N}/webhook/h-1").status_code == 404
    assert other.owner.delete(f"{N8N}/unsubscribe/h-1").status_code == 404


def test_b78_a_workspace_has_at_most_10_tokens_and_each_is_shown_once(space: Space) -> None:
    # The owner's, the manager's and the agent's are there.
    made = [space.call("POST", "/space/token", {"name": "n8n", "role": "agent"})["token"] for _ in range(7)]
    assert space.call("POST", "/space/token", {}, 409)["error"] == "too_many_tokens"
    answer = space.owner.get(f"{ROOT}/space/user", headers={"Authorization": f"Bearer {made[0]}"})
    assert answer.status_code == 200
    listed = space.call("GET", "/space/token?limit=100")
    assert not any(token in str(listed) for token in made)
    space.call("DELETE", f"/space/token/{listed['items'][-1]['id']}")
    space.call("POST", "/space/token", {})
    space.call("POST", "/space/token", {}, 403, space.manager)
