import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.channels import viber
from ingest.channels.base import Webhook
from ingest.domain.events import InboundEvent, Message
from ingest.errors import BadPayload, BadSignature
from ingest.simulators.drafts import make_draft
from ingest.simulators.viber import simulate
from tests.unit.channels.conftest import MakeWebhook

BODY = rb'{"hello":"w\u00f6rld","n":1}'
SIGNATURE = "5aef6296e6094b2c3ced0e9111196610b0a5df82747cbb0c69a082f2e0076455"
RECEIVED_AT = datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC)


def request(body: bytes = BODY, signature: str = SIGNATURE, query: str = "") -> Webhook:
    return Webhook(
        "POST",
        f"https://hooks.example.org/webhooks/1{query}",
        {"x-viber-content-signature": signature},
        body,
        secrets={"auth_token": ("viber-auth-token",)},
        received_at=RECEIVED_AT,
    )


def event_of(**fields: Any) -> InboundEvent:
    """Return what parse makes of an unsigned message event with these fields."""
    given = {
        "event": "message",
        "message_token": 1,
        "sender": {"id": "aB3/FAKE=="},
        "message": {"type": "text", "text": "hi"},
    }
    [event] = viber.parse(request(json.dumps({**given, **fields}).encode()))
    return event


def message_of(event: InboundEvent) -> Message:
    assert event.message is not None
    return event.message


def test_published_signature_is_accepted_from_header_and_query() -> None:
    viber.verify(request())
    viber.verify(request(signature="", query=f"?sig={SIGNATURE}"))


@pytest.mark.parametrize("signature", ["", "zz", SIGNATURE[:-2], "0" * 64, "sha256=" + SIGNATURE, "é" * 64])
def test_missing_or_wrong_signature_is_refused(signature: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        viber.verify(request(signature=signature))


def test_wrong_header_is_not_mended_by_the_query() -> None:
    with pytest.raises(BadSignature):
        viber.verify(request(signature="0" * 64, query=f"?sig={SIGNATURE}"))


def test_re_serialised_body_is_refused() -> None:
    """T61."""
    with pytest.raises(BadSignature):
        viber.verify(request(json.dumps(json.loads(BODY)).encode()))


@pytest.mark.parametrize("token", [5900000000000000042, 18446744073709551615])
def test_message_token_keeps_all_its_64_bits(token: int) -> None:
    assert event_of(message_token=token).external_id == str(token)
    assert event_of(message_token=str(token)).external_id == str(token)


def test_statuses_of_one_message_have_ids_of_their_own(webhook: MakeWebhook) -> None:
    seen = event_of(event="seen", user_id="aB3/FAKE==", message_token=5900000000000000042)
    assert (seen.external_id, seen.target_id, seen.status) == (
        "5900000000000000042:seen",
        "5900000000000000042",
        "read",
    )
    [failed] = viber.parse(webhook("viber/failed"))
    assert (failed.status, failed.error) == ("failed", "failure description")


def test_unsubscribing_is_an_opt_out_and_subscribing_an_opt_in(webhook: MakeWebhook) -> None:
    """T69."""
    events = [viber.parse(webhook(f"viber/{name}"))[0] for name in ("unsubscribed", "subscribed")]
    assert [event.kind for event in events] == ["opt_out", "opt_in"]
    assert {event.sender and event.sender.external_id for event in events} == {"aB3/FAKEuser0001=="}


def test_stop_is_a_text_here() -> None:
    """T69: Viber has its own way of unsubscribing, so a text is a text."""
    assert event_of(message={"type": "text", "text": "STOP"}).kind == "message"


def test_deep_link_is_kept_as_referral(webhook: MakeWebhook) -> None:
    [event] = viber.parse(webhook("viber/conversation_started"))
    assert event.kind == "started"
    assert message_of(event).referral == {"ref": "spring-poster"}


def test_shared_card_is_no_fact_about_the_sender(webhook: MakeWebhook) -> None:
    """T25: a phone that was shared is not the sender's."""
    [event] = viber.parse(webhook("viber/contact"))
    assert event.sender is not None
    assert event.sender.phone is None
    assert message_of(event).contacts[0].phones == ("+15550142",)


@pytest.mark.parametrize("kind", ["hologram", "rich_media", None, 7])
def test_unknown_kind_of_message_is_kept_as_unsupported(kind: Any) -> None:
    """T53."""
    message = message_of(event_of(message={"type": kind}))
    assert (message.kind, message.raw_kind) == ("unsupported", str(kind) if kind else None)


@pytest.mark.parametrize("location", [None, {}, {"lat": 1}, {"lat": "north", "lon": 1}])
def test_location_without_coordinates_is_kept_as_unsupported(location: Any) -> None:
    assert message_of(event_of(message={"type": "location", "location": location})).kind == "unsupported"


@pytest.mark.parametrize("sender", [None, {}, {"id": ""}, {"id": None}, {"id": "null"}, {"id": "0"}, "aB3"])
def test_message_of_nobody_is_unreadable(sender: Any) -> None:
    with pytest.raises(BadPayload):
        event_of(sender=sender)


@pytest.mark.parametrize("event", ["webhook", "client_status", "action"])
def test_events_about_the_bot_itself_are_ignored_by_name(event: str) -> None:
    found = event_of(event=event)
    assert (found.kind, found.reason) == ("ignored", event)


def test_simulated_request_is_proved_and_read_as_its_draft() -> None:
    draft = make_draft(7, "run.1", "How much is delivery?", RECEIVED_AT)
    made = simulate(draft, {"auth_token": "viber-auth-token"}, "https://hooks.example.org")
    hook = request(made.body, made.headers["x-viber-content-signature"])
    viber.verify(hook)
    [event] = viber.parse(hook)
    assert event.sender is not None
    assert (message_of(event).text, event.sender.display_name, event.sent_at) == (draft.text, draft.name, draft.sent_at)
