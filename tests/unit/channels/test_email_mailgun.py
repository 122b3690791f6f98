import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from ingest.channels import email_mailgun
from ingest.channels.base import Webhook
from ingest.channels.mail_form import read_form
from ingest.errors import BadPayload, BadSignature
from ingest.simulators.drafts import make_draft
from ingest.simulators.email_mailgun import simulate
from tests.unit.channels.conftest import MakeWebhook
from tests.unit.channels.mails import message_in, sender_in

RECEIVED_AT = datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC)
FORM = {"content-type": "application/x-www-form-urlencoded"}
PROOF = {
    "timestamp": "1750000000",
    "token": "0123456789abcdef0123456789abcdef0123456789abcdef01",
    "signature": "12c8f289a4cb224a0aeffb685e4920ba840f2ce098ee231fa0593c0751d3e655",
}


def posted(**fields: str) -> Webhook:
    given = {"recipient": "help@in.example.net", "from": "Tomas <tomas.berg@example.org>", **PROOF, **fields}
    return Webhook(
        "POST",
        "https://hooks.example.org/webhooks/11",
        FORM,
        urlencode(given).encode(),
        settings={"mailbox": "help@in.example.net"},
        secrets={"signing_key": ("mailgun-signing-key",)},
        received_at=RECEIVED_AT,
    )


def test_published_signature_is_accepted() -> None:
    email_mailgun.ADAPTER.verify(posted())


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "1750000001"},
        {"token": PROOF["token"][::-1]},
        {"signature": ""},
        {"signature": "not hex"},
        {"signature": PROOF["signature"][:-2]},
        {"signature": "sha256=" + PROOF["signature"]},
    ],
)
def test_changed_proof_is_refused(change: dict[str, str]) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        email_mailgun.ADAPTER.verify(posted(**change))


def test_signature_in_upper_case_is_the_same_digest() -> None:
    email_mailgun.ADAPTER.verify(posted(signature=PROOF["signature"].upper()))


def test_of_a_repeated_field_the_last_counts() -> None:
    hook = posted()
    email_mailgun.ADAPTER.verify(replace(hook, body=b"signature=00&" + hook.body))
    with pytest.raises(BadSignature):
        email_mailgun.ADAPTER.verify(replace(hook, body=hook.body + b"&signature=00"))


@pytest.mark.parametrize(("late", "is_taken"), [(8 * 3600, True), (13 * 3600, False), (-60, True), (-13 * 3600, False)])
def test_signed_time_may_be_as_old_as_mailguns_retries(late: int, is_taken: bool) -> None:
    hook = replace(posted(), received_at=RECEIVED_AT + timedelta(seconds=late))
    if is_taken:
        email_mailgun.ADAPTER.verify(hook)
    else:
        with pytest.raises(BadSignature):
            email_mailgun.ADAPTER.verify(hook)


@pytest.mark.parametrize("name", ["reply_with_files", "event_complained"])
def test_multipart_and_json_are_proved_by_the_same_key(webhook: MakeWebhook, name: str) -> None:
    hook = webhook(f"email_mailgun/{name}")
    email_mailgun.ADAPTER.verify(hook)
    for secrets in ({}, {"signing_key": ("",)}, {"signing_key": ("other-key",)}):
        with pytest.raises(BadSignature):
            email_mailgun.ADAPTER.verify(replace(hook, secrets=secrets))
    with pytest.raises(BadSignature):
        email_mailgun.ADAPTER.verify(replace(hook, body=hook.body.replace(PROOF["token"].encode(), b"0" * 50)))


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/html"}, {"content-type": "multipart/form-data"}])
def test_body_that_is_no_form_is_refused_unread(headers: dict[str, str]) -> None:
    hook = replace(posted(), headers=headers)
    with pytest.raises(BadSignature):
        email_mailgun.ADAPTER.verify(hook)
    with pytest.raises(BadPayload):
        email_mailgun.ADAPTER.parse(hook)


