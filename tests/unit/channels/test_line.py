import base64
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.channels import line
from ingest.channels.base import Webhook
from ingest.domain.events import InboundEvent, Message, Sender
from ingest.errors import BadPayload, BadSignature
from ingest.simulators.drafts import make_draft
from ingest.simulators.line import simulate
from tests.unit.channels.conftest import MakeWebhook

BODY = rb'{"hello":"w\u00f6rld","n":1}'
SIGNATURE = "uwh9VvflQJF54WeF3F3/WJpD5anz5TZJgFdlk+2XIgE="
RECEIVED_AT = datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC)
PERSON = "U0000000000000000000000000000c0de"


def request(body: bytes = BODY, signature: str = SIGNATURE) -> Webhook:
    return Webhook(
        "POST",
        "https://hooks.example.org/webhooks/1",
        {"x-line-signature": signature},
        body,
        secrets={"channel_secret": ("line-channel-secret",)},
        received_at=RECEIVED_AT,
    )


def events_of(*events: Any, destination: str = "U0bot") -> list[InboundEvent]:
    """Return what parse makes of these events in one unsigned request."""
    return line.parse(request(json.dumps({"destination": destination, "events": events}).encode()))


def text_event(number: int, source: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "type": "message",
        "timestamp": 1750000000000 + number,
        "webhookEventId": f"01EVENT{number}",
        "source": source or {"type": "user", "userId": PERSON},
        "message": {"type": "text", "id": str(600000000000000000 + number), "text": f"text {number}"},
    }


def sender_of(event: InboundEvent) -> Sender:
    assert event.sender is not None
    return event.sender


def message_of(event: InboundEvent) -> Message:
    assert event.message is not None
    return event.message


def test_published_signature_is_accepted() -> None:
    line.verify(request())


@pytest.mark.parametrize(
    "signature", ["", "x", SIGNATURE[:-1], SIGNATURE[:-4], "sha256=" + SIGNATURE, SIGNATURE.lower(), "é"]
)
def test_missing_or_wrong_signature_is_refused(signature: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        line.verify(request(signature=signature))


@pytest.mark.parametrize("body", [BODY + b"\n", json.dumps(json.loads(BODY)).encode(), b""])
def test_body_is_signed_as_the_bytes_that_arrived(body: bytes) -> None:
    """T61: the re-serialised body is another text."""
    with pytest.raises(BadSignature):
        line.verify(request(body))


def test_hex_digest_where_base64_belongs_is_refused() -> None:
    with pytest.raises(BadSignature):
        line.verify(request(signature=hmac.digest(b"line-channel-secret", BODY, "sha256").hex()))


def test_verify_button_has_no_events(webhook: MakeWebhook) -> None:
    hook = webhook("line/verify_button")
    line.verify(hook)
    assert line.parse(hook) == []


def test_all_events_of_a_request_are_read_and_belong_to_their_own_senders() -> None:
    """T41."""
    people = [f"U{number:032x}" for number in range(1, 13)]
    events = events_of(*(text_event(number, {"type": "user", "userId": each}) for number, each in enumerate(people)))
    assert [sender_of(event).external_id for event in events] == people


def test_unreadable_event_leaves_its_neighbours_and_keeps_its_name() -> None:
    """T41."""
    odd: list[Any] = [None, 7, [], {"type": "message"}, {**text_event(2), "source": {"type": "user", "userId": None}}]
    events = events_of(text_event(1), *odd, text_event(3))
    assert [event.kind for event in events] == ["message", *["ignored"] * 5, "message"]
    assert {event.reason for event in events[1:-1]} == {"unreadable_item"}
    assert len({event.external_id for event in events}) == 7
    assert [each.external_id for each in events_of(*reversed(odd))] == [each.external_id for each in events[-2:0:-1]]


def test_redelivered_event_has_the_same_id_whatever_else_changed() -> None:
    first = {"type": "follow", "timestamp": 1750000000000, "source": {"type": "user", "userId": PERSON}}
    again = {**first, "deliveryContext": {"isRedelivery": True}, "replyToken": "another"}
    [one], [other] = events_of(first), events_of(again)
    assert one == other
    broken = {**text_event(1), "source": {}}
    assert events_of(broken) == events_of({**broken, "deliveryContext": {"isRedelivery": True}})


@pytest.mark.parametrize(
    "source", [{"type": "group", "groupId": "C1", "userId": PERSON}, {"type": "room", "roomId": "R1"}]
)
@pytest.mark.parametrize("kind", ["message", "unsend", "postback", "join", "leave", "memberJoined", "memberLeft"])
def test_groups_and_rooms_are_ignored_by_that_reason(source: dict[str, str], kind: str) -> None:
    """T50, T25: what a member writes in a group is never taken for a one-to-one message, nor its id for an address."""
    [event] = events_of({**text_event(1, source), "type": kind})
    assert (event.kind, event.reason, event.sender) == ("ignored", "group", None)


def test_destination_is_the_account() -> None:
    """T56: the bot that is named in the body, not the URL, says whose the events are."""
    assert [event.account for event in events_of(text_event(1), None, destination="U0other")] == ["U0other"] * 2
    assert line.ADAPTER.account_setting in {setting.name for setting in line.ADAPTER.settings}


@pytest.mark.parametrize("kind", ["hologram", "", None, 7])
def test_unknown_kind_of_message_is_kept_as_unsupported(kind: Any) -> None:
    """T53."""
    event = text_event(1)
    event["message"]["type"] = kind
    [found] = events_of(event)
    assert message_of(found).kind == "unsupported"
    assert message_of(found).raw_kind == (str(kind) if kind else None)


def test_message_id_stays_text_beyond_what_a_float_holds(webhook: MakeWebhook) -> None:
    event = text_event(1)
    event["message"]["id"] = 600000000000000001
    assert [each.external_id for each in events_of(event)] == ["600000000000000001"]
    [quoted] = line.parse(webhook("line/quoted_reply"))
    assert message_of(quoted).reply_to == "600000000000000001"


def test_block_and_unblock_are_opt_out_and_opt_in(webhook: MakeWebhook) -> None:
    """T69: the state reaches the contact even without a message."""
    _, out = line.parse(webhook("line/sticker_and_unfollow"))
    [back] = line.parse(webhook("line/follow_again"))
    assert [(each.kind, each.reason) for each in (out, back)] == [("opt_out", "unfollow"), ("opt_in", "unblocked")]


def test_messages_of_a_chat_that_another_module_holds_are_marked(webhook: MakeWebhook) -> None:
    [event] = line.parse(webhook("line/standby"))
    assert event.elsewhere


def test_time_far_ahead_becomes_the_time_of_arrival() -> None:
    [event] = events_of({**text_event(1), "timestamp": 1850000000000})
    assert event.sent_at == RECEIVED_AT


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"events": null}', b'{"events": {}}', b'"events"'])
def test_request_without_a_list_of_events_is_unreadable(body: bytes) -> None:
    with pytest.raises(BadPayload):
        line.parse(request(body))


def test_simulated_request_is_proved_and_read_as_its_draft() -> None:
    draft = make_draft(7, "run.1", "How much is delivery?", RECEIVED_AT)
    made = simulate(
        draft, {"channel_secret": "line-channel-secret", "bot_user_id": "U0bot"}, "https://hooks.example.org"
    )
    hook = request(made.body, made.headers["x-line-signature"])
    line.verify(hook)
    [event] = line.parse(hook)
    assert (message_of(event).text, event.sent_at, event.account) == (draft.text, draft.sent_at, "U0bot")
    assert base64.b64decode(made.headers["x-line-signature"])
