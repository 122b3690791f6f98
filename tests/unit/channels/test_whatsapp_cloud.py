import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.channels import whatsapp_cloud
from ingest.channels.base import BadPayload, Webhook
from ingest.channels.whatsapp_plain import read_plain
from ingest.domain.events import InboundEvent, Message, Sender
from tests.recorded import Recording, read_recording, recordings
from tests.unit.channels.conftest import MakeWebhook

USER_ID, PHONE = "GB.7000000000000000042", "447700900456"


def one(hook: Webhook) -> InboundEvent:
    [event] = whatsapp_cloud.parse(hook)
    return event


def with_message(hook: Webhook, **fields: Any) -> Webhook:
    """Return the request with fields of its only message changed."""
    body = json.loads(hook.body)
    body["entry"][0]["changes"][0]["value"]["messages"][0] |= fields
    return replace(hook, body=json.dumps(body).encode())


def test_text_message_is_read_in_full(webhook: MakeWebhook) -> None:
    assert whatsapp_cloud.parse(webhook("whatsapp_cloud/text")) == [
        InboundEvent(
            "message",
            "wamid.RkFLRS1NRVNTQUdFLT0001==",
            "800100200300400",
            Sender(USER_ID, (PHONE,), phone=f"+{PHONE}", display_name="Mara Quint"),
            datetime(2025, 6, 15, 15, 6, 41, tzinfo=UTC),
            Message("text", "Is this the right part? 🔧 / yes"),
        )
    ]


def test_person_without_phone_is_kept_under_the_user_id(webhook: MakeWebhook) -> None:
    """T07: a message without a phone is stored, and makes no phone key."""
    sender = one(webhook("whatsapp_cloud/text_without_phone")).sender
    assert sender is not None
    assert (sender.external_id, sender.aliases, sender.phone) == (USER_ID, (), None)
    assert (sender.display_name, sender.country_code) == ("maraq", "GB")


def test_user_id_in_the_place_of_the_phone_is_no_phone(webhook: MakeWebhook) -> None:
    sender = one(webhook("whatsapp_cloud/text_user_id_as_from")).sender
    assert sender is not None
    assert (sender.external_id, sender.phone) == (USER_ID, None)


def test_brazilian_number_stays_as_it_came(webhook: MakeWebhook) -> None:
    """T01, T05: digits are never rewritten here; replies go to the address as received."""
    sender = one(webhook("whatsapp_cloud/text_without_user_id")).sender
    assert sender is not None
    assert (sender.external_id, sender.phone) == ("551187654321", "+551187654321")


def test_contacts_are_joined_by_id_and_not_by_position(webhook: MakeWebhook) -> None:
    hook = webhook("whatsapp_cloud/text")
    body = json.loads(hook.body)
    value = body["entry"][0]["changes"][0]["value"]
    value["contacts"].insert(0, {"profile": {"name": "Somebody Else"}, "wa_id": "15550100"})
    sender = one(replace(hook, body=json.dumps(body).encode())).sender
    assert sender is not None
    assert sender.display_name == "Mara Quint"


def test_only_contact_of_a_change_is_not_taken_for_the_sender_by_that(webhook: MakeWebhook) -> None:
    sender = one(with_message(webhook("whatsapp_cloud/text_without_user_id"), **{"from": "15550100"})).sender
    assert sender == Sender("15550100", phone="+15550100")


def test_every_message_of_every_change_and_entry_is_read(webhook: MakeWebhook) -> None:
    """T41: two entries of two changes of three messages are twelve messages."""
    events = whatsapp_cloud.parse(webhook("whatsapp_cloud/several"))
    assert len({event.external_id for event in events}) == 12
    assert {event.kind for event in events} == {"message"}


def test_each_event_names_its_own_phone_number(webhook: MakeWebhook) -> None:
    """T56: routing is by the number inside the payload, change by change."""
    events = whatsapp_cloud.parse(webhook("whatsapp_cloud/several"))
    assert [event.account for event in events[:6]] == ["800100200300400"] * 3 + ["800100200300555"] * 3


def test_unreadable_items_do_not_sink_their_neighbours(webhook: MakeWebhook) -> None:
    events = whatsapp_cloud.parse(webhook("whatsapp_cloud/one_unreadable"))
    assert [event.kind for event in events] == ["message", "ignored", "ignored", "ignored", "message"]
    assert {event.reason for event in events[1:4]} == {"unreadable_item"}


def test_group_message_is_nobodys_private_message(webhook: MakeWebhook) -> None:
    """T25, T50: ignored and counted, never given to the member; no group id becomes a phone."""
    event = one(webhook("whatsapp_cloud/group"))
    assert (event.kind, event.reason, event.sender) == ("ignored", "group", None)


def test_group_id_as_sender_is_no_phone(webhook: MakeWebhook) -> None:
    """T25: more digits than a phone number can have."""
    sender = one(with_message(webhook("whatsapp_cloud/text_without_user_id"), **{"from": "120363000000000001"})).sender
    assert sender is not None
    assert sender.phone is None


@pytest.mark.parametrize(("name", "emoji"), [("reaction", "👍"), ("reaction_removed", "")])
def test_reaction_is_tied_to_its_message(webhook: MakeWebhook, name: str, emoji: str) -> None:
    """T51: a reaction is no message; an empty emoji takes it off."""
    event = one(webhook(f"whatsapp_cloud/{name}"))
    assert (event.kind, event.target_id, event.emoji, event.message) == ("reaction", "wamid.TARGET==", emoji, None)


def test_edit_has_the_new_content_and_revoke_has_none(webhook: MakeWebhook) -> None:
    """T52."""
    edit, revoke = one(webhook("whatsapp_cloud/edit")), one(webhook("whatsapp_cloud/revoke"))
    assert (edit.kind, edit.target_id, edit.message) == ("edit", "wamid.TARGET==", Message("text", "the left one"))
    assert (revoke.kind, revoke.target_id, revoke.message) == ("delete", "wamid.TARGET==", None)


