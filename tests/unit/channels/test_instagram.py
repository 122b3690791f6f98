from dataclasses import replace

import pytest

from ingest.channels import instagram
from ingest.channels.base import BadSignature
from ingest.domain.events import InboundEvent
from tests.unit.channels.conftest import MakeWebhook

ACCOUNT = "17841400000000042"


def one(webhook: MakeWebhook, name: str) -> InboundEvent:
    [event] = instagram.parse(webhook(f"instagram/{name}"))
    return event


def test_secret_of_the_instagram_app_is_accepted_beside_the_meta_apps(webhook: MakeWebhook) -> None:
    hook = webhook("instagram/instagram_login")
    instagram.verify(hook)
    with pytest.raises(BadSignature):
        instagram.verify(replace(hook, secrets={"app_secret": ("meta-app-secret",)}))


@pytest.mark.parametrize("secrets", [{}, {"app_secret": ()}, {"app_secret": ("",), "instagram_app_secret": ("",)}])
def test_without_any_secret_nothing_gets_in(webhook: MakeWebhook, secrets: dict[str, tuple[str, ...]]) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        instagram.verify(replace(webhook("instagram/text"), secrets=secrets))


def test_other_id_of_the_same_account_is_the_same_account(webhook: MakeWebhook) -> None:
    """T56."""
    assert one(webhook, "aliased_account").account == ACCOUNT


def test_foreign_account_keeps_its_id(webhook: MakeWebhook) -> None:
    """T56: never given to the channel of the URL."""
    assert one(webhook, "foreign_account").account == "17841400000000099"


def test_unsend_names_the_message_to_forget(webhook: MakeWebhook) -> None:
    """T52."""
    event = one(webhook, "unsend")
    assert (event.kind, event.target_id) == ("delete", one(webhook, "story_reply").external_id)


def test_read_names_a_message_and_not_a_time(webhook: MakeWebhook) -> None:
    event = one(webhook, "read")
    assert (event.status, event.target_id, event.up_to) == ("read", "aWdfb3V0", None)


def test_story_mention_is_no_picture_to_archive(webhook: MakeWebhook) -> None:
    message = one(webhook, "story_mention").message
    assert message is not None
    assert (message.kind, message.attachments) == ("story", ())


def test_post_that_comes_as_a_share_too_is_one_link(webhook: MakeWebhook) -> None:
    message = one(webhook, "post_and_share").message
    assert message is not None
    assert [each["type"] for each in message.details["shared"]] == ["ig_post"]


def test_heart_button_is_a_heart(webhook: MakeWebhook) -> None:
    message = one(webhook, "like_heart").message
    assert message is not None
    assert (message.kind, message.text) == ("text", "❤️")


@pytest.mark.parametrize("name", ["unsupported", "ephemeral"])
def test_content_that_is_withheld_is_kept_as_unsupported(webhook: MakeWebhook, name: str) -> None:
    """T53."""
    message = one(webhook, name).message
    assert message is not None
    assert message.kind == "unsupported"


def test_note_to_self_makes_no_contact(webhook: MakeWebhook) -> None:
    """T47."""
    assert (one(webhook, "self").kind, one(webhook, "self").reason) == ("ignored", "self")


def test_message_of_our_own_other_id_makes_no_contact(webhook: MakeWebhook) -> None:
    """T47."""
    hook = webhook("instagram/text")
    [event] = instagram.parse(replace(hook, body=hook.body.replace(b"1320000000000077", b"90010001000100042")))
    assert (event.kind, event.reason) == ("ignored", "own_event")
