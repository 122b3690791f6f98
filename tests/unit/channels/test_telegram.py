import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ingest.channels import telegram
from ingest.channels.base import BadPayload, BadSignature
from ingest.domain.events import InboundEvent, Message, Sender
from tests.unit.channels.conftest import MakeWebhook


def one(webhook: MakeWebhook, name: str) -> InboundEvent:
    [event] = telegram.parse(webhook(f"telegram/{name}"))
    return event


def test_text_message_is_read_in_full(webhook: MakeWebhook) -> None:
    sender = Sender("7000000042", display_name="Ilse Vandam", first_name="Ilse", last_name="Vandam", language="nl")
    at = datetime(2025, 6, 15, 15, 6, 41, tzinfo=UTC)
    message = Message("text", "Goedemorgen 👋", details={"username": "ilsev"})
    assert one(webhook, "text") == InboundEvent("message", "7000000042:1", "", sender, at, message)


@pytest.mark.parametrize("given", ["", "wrong", "s3cret-token_1 ", "S3CRET-TOKEN_1"])
def test_wrong_secret_is_refused(webhook: MakeWebhook, given: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        telegram.verify(webhook("telegram/text", x_telegram_bot_api_secret_token=given))


def test_own_phone_is_taken_and_somebody_elses_is_not(webhook: MakeWebhook) -> None:
    own, other = one(webhook, "contact_own").sender, one(webhook, "contact_other").sender
    assert own is not None
    assert other is not None
    assert (own.phone, other.phone) == ("+31612345678", None)


def test_largest_photo_that_can_be_downloaded_is_taken(webhook: MakeWebhook) -> None:
    message = one(webhook, "photo").message
    assert message is not None
    assert [file.media_id for file in message.attachments] == ["FAKE_large"]


@pytest.mark.parametrize(("name", "kind"), [("animation", "video"), ("venue", "location")])
def test_content_with_a_twin_counts_once(webhook: MakeWebhook, name: str, kind: str) -> None:
    message = one(webhook, name).message
    assert message is not None
    assert message.kind == kind
    assert len(message.attachments) <= 1


@pytest.mark.parametrize("name", ["group", "group_button", "added_to_group"])
def test_groups_are_left_alone(webhook: MakeWebhook, name: str) -> None:
    """T50: never given to the member who wrote."""
    event = one(webhook, name)
    assert (event.kind, event.reason, event.sender) == ("ignored", "group", None)


def test_same_message_number_in_another_chat_is_another_message(webhook: MakeWebhook) -> None:
    hook = webhook("telegram/text")
    [other] = telegram.parse(replace(hook, body=hook.body.replace(b"7000000042", b"7000000043")))
    assert other.external_id == "7000000043:1"


def test_edit_names_its_message_and_has_an_id_of_its_own(webhook: MakeWebhook) -> None:
    """T52."""
    event = one(webhook, "edited")
    assert (event.kind, event.target_id) == ("edit", one(webhook, "text").external_id)
    assert event.external_id != event.target_id


def test_block_and_unblock_of_the_bot_are_opt_out_and_opt_in(webhook: MakeWebhook) -> None:
    assert (one(webhook, "blocked").kind, one(webhook, "unblocked").kind) == ("opt_out", "opt_in")


def test_reaction_taken_off_has_no_emoji(webhook: MakeWebhook) -> None:
    """T51."""
    put, taken = one(webhook, "reaction"), one(webhook, "reaction_removed")
    assert (put.emoji, taken.emoji, taken.target_id) == ("🔥", "", "7000000042:3")


def test_start_button_opens_the_chat_without_a_message(webhook: MakeWebhook) -> None:
    plain, linked = one(webhook, "start"), one(webhook, "start_link")
    assert (plain.kind, plain.message, linked.kind) == ("started", None, "started")
    assert linked.message is not None
    assert linked.message.referral == {"ref": "summer-qr"}


def test_owner_of_a_business_account_writes_echoes(webhook: MakeWebhook) -> None:
    """T48: on the contact written to."""
    event = one(webhook, "business_owner")
    assert event.kind == "echo"
    assert event.sender is not None
    assert event.sender.external_id == "7000000042"


def test_each_deleted_business_message_is_a_delete(webhook: MakeWebhook) -> None:
    """T52."""
    events = telegram.parse(webhook("telegram/business_deleted"))
    assert [event.target_id for event in events] == ["bc-1:7000000042:33", "bc-1:7000000042:34"]


def test_unknown_kind_is_kept_under_its_name(webhook: MakeWebhook) -> None:
    """T53."""
    message = one(webhook, "unknown_kind").message
    assert message is not None
    assert (message.kind, message.raw_kind, message.details["raw"]) == ("unsupported", "hologram", {"x": 1})


def test_no_event_holds_the_bot_token(webhook: MakeWebhook) -> None:
    hook = webhook("telegram/photo")
    secrets = {**hook.secrets, "bot_token": ("1234:bot-token",)}
    assert "bot-token" not in repr(telegram.parse(replace(hook, secrets=secrets)))


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b"{"])
def test_body_that_is_no_update_is_a_bad_payload(webhook: MakeWebhook, body: bytes) -> None:
    with pytest.raises(BadPayload):
        telegram.parse(replace(webhook("telegram/text"), body=body))


def test_ids_past_53_bits_keep_every_digit(webhook: MakeWebhook) -> None:
    hook = webhook("telegram/text")
    body = json.loads(hook.body)
    body["message"]["from"]["id"] = body["message"]["chat"]["id"] = 9007199254740993
    [event] = telegram.parse(replace(hook, body=json.dumps(body).encode()))
    assert event.external_id == "9007199254740993:1"
