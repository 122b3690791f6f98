import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.channels import webchat
from ingest.channels.base import BadShape, BadSignature, Webhook
from ingest.channels.envelope import accepted
from ingest.domain.events import Sender
from tests.unit.channels.conftest import MakeWebhook

NOW = datetime(2025, 6, 15, 15, tzinfo=UTC)


def sender(webhook: MakeWebhook, name: str) -> Sender:
    event, *_ = webchat.parse(webhook(f"webchat/{name}"))
    assert event.sender is not None
    return event.sender


def with_body(hook: Webhook, **fields: Any) -> Webhook:
    return replace(hook, body=json.dumps(json.loads(hook.body) | fields).encode())


def with_event(hook: Webhook, **fields: Any) -> Webhook:
    event = json.loads(hook.body)["events"][0] | fields
    return with_body(hook, events=[{name: value for name, value in event.items() if value is not ...}])


def test_token_that_we_issue_is_accepted(webhook: MakeWebhook) -> None:
    token = webchat.issue_visitor_token("inbox-fake-01", "s_fake_01", NOW, "session-key-of-the-inbox")
    webchat.verify(webhook("webchat/message", authorization=f"Bearer {token}"))


@pytest.mark.parametrize(
    ("inbox", "sid", "key"),
    [
        ("inbox-fake-01", "s_fake_01", "another-key"),
        ("inbox-fake-02", "s_fake_01", "session-key-of-the-inbox"),
        ("inbox-fake-01", "s_fake_02", "session-key-of-the-inbox"),
    ],
)
def test_token_of_another_key_inbox_or_session_is_refused(webhook: MakeWebhook, inbox: str, sid: str, key: str) -> None:
    """T61: nobody writes in another visitor's name."""
    token = webchat.issue_visitor_token(inbox, sid, NOW, key)
    with pytest.raises(BadSignature):
        webchat.verify(webhook("webchat/message", authorization=f"Bearer {token}"))


def test_proved_user_is_verified_and_known_across_browsers(webhook: MakeWebhook) -> None:
    person = sender(webhook, "form_and_message_proved")
    assert (person.verified, person.email, person.aliases) == (True, "luma@example.com", ("user:cust-881",))


@pytest.mark.parametrize("name", ["identity_without_proof", "identity_forged", "identity_expired"])
def test_user_without_a_good_proof_only_claims(webhook: MakeWebhook, name: str) -> None:
    person = sender(webhook, name)
    assert (person.verified, person.aliases) == (False, ())
    assert person.email is not None


def test_claim_beside_a_proof_makes_the_facts_claims(webhook: MakeWebhook) -> None:
    assert not sender(webhook, "proved_with_other_claim").verified


def test_form_gives_facts_before_the_first_message(webhook: MakeWebhook) -> None:
    person = sender(webhook, "form_only")
    assert (person.display_name, person.email, person.phone) == ("Luma Reis", "luma@example.com", "+55 11 98765-4321")
    assert not person.verified


def test_form_is_known_to_the_message_beside_it(webhook: MakeWebhook) -> None:
    form, message = webchat.parse(webhook("webchat/form_and_message_proved"))
    assert form.sender == message.sender


def test_id_of_another_session_is_another_message(webhook: MakeWebhook) -> None:
    hook = webhook("webchat/message")
    token = webchat.issue_visitor_token("inbox-fake-01", "s_fake_02", NOW, "session-key-of-the-inbox")
    other = with_body(replace(hook, headers={"authorization": f"Bearer {token}"}), sid="s_fake_02")
    assert webchat.parse(hook)[0].external_id != webchat.parse(other)[0].external_id


def test_answer_lists_the_accepted_ids(webhook: MakeWebhook) -> None:
    answer = accepted(webhook("webchat/edit_and_delete"))
    ids = ["00000000-0000-4000-8000-000000000012", "00000000-0000-4000-8000-000000000013"]
    assert json.loads(answer.body) == {"accepted": ids, "rejected": []}


def test_control_characters_are_taken_out(webhook: MakeWebhook) -> None:
    [event] = webchat.parse(webhook("webchat/control_characters"))
    assert event.message is not None
    assert event.message.text == "abc\nd <b>e</b>"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"v": 2}, "v"),
        ({"sid": ""}, "sid"),
        ({"sid": "x" * 129}, "sid"),
        ({"events": []}, "events"),
        ({"events": [{}] * 51}, "events"),
        ({"events": ["x"]}, "events[0]"),
        ({"identity": "me"}, "identity"),
    ],
)
def test_bad_envelope_is_refused_naming_the_field(webhook: MakeWebhook, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(BadShape) as refused:
        webchat.check(with_body(webhook("webchat/message"), **fields))
    assert str(refused.value).startswith(f"{named}:")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"id": ...}, "events[0].id"),
        ({"id": 7}, "events[0].id"),
        ({"type": None}, "events[0].type"),
        ({"at": "yesterday"}, "events[0].at"),
        ({"message": ...}, "events[0].message"),
        ({"message": {}}, "events[0].message.text"),
        ({"message": {"text": 7}}, "events[0].message.text"),
        ({"message": {"attachments": [{}]}}, "events[0].message.attachments[0].upload_id"),
        ({"type": "edit", "edit": {"id": "x"}}, "events[0].edit.text"),
        ({"type": "consent", "consent": {"purpose": "x", "granted": "yes"}}, "events[0].consent.granted"),
        ({"type": "form", "form": {}}, "events[0].form.fields"),
        ({"type": "read", "read": {}}, "events[0].read.up_to"),
    ],
)
def test_bad_event_is_refused_naming_the_field(webhook: MakeWebhook, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(BadShape) as refused:
        webchat.check(with_event(webhook("webchat/message"), **fields))
    assert str(refused.value).startswith(f"{named}:")


def test_body_that_is_no_json_is_refused_naming_the_body(webhook: MakeWebhook) -> None:
    with pytest.raises(BadShape, match="body"):
        webchat.check(replace(webhook("webchat/message"), body=b"{"))


def test_type_of_a_newer_widget_is_let_in(webhook: MakeWebhook) -> None:
    webchat.check(with_event(webhook("webchat/message"), type="hologram"))
