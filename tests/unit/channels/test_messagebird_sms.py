import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from ingest.channels import messagebird_sms
from ingest.channels.base import Answer, Webhook
from ingest.domain.events import InboundEvent, Sender
from ingest.errors import BadPayload, BadSignature
from tests.unit.channels.conftest import MakeWebhook

URL = "https://hooks.example.org/in/bird/abc?tenant=7"
BODY = rb'{"hello":"w\u00f6rld","n":1}'
SIGNED_AT = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)
BIRD_SIGNATURE = "BUZFcgHotk0L4BlUyiq6HjbhMEzB9PT7ht1jEhNzjLM="
TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTc1MDAwMDAwMCwiZXhwIjoxNzUwMDAwMDYwLCJqdGki"
    "OiJqLTIiLCJ1cmxfaGFzaCI6IjkwZWI4YzhiYTQyOGFhZTEzNjQ3YjNhMzU4ODgxMzgxN2VhNjA0M2Y4Yjk4MGExYTdiNDRmNTk0YjQ2NzYwNTMiLCJw"
    "YXlsb2FkX2hhc2giOiIyOTdiNjRkODg2ZTgwYWVlOWVmMDNhZDEzMGU4NGIxNzliNWQ2ZTBjM2JjOWRkMTUxZGZlZWY1MmJmNGNlN2IyIn0.MCumaGMel"
    "ZBxdffMRvwWL1PcRETrlkm8EKe7VKj9_Ac"
)


def request(body: bytes = BODY, url: str = URL, at: datetime = SIGNED_AT, **headers: str) -> Webhook:
    return Webhook(
        "POST",
        url,
        {name.replace("_", "-"): value for name, value in headers.items()},
        body,
        secrets={"signing_key": ("bird-signing-key",)},
        received_at=at,
    )


def with_token(token: str = TOKEN, **changes: object) -> Webhook:
    return replace(request(messagebird_signature_jwt=token), **changes)  # type: ignore[arg-type]


def with_signature(signature: str = BIRD_SIGNATURE, stamp: str = "1750000000", **changes: object) -> Webhook:
    hook = request(messagebird_signature=signature, messagebird_request_timestamp=stamp)
    return replace(hook, **changes)  # type: ignore[arg-type]


def forwarded(**fields: str) -> Webhook:
    """Return an unsigned forwarded SMS, for parse alone."""
    return request(urlencode({"id": "m-1", "originator": "447700900456", "body": "hi", **fields}).encode())


def sender_of(event: InboundEvent) -> Sender:
    assert event.sender is not None
    return event.sender


def test_published_token_and_published_signature_are_accepted() -> None:
    messagebird_sms.ADAPTER.verify(with_token())
    messagebird_sms.ADAPTER.verify(with_signature())


@pytest.mark.parametrize(
    "changes",
    [
        {"body": BODY + b" "},
        {"body": json.dumps(json.loads(BODY)).encode()},
        {"body": b""},
        {"url": "https://hooks.example.org/in/bird/abc"},
        {"url": "https://hooks.example.org/in/bird/abc?tenant=8"},
        {"secrets": {"signing_key": ("another-key",)}},
        {"secrets": {}},
    ],
)
def test_other_body_url_or_key_is_refused(changes: dict[str, object]) -> None:
    """T61."""
    for hook in (with_token(**changes), with_signature(**changes)):
        with pytest.raises(BadSignature):
            messagebird_sms.ADAPTER.verify(hook)


def test_token_is_valid_from_its_nbf_to_its_exp_with_a_second_of_leeway() -> None:
    for seconds in (-1, 0, 61):
        messagebird_sms.ADAPTER.verify(with_token(received_at=SIGNED_AT + timedelta(seconds=seconds)))
    for seconds in (-2, 62):
        with pytest.raises(BadSignature):
            messagebird_sms.ADAPTER.verify(with_token(received_at=SIGNED_AT + timedelta(seconds=seconds)))


@pytest.mark.parametrize("seconds", [301, -301])
def test_stale_or_future_signature_is_refused(seconds: int) -> None:
    with pytest.raises(BadSignature):
        messagebird_sms.ADAPTER.verify(with_signature(received_at=SIGNED_AT + timedelta(seconds=seconds)))


@pytest.mark.parametrize("stamp", ["", "soon", "1750000001", " 1750000000", "é"])
def test_time_other_than_the_signed_one_is_refused(stamp: str) -> None:
    with pytest.raises(BadSignature):
        messagebird_sms.ADAPTER.verify(with_signature(stamp=stamp))


