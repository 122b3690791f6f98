"""The rules all mail routes share, tried on raw mails; what each provider sends is in the adapters' own tests."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.channels.mail import Delivery, content_id, mail_events
from ingest.channels.mail_mime import read_mail
from ingest.errors import BadPayload
from tests.unit.channels.mails import BOX, HOOK, RECEIVED_AT, TO_US, events_of, make_mail, message_in, sender_in


@pytest.mark.parametrize("written", ["John@ACME.com", "john@acme.com", "JOHN@Acme.COM", " <John@acme.com> "])
def test_letter_case_makes_no_second_person(written: str) -> None:
    """T14: the mailbox is one, its spelling is kept for showing."""
    sender = sender_in(events_of(make_mail(From=written))[0])
    assert sender.external_id == "john@acme.com"
    assert sender.email == f"{written.strip(' <>').partition('@')[0]}@acme.com"


def test_of_several_authors_the_one_who_sent_it_counts() -> None:
    raw = make_mail(From="Anna <a@example.org>, Tomas <t@example.org>", Sender="t@example.org")
    assert sender_in(events_of(raw)[0]).external_id == "t@example.org"


def test_envelope_sender_is_not_who_wrote() -> None:
    delivery = Delivery((BOX,), envelope_from="bounces@newsletter.example.com")
    assert sender_in(events_of(make_mail(), delivery)[0]).external_id == "tomas.berg@example.org"


@pytest.mark.parametrize("given", ["", "nobody", "undisclosed-recipients:;", "<>", "a b c"])
def test_mail_that_names_no_sender_is_set_aside(given: str) -> None:
    """T17's neighbour: strangers never share a contact because their address is missing."""
    with pytest.raises(BadPayload):
        events_of(make_mail(From=given))


def test_reply_to_is_the_sender_only_where_the_channel_says_so() -> None:
    raw = make_mail(From="Form <noreply@forms.example.com>", Reply_To="Anna <anna@example.org>")
    assert sender_in(events_of(raw)[0]).external_id == "noreply@forms.example.com"
    assert message_in(events_of(raw)[0]).details["reply_to"] == ["anna@example.org"]
    assert sender_in(events_of(raw, reply_to_is_sender="yes")[0]).external_id == "anna@example.org"


def test_plus_tag_is_kept_beside_the_mailbox() -> None:
    """T60: the tag of our own address leads to the conversation."""
    (event,) = events_of(make_mail(), Delivery(("Help+Case77@IN.example.net",)))
    assert (event.account, message_in(event).details["mailbox_tag"]) == (BOX, "case77")


def test_account_is_spelt_as_the_channel_spells_it() -> None:
    (event,) = events_of(make_mail(), mailbox="Help@In.Example.net")
    assert event.account == "Help@In.Example.net"


def test_mail_to_two_mailboxes_is_an_event_for_each() -> None:
    events = events_of(make_mail(), Delivery((BOX, "sales@in.example.net", "help+again@in.example.net")))
    assert [event.account for event in events] == [BOX, "sales@in.example.net"]
    assert len({event.external_id for event in events}) == 1


def test_same_mail_has_one_id_and_a_changed_one_another() -> None:
    raw = make_mail(Date="Sun, 15 Jun 2025 17:06:30 +0200")
    same = b"Received: by another.example.net; Sun, 15 Jun 2025 15:06:39 +0000\r\n" + raw.replace(b"\r\n", b"\n")
    assert content_id(read_mail(raw)) == content_id(read_mail(same))
    for old, new in ((b"Hello", b"Hullo"), (b"Hej", b"Nej"), (b"tomas.", b"anna."), (b"17:06", b"17:07")):
        assert content_id(read_mail(raw.replace(old, new))) != content_id(read_mail(raw))


def test_reused_message_id_hides_no_mail() -> None:
    """T39's neighbour: a Message-ID is the sender's choice, and some repeat theirs."""
    first, second = (events_of(make_mail(text))[0].external_id for text in ("First", "Second"))
    assert first != second
    assert first.startswith("fake-1@example.org#")


