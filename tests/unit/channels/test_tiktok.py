import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.channels import tiktok
from ingest.channels.base import Webhook
from ingest.domain.events import InboundEvent, Message, Sender
from ingest.errors import BadPayload, BadSignature
from tests.unit.channels.conftest import MakeWebhook

BODY = rb'{"hello":"w\u00f6rld","n":1}'
DIGEST = "df090de39d3c99c4f84e3b25fb9e5803012ed467e4db22b3c6622e44d8eb7f31"
SIGNED_AT = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)


def request(body: bytes = BODY, signature: str = f"t=1750000000,s={DIGEST}", at: datetime = SIGNED_AT) -> Webhook:
    return Webhook(
        "POST",
        "https://hooks.example.org/webhooks/1",
        {"tiktok-signature": signature},
        body,
        secrets={"client_secret": ("tiktok-client-secret",)},
        received_at=at,
    )


def event_of(event: str = "im_receive_msg", content: Any = None, **fields: Any) -> InboundEvent:
    """Return what parse makes of an unsigned event whose content is this object, or this text as it stands."""
    packed = content if isinstance(content, str | None) else json.dumps(content)
    body = {"event": event, "user_openid": "biz-1", "create_time": 1750000000, "content": packed, **fields}
    [found] = tiktok.parse(request(json.dumps(body).encode()))
    return found


def sender_of(event: InboundEvent) -> Sender:
    assert event.sender is not None
    return event.sender


def message_of(event: InboundEvent) -> Message:
    assert event.message is not None
    return event.message


def test_published_signature_is_accepted() -> None:
    tiktok.verify(request())
    tiktok.verify(request(signature=f"t=1750000000, s={DIGEST.upper()}"))


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "t=1750000000",
        f"s={DIGEST}",
        f"t=,s={DIGEST}",
        f"t=1750000001,s={DIGEST}",
        f"t=1750000000,s={DIGEST[:-2]}",
        f"t=1750000000,s={'0' * 64}",
        f"t=1750000000,s=={DIGEST}",
        f"t=1750000000;s={DIGEST}",
        DIGEST,
        "é=é,t",
    ],
)
def test_missing_or_wrong_signature_is_refused(signature: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        tiktok.verify(request(signature=signature))


def test_re_serialised_body_is_refused() -> None:
    """T61."""
    with pytest.raises(BadSignature):
        tiktok.verify(request(json.dumps(json.loads(BODY)).encode()))


@pytest.mark.parametrize("age", [timedelta(hours=71), timedelta(minutes=-4)])
def test_late_retry_that_repeats_its_first_signature_gets_in(age: timedelta) -> None:
    """T39: retries go on for 72 hours, and the message id makes a second one harmless."""
    tiktok.verify(request(at=SIGNED_AT + age))


@pytest.mark.parametrize("age", [timedelta(hours=73), timedelta(minutes=-6)])
def test_stale_or_future_signature_is_refused(age: timedelta) -> None:
    with pytest.raises(BadSignature):
        tiktok.verify(request(at=SIGNED_AT + age))


def test_account_is_the_business_that_the_event_names() -> None:
    """T56: one URL of the app serves every business."""
    content = {"message_id": "m", "from_user": {"id": "p"}, "type": "text", "text": {"body": "hi"}}
    assert event_of(content=content, user_openid="biz-2").account == "biz-2"


@pytest.mark.parametrize("author", [{"id": "biz-1"}, {"id": "other", "role": "business_account"}])
def test_message_written_by_the_business_is_an_echo_to_the_person(author: dict[str, str]) -> None:
    """No contact is made of our own account, and the conversation is the recipient's."""
    event = event_of(content={"message_id": "m", "from_user": author, "to_user": {"id": "p"}, "to": "juno.draws"})
    assert (event.kind, sender_of(event).external_id, sender_of(event).display_name) == ("echo", "p", "juno.draws")


def test_person_is_found_again_when_only_the_conversation_is_named(webhook: MakeWebhook) -> None:
    [stripped] = tiktok.parse(webhook("tiktok/european"))
    [full] = tiktok.parse(webhook("tiktok/text"))
    assert sender_of(stripped).external_id in sender_of(full).aliases
    assert (message_of(stripped).kind, message_of(stripped).raw_kind) == ("unsupported", "im_receive_msg_eu")


def test_stripped_message_without_ids_is_ignored_by_that_reason(webhook: MakeWebhook) -> None:
    [event] = tiktok.parse(webhook("tiktok/european_without_ids"))
    assert (event.kind, event.reason) == ("ignored", "stripped")


@pytest.mark.parametrize("kind", ["other", "hologram", "OTHER", None])
def test_unknown_kind_of_message_is_kept_as_unsupported(kind: str | None) -> None:
    """T53."""
    event = event_of(content={"type": kind, "message_id": "m", "from_user": {"id": "p"}})
    assert (message_of(event).kind, message_of(event).raw_kind) == ("unsupported", kind.lower() if kind else None)


def test_reading_by_the_business_itself_is_no_status(webhook: MakeWebhook) -> None:
    [ours] = tiktok.parse(webhook("tiktok/seen_by_business"))
    [theirs] = tiktok.parse(webhook("tiktok/seen"))
    assert (ours.kind, theirs.kind, theirs.status) == ("ignored", "status", "read")
    assert theirs.up_to == datetime(2025, 6, 15, 15, 6, 40, 400000, tzinfo=UTC)


def test_event_without_id_gets_the_same_one_each_time(webhook: MakeWebhook) -> None:
    for name in ("referral", "seen", "ping", "auto_message"):
        [once], [again] = tiktok.parse(webhook(f"tiktok/{name}")), tiktok.parse(webhook(f"tiktok/{name}"))
        assert once.external_id == again.external_id


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "null", '"text"', {}, {"message_id": "m"}, {"from_user": {"id": "p"}}]
)
def test_message_whose_content_cannot_be_read_or_attributed_is_unreadable(content: Any) -> None:
    with pytest.raises(BadPayload):
        event_of(content=content)
