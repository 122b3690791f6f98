from urllib.parse import urlencode

import pytest

from ingest.channels import twilio_whatsapp
from ingest.channels.base import Webhook
from ingest.domain.events import InboundEvent, Message, Sender
from ingest.errors import BadPayload, BadSignature
from tests.unit.channels.conftest import MakeWebhook


def received(**fields: str) -> Webhook:
    """Return an unsigned form of a received message, for parse alone."""
    given = {"MessageSid": "SM1", "From": "whatsapp:+447700900456", "To": "whatsapp:+447700900123", **fields}
    body = urlencode(given).encode()
    return Webhook("POST", "https://hooks.example.org/webhooks/1", {}, body)


def sender_of(event: InboundEvent) -> Sender:
    assert event.sender is not None
    return event.sender


def message_of(event: InboundEvent) -> Message:
    assert event.message is not None
    return event.message


def test_prefix_stays_in_the_address_and_off_the_phone(webhook: MakeWebhook) -> None:
    """T03: the number is found as any other is, and the reply goes to the address as received."""
    [event] = twilio_whatsapp.parse(webhook("twilio_whatsapp/mexican_mobile"))
    assert sender_of(event).external_id == "whatsapp:+5215512345678"
    assert sender_of(event).phone == "+5215512345678"


def test_person_without_visible_phone_is_kept_by_the_user_id(webhook: MakeWebhook) -> None:
    [event] = twilio_whatsapp.parse(webhook("twilio_whatsapp/without_phone"))
    assert (sender_of(event).external_id, sender_of(event).phone) == ("whatsapp:GB.7000000000000000042", None)


def test_user_id_beside_the_phone_is_an_alias_in_the_form_it_may_later_come_alone(webhook: MakeWebhook) -> None:
    [both] = twilio_whatsapp.parse(webhook("twilio_whatsapp/phone_and_user_id"))
    [alone] = twilio_whatsapp.parse(webhook("twilio_whatsapp/without_phone"))
    assert sender_of(alone).external_id in sender_of(both).aliases


def test_address_without_prefix_is_the_same_person(webhook: MakeWebhook) -> None:
    [bare] = twilio_whatsapp.parse(webhook("twilio_whatsapp/without_prefix"))
    [prefixed] = twilio_whatsapp.parse(webhook("twilio_whatsapp/text"))
    assert sender_of(prefixed).external_id in sender_of(bare).aliases
    assert bare.account == prefixed.account


def test_stop_is_a_text_unless_twilio_says_otherwise(webhook: MakeWebhook) -> None:
    """T69: WhatsApp has no stop words of its own."""
    assert [each.kind for each in twilio_whatsapp.parse(webhook("twilio_whatsapp/stop_is_a_text"))] == ["message"]
    assert [each.kind for each in twilio_whatsapp.parse(webhook("twilio_whatsapp/opt_out"))] == ["message", "opt_out"]


@pytest.mark.parametrize("kind", ["poll", "order", "system", "reaction"])
def test_unknown_kind_is_kept_as_unsupported_with_its_name(kind: str) -> None:
    """T53: a new kind neither raises nor vanishes."""
    [event] = twilio_whatsapp.parse(received(MessageType=kind, Body="?"))
    message = message_of(event)
    assert (message.kind, message.raw_kind, message.text) == ("unsupported", kind, "?")


def test_sticker_is_told_from_a_picture(webhook: MakeWebhook) -> None:
    [event] = twilio_whatsapp.parse(webhook("twilio_whatsapp/sticker"))
    assert message_of(event).kind == "sticker"
    assert [each.kind for each in message_of(event).attachments] == ["sticker"]


@pytest.mark.parametrize("latitude", ["", "north", "nan", "1e999"])
def test_place_that_is_no_number_does_not_lose_the_message(latitude: str) -> None:
    [event] = twilio_whatsapp.parse(received(MessageType="location", Latitude=latitude, Longitude="1", Body="here"))
    assert (message_of(event).location, message_of(event).text) == (None, "here")


def test_message_without_sender_is_unreadable() -> None:
    with pytest.raises(BadPayload):
        twilio_whatsapp.parse(received(From="whatsapp:"))


def test_body_changed_after_signing_is_refused(webhook: MakeWebhook) -> None:
    """T61."""
    hook = webhook("twilio_whatsapp/text")
    with pytest.raises(BadSignature):
        twilio_whatsapp.ADAPTER.verify(
            Webhook(
                hook.method, hook.url, hook.headers, hook.body + b"&A=1", hook.settings, hook.secrets, hook.received_at
            )
        )
