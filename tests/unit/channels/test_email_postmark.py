import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from ingest.channels import email_postmark
from ingest.channels.base import Webhook
from ingest.errors import BadPayload, BadSignature
from tests.unit.channels.conftest import MakeWebhook
from tests.unit.channels.mails import message_in, sender_in


def changed(hook: Webhook, **fields: Any) -> Webhook:
    """Return the request with fields of its JSON replaced; None takes one away."""
    body = {name: value for name, value in ({**json.loads(hook.body), **fields}).items() if value is not None}
    return replace(hook, body=json.dumps(body).encode())


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    "given", [None, "", basic("postmark:wrong"), basic(":"), basic("postmark:postmark-password")[:-1]]
)
def test_wrong_or_missing_password_is_refused(webhook: MakeWebhook, given: str | None) -> None:
    """T61: there is no signature, so the password in the URL is all there is."""
    with pytest.raises(BadSignature):
        email_postmark.ADAPTER.verify(webhook("email_postmark/text", authorization=given))


def test_scheme_is_read_in_any_letter_case(webhook: MakeWebhook) -> None:
    given = basic("postmark:postmark-password").replace("Basic", "basic")
    email_postmark.ADAPTER.verify(webhook("email_postmark/text", authorization=given))


def test_unproved_request_leaves_postmark_retrying() -> None:
    """403 would drop honest mail for good while a changed password is put right."""
    assert email_postmark.ADAPTER.refusal.status == 401


def test_id_is_postmarks_and_not_the_senders(webhook: MakeWebhook) -> None:
    hook = webhook("email_postmark/text")
    (event,) = email_postmark.ADAPTER.parse(changed(hook, TextBody="Changed on the way"))
    assert event.external_id == "00000000-0000-4000-8000-0000000000a1"
    assert message_in(event).details["message_id"] == "fake-1@example.org"


@pytest.mark.parametrize("fields", [{"MessageID": None}, {"MessageID": ""}, {"FromFull": None, "From": None}])
def test_mail_without_id_or_sender_is_set_aside(webhook: MakeWebhook, fields: dict[str, Any]) -> None:
    with pytest.raises(BadPayload):
        email_postmark.ADAPTER.parse(changed(webhook("email_postmark/text"), **fields))


def test_without_envelope_recipient_the_written_one_counts(webhook: MakeWebhook) -> None:
    hook = changed(webhook("email_postmark/text"), OriginalRecipient="", ToFull=[{"Email": "Sales+x@in.example.net"}])
    assert [event.account for event in email_postmark.ADAPTER.parse(hook)] == ["sales@in.example.net"]


def test_name_with_quotes_and_commas_is_kept(webhook: MakeWebhook) -> None:
    sender = {"Email": "tomas.berg@example.org", "Name": 'Berg, "Tom" \\ Åke'}
    hook = changed(webhook("email_postmark/text"), FromFull=sender)
    assert sender_in(email_postmark.ADAPTER.parse(hook)[0]).display_name == "Berg, Tom Åke"


def test_file_that_is_no_base64_sets_the_whole_mail_aside(webhook: MakeWebhook) -> None:
    """T58's neighbour: a mail is not stored without its files; its raw bytes wait for a person."""
    hook = changed(
        webhook("email_postmark/text"), Attachments=[{"Name": "a.pdf", "Content": "A", "ContentType": "x/y"}]
    )
    with pytest.raises(BadPayload):
        email_postmark.ADAPTER.parse(hook)


@pytest.mark.parametrize(
    ("tests", "spf", "proved"),
    [
        ("DKIM_SIGNED,DKIM_VALID,DKIM_VALID_AU", "Fail (x)", True),
        ("DKIM_SIGNED, DKIM_VALID", "Fail (x)", False),
        ("DKIM_SIGNED", "Pass (x) envelope-from=t@example.org; x", True),
        ("DKIM_SIGNED", "Pass (x) envelope-from=t@example.com; x", False),
        ("", "SoftFail (x) envelope-from=t@example.org", False),
    ],
)
def test_sender_is_proved_by_checks_of_their_own_domain(
    webhook: MakeWebhook, tests: str, spf: str, proved: bool
) -> None:
    headers = [{"Name": "Received-SPF", "Value": spf}, {"Name": "X-Spam-Tests", "Value": tests}]
    headers += [{"Name": "Received-SPF", "Value": "Pass envelope-from=forged@example.org"}]
    hook = changed(webhook("email_postmark/text"), Headers=headers)
    assert sender_in(email_postmark.ADAPTER.parse(hook)[0]).verified is proved


def test_null_return_path_marks_the_mail_automatic(webhook: MakeWebhook) -> None:
    """T59."""
    hook = changed(webhook("email_postmark/text"), Headers=[{"Name": "Return-Path", "Value": "<>"}])
    assert email_postmark.ADAPTER.parse(hook)[0].automatic