def test_received_time_of_the_provider_wins() -> None:
    at = RECEIVED_AT - timedelta(seconds=5)
    raw = make_mail(Received="by x; Sun, 15 Jun 2025 15:00:00 +0000")
    assert events_of(raw, Delivery((BOX,), at=at))[0].sent_at == at


@pytest.mark.parametrize("message_id", ["", "<" + "x" * 800 + "@example.org>", "no id", "<>"])
def test_id_stays_short_without_a_usable_message_id(message_id: str) -> None:
    (event,) = events_of(make_mail(Message_ID=message_id))
    assert event.external_id.startswith("mail#")
    assert len(event.external_id) < 50


def test_answered_mails_are_named_nearest_first() -> None:
    """T60: In-Reply-To or any of the References finds the conversation."""
    raw = make_mail(
        In_Reply_To="Your mail of <c@x.example> (today)", References="<a@x.example>\r\n\t<b@x.example> <c@x.example>"
    )
    assert message_in(events_of(raw)[0]).thread_ids == ("c@x.example", "b@x.example", "a@x.example")


def test_arrival_at_the_last_server_counts_before_the_senders_clock() -> None:
    raw = make_mail(Received="from a by b; Sun, 15 Jun 2025 15:06:00 +0000", Date="Mon, 1 Jan 1990 00:00:00 +0000")
    (event,) = events_of(raw)
    assert event.sent_at == datetime(2025, 6, 15, 15, 6, tzinfo=UTC)
    assert message_in(event).details["date"] == "Mon, 1 Jan 1990 00:00:00 +0000"


def test_clock_far_ahead_is_set_back() -> None:
    assert events_of(make_mail(Date="Fri, 1 Jan 2100 00:00:00 +0000"))[0].sent_at == RECEIVED_AT
    assert events_of(make_mail())[0].sent_at is None


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("Auto-Submitted", "auto-replied", "auto_submitted"),
        ("Auto-Submitted", "Auto-Generated; owner=x", "auto_submitted"),
        ("X-Auto-Response-Suppress", "All", "auto_response"),
        ("X-Autoreply", "yes", "auto_response"),
        ("Precedence", "bulk", "bulk"),
        ("Precedence", "list", "mailing_list"),
        ("List-Id", "<gardeners.example.com>", "mailing_list"),
        ("Return-Path", "<>", "null_sender"),
        ("Content-Type", "multipart/report; boundary=b", "report"),
        ("Message-ID", "<case77-2@in.example.net>", "own_message_id"),
    ],
)
def test_mail_that_no_person_wrote_starts_nothing(header: str, value: str, reason: str) -> None:
    """T59: auto-replies, lists, bounces and our own Message-IDs are kept, and start no automation."""
    (event,) = events_of(make_mail(**{header: value}))
    assert (event.kind, event.automatic, message_in(event).details["automatic"]) == ("message", True, reason)


@pytest.mark.parametrize(
    ("header", "value"), [("Auto-Submitted", "no"), ("Precedence", "first-class"), ("Return-Path", "<a@b.c>")]
)
def test_ordinary_mail_is_not_automatic(header: str, value: str) -> None:
    assert not events_of(make_mail(**{header: value}))[0].automatic


def test_colleague_at_our_own_domain_is_a_person() -> None:
    raw = make_mail(From="anna@in.example.net", Message_ID="<x@in.example.net>")
    assert not events_of(raw)[0].automatic


@pytest.mark.parametrize(
    "address", [BOX, "Help+loop@IN.example.net", "noreply@in.example.net", "sales+x@in.example.net"]
)
def test_our_own_mail_coming_back_is_ignored(address: str) -> None:
    """T59, T47: no contact is made of our own address, and a loop ends at its first round."""
    (event,) = events_of(make_mail(From=address), own_addresses="noreply@in.example.net, Sales@in.example.net")
    assert (event.kind, event.reason) == ("ignored", "own_address")