def test_digest_of_the_body_goes_in_raw_and_not_as_hex() -> None:
    as_hex = f"1750000000\n{URL}\n{hashlib.sha256(BODY).hexdigest()}".encode()
    signature = base64.b64encode(hmac.digest(b"bird-signing-key", as_hex, "sha256")).decode()
    with pytest.raises(BadSignature):
        messagebird_sms.ADAPTER.verify(with_signature(signature))


def test_request_without_body_must_not_carry_a_token_for_one(webhook: MakeWebhook) -> None:
    hook = webhook("messagebird_sms/get")
    messagebird_sms.ADAPTER.verify(hook)
    with pytest.raises(BadSignature):
        messagebird_sms.ADAPTER.verify(replace(hook, body=b"id=1"))


def test_success_is_the_word_ok() -> None:
    assert messagebird_sms.ADAPTER.answer == Answer(200, b"OK")


def test_sender_that_is_no_phone_is_not_made_one() -> None:
    """T25."""
    for originator in ("PARCELCO", "45678", "00447700900456"):
        [event] = messagebird_sms.parse(forwarded(originator=originator))
        assert (sender_of(event).external_id, sender_of(event).phone) == (originator, None)


def test_stop_word_on_sms_gives_an_opt_out_and_on_other_platforms_none(webhook: MakeWebhook) -> None:
    """T69."""

    def kinds(hook: Webhook) -> list[str]:
        return [event.kind for event in messagebird_sms.parse(hook)]

    assert kinds(forwarded(body="unsubscribe")) == ["message", "opt_out"]
    assert kinds(webhook("messagebird_sms/conversations_sms_stop")) == ["message", "opt_out"]
    assert kinds(webhook("messagebird_sms/bird_sms_stop")) == ["message", "opt_out"]
    hook = webhook("messagebird_sms/conversations_sms_stop")
    assert kinds(replace(hook, body=hook.body.replace(b'"sms"', b'"whatsapp"'))) == ["message"]
    hook = webhook("messagebird_sms/bird_sms_stop")
    assert kinds(replace(hook, body=hook.body.replace(b'"sms.inbound"', b'"whatsapp.inbound"'))) == ["message"]


def test_message_in_conversation_created_has_the_id_it_has_in_message_created(webhook: MakeWebhook) -> None:
    hook = webhook("messagebird_sms/conversations_text")
    first = replace(hook, body=hook.body.replace(b'"message.created"', b'"conversation.created"'))
    assert messagebird_sms.parse(first) == messagebird_sms.parse(hook)


def test_own_message_makes_no_contact_of_our_number(webhook: MakeWebhook) -> None:
    [sent] = messagebird_sms.parse(webhook("messagebird_sms/conversations_own_message"))
    [delivered] = messagebird_sms.parse(webhook("messagebird_sms/conversations_own_delivered"))
    assert (sent.kind, sent.reason) == ("ignored", "own_message")
    assert (delivered.kind, sender_of(delivered).external_id) == ("status", "+447700900456")


def test_channel_id_is_the_account_where_there_is_one(webhook: MakeWebhook) -> None:
    """T56: one URL may serve several channels."""
    [conversation] = messagebird_sms.parse(webhook("messagebird_sms/conversations_text"))
    [bird] = messagebird_sms.parse(webhook("messagebird_sms/bird_text"))
    assert conversation.account == "00000000000000000000000000chan01"
    assert bird.account == "00000000-0000-4000-8000-0000000000c1"


def test_bird_user_without_phone_is_found_again_by_the_alias(webhook: MakeWebhook) -> None:
    [hidden] = messagebird_sms.parse(webhook("messagebird_sms/bird_without_phone"))
    [shown] = messagebird_sms.parse(webhook("messagebird_sms/bird_text"))
    assert sender_of(hidden).phone is None
    assert sender_of(hidden).external_id in sender_of(shown).aliases


@pytest.mark.parametrize("name", ["conversations_new_kind", "bird_list"])
def test_kind_that_we_do_not_read_is_kept_as_unsupported(webhook: MakeWebhook, name: str) -> None:
    """T53."""
    [event] = messagebird_sms.parse(webhook(f"messagebird_sms/{name}"))
    assert event.message is not None
    assert event.message.kind == "unsupported"
    assert event.message.raw_kind in {"hologram", "list"}


@pytest.mark.parametrize("urls", ["[", "[1, null]", "http://[", ""])
def test_odd_media_url_does_not_lose_the_message(urls: str) -> None:
    [event] = messagebird_sms.parse(forwarded(mediaUrls=urls))
    assert event.message is not None
    assert event.message.text == "hi"


@pytest.mark.parametrize("fields", [{"id": ""}, {"originator": ""}, {"originator": "null"}])
def test_message_without_id_or_sender_is_unreadable(fields: dict[str, str]) -> None:
    with pytest.raises(BadPayload):
        messagebird_sms.parse(forwarded(**fields))
