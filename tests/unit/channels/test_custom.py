import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ingest.channels import custom
from ingest.channels.base import BadPayload, BadShape, BadSignature, Webhook
from ingest.errors import BadSetting
from tests.unit.channels.conftest import MakeWebhook


def with_body(hook: Webhook, **fields: Any) -> Webhook:
    body = {name: value for name, value in (json.loads(hook.body) | fields).items() if value is not ...}
    return replace(hook, body=json.dumps(body).encode())


def with_mapping(hook: Webhook, **mapping: Any) -> Webhook:
    return replace(hook, settings={"mapping": json.dumps(mapping)})


@pytest.mark.parametrize("seconds", [-301, 301])
def test_signature_outside_the_window_is_refused(webhook: MakeWebhook, seconds: int) -> None:
    hook = webhook("custom/envelope_signed")
    signed_at = hook.received_at - timedelta(seconds=80)
    custom.verify(replace(hook, received_at=signed_at + timedelta(seconds=299)))
    with pytest.raises(BadSignature):
        custom.verify(replace(hook, received_at=signed_at + timedelta(seconds=seconds)))


def test_bad_signature_is_not_saved_by_a_good_token(webhook: MakeWebhook) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        custom.verify(webhook("custom/envelope_bearer", x_ingest_signature="t=1750000000,v1=00"))


@pytest.mark.parametrize(
    "given", ["channel-token-1", "Basic channel-token-1", "Bearer", "Bearer ", "Bearer channel-token-2"]
)
def test_anything_but_the_bearer_token_is_refused(webhook: MakeWebhook, given: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        custom.verify(webhook("custom/bridge_text", authorization=given))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"channelId": ...}, "channelId"),
        ({"contactId": "x" * 51}, "contactId"),
        ({"contactId": "no spaces"}, "contactId"),
        ({"contact": "Mara"}, "contact"),
        ({"events": {}}, "events"),
        ({"events": [{"type": "shout"}]}, "events[0].type"),
        ({"events": [{"type": ["message"]}]}, "events[0].type"),
        ({"events": [{"type": "message", "mId": "m" * 51}]}, "events[0].mId"),
        ({"events": [{"type": "message", "mId": "m", "timestamp": "now"}]}, "events[0].timestamp"),
        ({"events": [{"type": "message", "mId": "m", "timestamp": 1}]}, "events[0].message"),
        ({"events": [{"type": "message", "mId": "m", "timestamp": 1, "message": {}}]}, "events[0].message.type"),
        (
            {"events": [{"type": "message_status", "mId": "m", "timestamp": 1, "status": {"value": "lost"}}]},
            "events[0].status.value",
        ),
    ],
)
def test_bad_bridge_body_is_refused_naming_the_field(webhook: MakeWebhook, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(BadShape) as refused:
        custom.check(with_body(webhook("custom/bridge_text"), **fields))
    assert str(refused.value).startswith(f"{named}:")


def test_channel_of_phones_takes_only_phones(webhook: MakeWebhook) -> None:
    hook = webhook("custom/bridge_custom_id")
    custom.check(hook)
    with pytest.raises(BadShape, match="contactId"):
        custom.check(replace(hook, settings={"contact_ids": "phone"}))


def test_number_as_a_custom_id_is_no_phone(webhook: MakeWebhook) -> None:
    hook = webhook("custom/bridge_text")
    [event] = custom.parse(replace(hook, settings={"contact_ids": "custom"}))
    assert event.sender is not None
    assert event.sender.phone is None


def test_event_of_our_envelope_needs_the_contacts_key(webhook: MakeWebhook) -> None:
    hook = webhook("custom/envelope_bearer")
    event = json.loads(hook.body)["events"][0] | {"contact": {}}
    with pytest.raises(BadShape, match=r"^events\[0\]\.contact\.key:"):
        custom.check(with_body(hook, events=[event]))


def test_unknown_message_type_is_let_in_as_unsupported(webhook: MakeWebhook) -> None:
    """T53."""
    hook = webhook("custom/bridge_unknown_kind")
    custom.check(hook)
    [event] = custom.parse(hook)
    assert event.message is not None
    assert (event.message.kind, event.message.raw_kind) == ("unsupported", "hologram")


def test_answer_is_the_one_the_mapping_wants(webhook: MakeWebhook) -> None:
    answer = custom.answer(webhook("custom/mapped_json_hmac"))
    assert (answer.status, answer.content_type, answer.body) == (202, "application/json", b'{"ok":true}')


def test_answer_to_an_envelope_lists_its_ids(webhook: MakeWebhook) -> None:
    assert json.loads(custom.answer(webhook("custom/envelope_signed")).body)["accepted"] == ["erp-0001", "erp-0002"]


@pytest.mark.parametrize("mapping", ["{", '{"sender": 7}', '{"sendr": "from"}', '{"proof": {"type": "trust"}}'])
def test_unusable_mapping_lets_nothing_in_and_says_why(webhook: MakeWebhook, mapping: str) -> None:
    hook = replace(webhook("custom/mapped_form"), settings={"mapping": mapping})
    with pytest.raises(BadSetting, match="mapping"):
        custom.verify(hook)


def test_equal_texts_without_id_and_time_are_two_messages(webhook: MakeWebhook) -> None:
    hook = with_mapping(with_body(webhook("custom/mapped_weak_id"), time=None))
    later = replace(hook, received_at=hook.received_at + timedelta(seconds=1))
    assert custom.parse(hook)[0].external_id != custom.parse(later)[0].external_id


def test_equal_text_sent_at_the_same_time_is_a_redelivery(webhook: MakeWebhook) -> None:
    hook = webhook("custom/mapped_weak_id")
    later = replace(hook, received_at=hook.received_at + timedelta(seconds=1))
    assert custom.parse(hook)[0].external_id == custom.parse(later)[0].external_id


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE x [<!ENTITY a "b">]><inbound><from>1</from><content>&a;</content></inbound>',
        b"<inbound>" + b"<a>" * 40 + b"</a>" * 40 + b"</inbound>",
        b"<inbound><from>1</from>",
    ],
)
def test_xml_with_entities_too_deep_or_broken_is_a_bad_payload(webhook: MakeWebhook, body: bytes) -> None:
    with pytest.raises(BadPayload):
        custom.parse(replace(webhook("custom/mapped_xml"), body=body))