@pytest.mark.parametrize(("hops", "kind"), [(30, "message"), (31, "ignored"), (900, "ignored")])
def test_mail_that_went_round_too_often_is_ignored(hops: int, kind: str) -> None:
    """T59."""
    (event,) = events_of(b"Received: by x; Sun, 15 Jun 2025 15:06:00 +0000\r\n" * hops + make_mail())
    assert event.kind == kind


@pytest.mark.parametrize("subject", ["unsubscribe", "Re: UNSUBSCRIBE", "Unsubscribe me!", "AW: re: unsubscribe"])
def test_unsubscribe_as_subject_opts_out_beside_the_message(subject: str) -> None:
    """T69's neighbour: the refusal reaches the contact, the message is stored all the same."""
    message, refusal = events_of(make_mail(Subject=subject))
    assert (message.kind, refusal.kind, refusal.reason) == ("message", "opt_out", "unsubscribe")
    assert refusal.sender == message.sender
    assert refusal.external_id != message.external_id


@pytest.mark.parametrize("body", ["Unsubscribe\n\nThanks", "> News\nunsubscribe."])
def test_unsubscribe_as_first_line_opts_out(body: str) -> None:
    assert [event.kind for event in events_of(make_mail(body))] == ["message", "opt_out"]


@pytest.mark.parametrize("body", ["How do I unsubscribe?", "Hi\n> unsubscribe", "I do not want to unsubscribe"])
def test_talking_of_unsubscribing_is_no_refusal(body: str) -> None:
    assert [event.kind for event in events_of(make_mail(body))] == ["message"]


def test_auto_reply_does_not_unsubscribe() -> None:
    raw = make_mail(Subject="unsubscribe", Auto_Submitted="auto-replied")
    assert [event.kind for event in events_of(raw)] == ["message"]


LINES = st.sampled_from(
    [
        *(
            b"From: a@example.org",
            b"From: =?utf-8?q?x",
            b"To: help@in.example.net",
            b"Subject: =?gb2312?B?x?=",
            b"\xff\xfe: \x80",
        ),
        *(
            b"Content-Type: multipart/mixed; boundary=b",
            b"Content-Type: message/rfc822",
            b"Content-Type: text/html; charset=\xe9",
        ),
        *(
            b"Content-Type: message/delivery-status",
            b"Content-Type: message/feedback-report",
            b"Content-Type: multipart/report",
        ),
        *(
            b"Content-Transfer-Encoding: base64",
            b"Content-Transfer-Encoding: quoted-printable",
            b"Content-Transfer-Encoding: x-uuencode",
        ),
        *(
            b"Content-Disposition: attachment; filename*0*=utf-8''%FF%",
            b"Content-Disposition: attachment; filename*=x'y'z",
        ),
        *(
            b"begin 644 x",
            b"--b",
            b"--b--",
            b"",
            b"",
            b"Action: failed",
            b"Message-ID: <a@b.c>",
            b"=E5=",
            b"!!!!",
            b"\0\x1b$B",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=30))
def test_whatever_comes_is_read_or_set_aside(lines: list[bytes]) -> None:
    try:
        events = mail_events(read_mail(b"\r\n".join(lines)), TO_US, HOOK)
    except BadPayload:
        return
    for event in events:
        assert event.external_id.encode()
        if event.message is not None:
            assert "\0" not in event.message.text.encode().decode()


HOSTILE_HEADERS = [
    "(" * 9000,
    '"' * 9000,
    "<" * 9000,
    "=?a?q?" * 1500,
    "a@b.c," * 1500,
    "\\" * 9000,
    "=?utf-8?b?\udcff?=",
    "\0",
]


@pytest.mark.parametrize("value", HOSTILE_HEADERS)
@pytest.mark.parametrize(
    "name", ["From", "Subject", "Date", "Content-Type", "Content-Disposition", "References", "Received"]
)
def test_hostile_header_fields_raise_nothing(name: str, value: str) -> None:
    raw = b"From: t@example.org\n" + f"{name}: {value}\n\nText\n".encode("utf-8", "surrogateescape")
    assert mail_events(read_mail(raw), TO_US, HOOK)
