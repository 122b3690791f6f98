import pytest

from tests.unit.channels.mails import events_of, make_mail, message_in, sender_in


def make_report(kind: str, fields: str, original: str = "Message-ID: <case77-2@in.example.net>\n") -> bytes:
    parts = [("text/plain", "Said in words."), (f"message/{kind}", fields)]
    if original:
        parts.append(("text/rfc822-headers", original))
    body = "".join(f"--b\nContent-Type: {name}\n\n{content}\n" for name, content in parts) + "--b--\n"
    return make_mail(body, From="MAILER-DAEMON@mx.example.org", Content_Type="multipart/report; boundary=b")


@pytest.mark.parametrize(
    ("action", "kind", "status"),
    [
        ("failed", "status", "failed"),
        ("Delivered", "status", "delivered"),
        ("relayed (to x)", "status", "delivered"),
        ("delayed", "ignored", None),
        ("dancing", "ignored", None),
    ],
)
def test_bounce_is_news_of_the_mail_it_is_about(action: str, kind: str, status: str | None) -> None:
    """T59, T46: a bounce makes no contact and no message."""
    fields = f"Reporting-MTA: dns; mx\n\nFinal-Recipient: rfc822; x@example.org\nAction: {action}\nStatus: 5.1.1\n"
    (event,) = events_of(make_report("delivery-status", fields))
    assert (event.kind, event.status, event.sender, event.message) == (kind, status, None, None)
    assert event.target_id == ("case77-2@in.example.net" if status else None)
    assert event.error == ("5.1.1" if status == "failed" else None)


def test_bounce_is_matched_by_what_it_answers_where_it_brings_no_copy() -> None:
    fields = "Reporting-MTA: dns; mx\n\nAction: failed\nStatus: 5.1.1\n"
    raw = b"In-Reply-To: <case77-3@in.example.net>\r\n" + make_report("delivery-status", fields, original="")
    assert events_of(raw)[0].target_id == "case77-3@in.example.net"


@pytest.mark.parametrize("fields", ["", "\n\n\n", "Action: failed\n", "nonsense\n\nmore"])
def test_damaged_bounce_about_nothing_known_is_ignored(fields: str) -> None:
    (event,) = events_of(make_report("delivery-status", fields, original=""))
    assert (event.kind, event.reason) == ("ignored", "bounce_of_unknown_mail")


def test_customer_who_forwards_a_bounce_is_a_customer() -> None:
    bounce = make_report("delivery-status", "Reporting-MTA: dns; mx\n\nAction: failed\n").decode().replace("\r\n", "\n")
    body = f"--o\n\nWhat is this?\n--o\nContent-Type: message/rfc822\n\n{bounce}\n--o--"
    (event,) = events_of(make_mail(body, Content_Type="multipart/mixed; boundary=o"))
    assert (event.kind, message_in(event).text) == ("message", "What is this?")


def test_complaint_opts_the_complaining_person_out() -> None:
    original = "To: Tomas <Tomas.Berg@example.org>\nMessage-ID: <news-1@in.example.net>\n"
    (event,) = events_of(make_report("feedback-report", "Feedback-Type: abuse\nVersion: 1\n", original))
    assert (event.kind, event.reason) == ("opt_out", "complaint:abuse")
    assert sender_in(event).external_id == "tomas.berg@example.org"
