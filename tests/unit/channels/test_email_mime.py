import base64
from dataclasses import replace

import pytest

from ingest.channels import email_mime
from ingest.channels.base import Webhook
from ingest.errors import BadPayload, BadSignature
from tests.unit.channels.conftest import MakeWebhook
from tests.unit.channels.mails import RECEIVED_AT, make_mail, message_in, sender_in

SECRETS = {"token": ("mime-token",), "basic_auth": ("relay:mime-password",)}


def posted(body: bytes, **headers: str) -> Webhook:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    settings = {"mailbox": "help@in.example.net", "authserv_id": "mx.in.example.net"}
    return Webhook("POST", "https://x", given, body, settings, SECRETS, RECEIVED_AT)


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize("given", ["Bearer mime-token", "bearer mime-token", basic("relay:mime-password")])
def test_either_proof_is_enough(given: str) -> None:
    email_mime.ADAPTER.verify(posted(b"", authorization=given))


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", "mime-token", "Bearer mime-token2", "Token mime-token", basic("mime-token")]
)
def test_any_other_is_refused(given: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        email_mime.ADAPTER.verify(posted(b"", authorization=given))


@pytest.mark.parametrize("given", ["Bearer ", "Bearer mime-token", basic("relay:mime-password"), basic(""), ""])
def test_without_a_secret_nothing_gets_in(given: str) -> None:
    """T61."""
    for secrets in ({}, {"token": ("",), "basic_auth": ("",)}):
        with pytest.raises(BadSignature):
            email_mime.ADAPTER.verify(replace(posted(b"", authorization=given), secrets=secrets))


def test_envelope_recipient_is_the_route_and_to_is_not() -> None:
    """Blind copies and lists do not name us in To."""
    raw = make_mail(To="somebody.else@example.com", Delivered_To="other@in.example.net")
    events = email_mime.ADAPTER.parse(posted(raw, x_envelope_to="<help@in.example.net>, sales+x@in.example.net"))
    assert [event.account for event in events] == ["help@in.example.net", "sales@in.example.net"]


@pytest.mark.parametrize(
    ("header", "account"),
    [
        ("Delivered_To", "other@in.example.net"),
        ("X_Original_To", "other@in.example.net"),
        ("To", "help@in.example.net"),
    ],
)
def test_without_an_envelope_the_noted_recipient_counts(header: str, account: str) -> None:
    (event,) = email_mime.ADAPTER.parse(posted(make_mail(**{header: "other@in.example.net"})))
    assert event.account == account


def test_recipient_beyond_ascii_is_read_from_header_bytes() -> None:
    as_the_server_gives_it = "hjälp@in.example.net".encode().decode("latin-1")
    (event,) = email_mime.ADAPTER.parse(posted(make_mail(), x_envelope_to=as_the_server_gives_it))
    assert event.account == "hjälp@in.example.net"


@pytest.mark.parametrize(("given", "is_automatic"), [("<>", True), ("", True), ("<t@example.org>", False)])
def test_null_envelope_sender_marks_the_mail_automatic(given: str, is_automatic: bool) -> None:
    """T59."""
    (event,) = email_mime.ADAPTER.parse(posted(make_mail(), x_envelope_from=given))
    assert event.automatic is is_automatic


def test_verdict_of_another_server_proves_nobody() -> None:
    """T61's neighbour."""
    raw = make_mail(Authentication_Results="mx.evil.example; dmarc=pass header.from=example.org")
    assert not sender_in(email_mime.ADAPTER.parse(posted(raw))[0]).verified
    assert sender_in(
        email_mime.ADAPTER.parse(posted(raw.replace(b"mx.evil.example", b"mx.in.example.net")))[0]
    ).verified


def test_bare_line_feeds_and_a_missing_last_line_end_are_read() -> None:
    raw = make_mail("One\nTwo").replace(b"\r\n", b"\n").rstrip(b"\n")
    assert message_in(email_mime.ADAPTER.parse(posted(raw))[0]).text == "One\nTwo"


@pytest.mark.parametrize("body", [b"", b"\r\n\r\n", b"no mail at all", b"\x00" * 100, b"<html></html>"])
def test_body_that_is_no_mail_is_set_aside(body: bytes) -> None:
    with pytest.raises(BadPayload):
        email_mime.ADAPTER.parse(posted(body))


def test_loop_of_a_hundred_rounds_leaves_one_message() -> None:
    """T59: what comes back of ours is ignored, however often."""
    rounds = [make_mail()] + [
        make_mail(From="Help <help@in.example.net>", Message_ID=f"<r{n}@in.example.net>") for n in range(100)
    ]
    events = [event for raw in rounds for event in email_mime.ADAPTER.parse(posted(raw))]
    assert [event.kind for event in events].count("message") == 1


def test_reply_names_the_mail_it_answers(webhook: MakeWebhook) -> None:
    """T60: by In-Reply-To, References and the plus-tag, whichever finds the conversation."""
    message = message_in(email_mime.ADAPTER.parse(webhook("email_mime/reply_to_us"))[0])
    assert message.thread_ids == ("case77-2@in.example.net", "case77-1@in.example.net")
    assert message.details["mailbox_tag"] == "case77"
    assert message.details["stripped_text"] == "Tisdag.\n\nOch ta med något."