def test_unknown_kind_is_kept_as_unsupported(webhook: MakeWebhook) -> None:
    """T53: a kind that we do not know yet neither raises nor vanishes."""
    message = one(webhook("whatsapp_cloud/unknown_kind")).message
    assert message is not None
    assert (message.kind, message.raw_kind) == ("unsupported", "hologram")
    assert message.details == {"raw": {"url": "https://example.org/h"}}


def test_backlog_and_address_book_are_never_new_messages(webhook: MakeWebhook) -> None:
    events = whatsapp_cloud.parse(webhook("whatsapp_cloud/history"))
    assert [(event.kind, event.reason) for event in events] == [
        ("ignored", "history"),
        ("ignored", "smb_app_state_sync"),
    ]


def test_message_in_standby_is_marked_as_handled_elsewhere(webhook: MakeWebhook) -> None:
    event = one(webhook("whatsapp_cloud/standby"))
    assert (event.kind, event.elsewhere) == ("message", True)


def test_echo_of_the_phone_app_is_about_the_person_written_to(webhook: MakeWebhook) -> None:
    """T47, T48: outgoing, on the recipient's contact, never from our own address."""
    echo, *_ = whatsapp_cloud.parse(webhook("whatsapp_cloud/echo"))
    assert echo.kind == "echo"
    assert echo.sender == Sender(PHONE, phone=f"+{PHONE}")


def test_new_number_replaces_the_old_addresses(webhook: MakeWebhook) -> None:
    event = one(webhook("whatsapp_cloud/system_changed_number"))
    assert event.kind == "identity_change"
    assert event.former == (PHONE, USER_ID)
    assert event.sender is not None
    assert (event.sender.external_id, event.sender.aliases) == ("GB.7000000000000000099", ("447700900999",))


def test_own_phone_sent_on_request_belongs_to_the_sender(webhook: MakeWebhook) -> None:
    own, other = one(webhook("whatsapp_cloud/contact_own_phone")), one(webhook("whatsapp_cloud/contact_card"))
    assert own.sender is not None
    assert other.sender is not None
    assert own.sender.phone == "+447700900456"
    assert other.sender.phone == f"+{PHONE}"


def test_preference_is_an_opt_out_with_its_category(webhook: MakeWebhook) -> None:
    out, back = whatsapp_cloud.parse(webhook("whatsapp_cloud/preferences"))
    assert (out.kind, out.reason, back.kind) == ("opt_out", "marketing_messages", "opt_in")
    assert out.external_id != back.external_id


def test_played_voice_note_counts_as_read(webhook: MakeWebhook) -> None:
    statuses = [event.status for event in whatsapp_cloud.parse(webhook("whatsapp_cloud/statuses"))]
    assert statuses == ["sent", "delivered", "read", "read", "failed", None, None]


def test_text_from_the_future_has_the_time_it_arrived(webhook: MakeWebhook) -> None:
    hook = with_message(webhook("whatsapp_cloud/text"), timestamp="1950000000")
    assert one(hook).sent_at == hook.received_at


def test_half_an_emoji_and_a_nul_do_not_lose_the_message(webhook: MakeWebhook) -> None:
    hook = webhook("whatsapp_cloud/text")
    message = one(replace(hook, body=hook.body.replace(b"Is this", b"\\ud83d\\u0000"))).message
    assert message is not None
    assert message.text.startswith("? the right part?")


def odd_or_old(draw: st.DrawFn, body: Any) -> Any:
    """Return the JSON value with some of its values replaced by odd ones, and some keys added or taken away."""
    if isinstance(body, dict):
        kept = {name: odd_or_old(draw, each) for name, each in body.items() if draw(st.integers(0, 60))}
        return kept if draw(st.integers(0, 60)) else {**kept, "context": {"id": "wamid.X=="}}
    if isinstance(body, list):
        return [odd_or_old(draw, each) for each in body]
    return (
        body
        if draw(st.integers(0, 30))
        else draw(st.sampled_from(["", " ", " x ", "0", "null", "447700900456", 7, None, {}]))
    )


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_short_way_and_general_way_read_the_same(data: st.DataObject) -> None:
    hook = read_recording(
        f"whatsapp_cloud/{data.draw(st.sampled_from(['text', 'text_without_user_id', 'several']))}"
    ).hook
    odd = data.draw(st.composite(lambda draw: odd_or_old(draw, json.loads(hook.body)))())
    changed = replace(hook, body=json.dumps(odd).encode())
    plain = read_plain(changed.body, changed.received_at)
    assert plain is None or plain == whatsapp_cloud.read_any(changed)


@pytest.mark.parametrize("recording", recordings("whatsapp_cloud"), ids=str)
def test_short_way_reads_no_recorded_request_otherwise(recording: Recording) -> None:
    plain = read_plain(recording.hook.body, recording.hook.received_at)
    assert plain is None or plain == whatsapp_cloud.read_any(recording.hook)


@pytest.mark.parametrize("name", ["text", "text_without_user_id"])
def test_short_way_is_taken_for_plain_texts(webhook: MakeWebhook, name: str) -> None:
    hook = webhook(f"whatsapp_cloud/{name}")
    assert read_plain(hook.body, hook.received_at) is not None


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"{}", b'{"entry": {}}', b'{"object": "whatsapp_business_account"}'])
def test_body_without_any_frame_is_a_bad_payload(webhook: MakeWebhook, body: bytes) -> None:
    with pytest.raises(BadPayload):
        whatsapp_cloud.parse(replace(webhook("whatsapp_cloud/text"), body=body))