def test_form_cut_off_on_the_way_is_not_read_in_part(webhook: MakeWebhook) -> None:
    hook = webhook("email_mailgun/reply_with_files")
    for length in (len(hook.body) - 5, len(hook.body) // 2, 10):
        with pytest.raises(BadPayload):
            read_form(replace(hook, body=hook.body[:length]))


def test_unproved_request_leaves_mailgun_retrying() -> None:
    """406 would drop honest mail for good while a changed key is put right; anything else is repeated for 8 hours."""
    assert email_mailgun.ADAPTER.refusal.status == 401


RAW = "From: Tomas Berg <tomas.berg@example.org>\r\nSubject: =?utf-8?q?Hall=C3=A5?=\r\n"
RAW += "Date: Sun, 15 Jun 2025 17:06:30 +0200\r\nMessage-ID: <fake-1@example.org>\r\n\r\nHello there,\r\nTomas\r\n"


def test_parsed_and_raw_delivery_of_one_mail_have_one_id() -> None:
    headers = [
        ["Message-Id", "<fake-1@example.org>"],
        ["Date", "Sun, 15 Jun 2025 17:06:30 +0200"],
        ["Subject", "Hallå"],
    ]
    headers.append(["From", "Tomas Berg <tomas.berg@example.org>"])
    parsed = posted(
        **{"body-plain": "Hello there,\nTomas\n", "message-headers": json.dumps(headers), "subject": "Hallå"}
    )
    (from_raw,) = email_mailgun.ADAPTER.parse(posted(**{"body-mime": RAW}))
    (from_parsed,) = email_mailgun.ADAPTER.parse(parsed)
    assert from_raw.external_id == from_parsed.external_id
    assert message_in(from_raw).text == message_in(from_parsed).text


def test_redelivery_under_a_new_signature_has_the_same_id() -> None:
    """T39: retried mail is recognised, whatever is signed anew."""
    again = posted(**{"body-mime": RAW, "timestamp": "1750003600", "token": "f" * 50})
    first = email_mailgun.ADAPTER.parse(posted(**{"body-mime": RAW}))[0]
    assert email_mailgun.ADAPTER.parse(again)[0].external_id == first.external_id


def test_verdicts_count_only_above_the_first_received_field() -> None:
    """T61's neighbour: below it stands what the sender wrote."""
    ours = "X-Mailgun-Spf: Pass\r\nX-Mailgun-Dkim-Check-Result: Pass\r\n"
    signed = "DKIM-Signature: v=1; d=example.org; b=x\r\n"
    received = "Received: from x by y; Sun, 15 Jun 2025 15:06:39 +0000\r\n"

    def is_proved(raw: str) -> bool:
        (event,) = email_mailgun.ADAPTER.parse(posted(**{"body-mime": raw + RAW, "sender": "t@mail.example.com"}))
        return sender_in(event).verified

    assert is_proved(ours + received + signed)
    assert not is_proved(received + ours + signed)
    assert not is_proved(ours + signed)
    assert not is_proved(ours + received)
    assert not is_proved(ours + received + signed + "DKIM-Signature: v=1; d=example.com; b=x\r\n")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"event": "unsubscribed"}, "opt_out"),
        ({"event": "complained"}, "opt_out"),
        ({"event": "complained", "recipient": "nobody"}, "ignored"),
        ({"event": "delivered"}, "status"),
        ({"event": "opened"}, "status"),
        ({"event": "failed", "severity": "permanent"}, "status"),
        ({"event": "failed", "severity": "temporary"}, "ignored"),
        ({"event": "delivered", "message": {}}, "ignored"),
        ({"event": "accepted"}, "ignored"),
        ({}, "ignored"),
    ],
)
def test_events_about_mail_we_sent_reach_the_contact_or_nobody(data: dict[str, object], kind: str) -> None:
    given = {
        "id": "e-1",
        "recipient": "tomas@example.org",
        "message": {"headers": {"message-id": "<a@b.example>"}},
        **data,
    }
    hook = replace(
        posted(), headers={"content-type": "application/json"}, body=json.dumps({"event-data": given}).encode()
    )
    (event,) = email_mailgun.ADAPTER.parse(hook)
    assert event.kind == kind


def test_event_without_id_is_set_aside() -> None:
    hook = replace(posted(), headers={"content-type": "application/json"}, body=b'{"event-data": {"event": "opened"}}')
    with pytest.raises(BadPayload):
        email_mailgun.ADAPTER.parse(hook)


def test_simulated_mail_is_proved_and_read() -> None:
    settings = {"mailbox": "help@in.example.net", "signing_key": "mailgun-signing-key"}
    draft = make_draft(7, "sim-1", "Where is my order? Ümlaut 😀", RECEIVED_AT)
    request = simulate(draft, settings, "https://hooks.example.org/webhooks/11")
    hook = replace(posted(), headers=request.headers, body=request.body)
    email_mailgun.ADAPTER.verify(hook)
    (event,) = email_mailgun.ADAPTER.parse(hook)
    sender = sender_in(event)
    assert (sender.external_id, sender.display_name, sender.verified) == (draft.email, draft.name, True)
    assert (message_in(event).text, event.sent_at, event.automatic) == (draft.text, draft.sent_at, False)
