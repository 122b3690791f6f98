import pytest

from ingest.channels.mail import Delivery
from ingest.channels.mail_headers import headers_of
from ingest.channels.mail_trust import Verdict, authentication_results
from tests.unit.channels.mails import BOX, events_of, make_mail, sender_in


@pytest.mark.parametrize(
    ("verdict", "proved"),
    [
        (Verdict(), False),
        (Verdict(dmarc="pass"), True),
        (Verdict(dmarc="pass", dmarc_domain="example.com"), False),
        (Verdict(dmarc="fail", spf="pass", spf_domain="example.com"), False),
        (Verdict(spf="pass", spf_domain="example.org"), True),
        (Verdict(spf="pass", spf_domain="bounces.example.org"), True),
        (Verdict(spf="pass", spf_domain="notexample.org"), False),
        (Verdict(spf="pass", spf_domain="org"), False),
        (Verdict(spf="pass", spf_domain=""), False),
        (Verdict(spf="softfail", spf_domain="example.org"), False),
        (Verdict(dkim="pass", dkim_domains=("example.com", "example.org")), True),
        (Verdict(dkim="pass", dkim_domains=("example.com",)), False),
    ],
)
def test_sender_counts_as_proved_only_where_the_proof_is_of_their_domain(verdict: Verdict, proved: bool) -> None:
    """T61's neighbour: an unproved From is a claim, by which nobody is joined."""
    (event,) = events_of(make_mail(), Delivery((BOX,), verdict=verdict))
    assert sender_in(event).verified is proved


def test_second_from_field_takes_the_proof_away() -> None:
    raw = b"From: Boss <boss@example.org>\r\n" + make_mail()
    (event,) = events_of(raw, Delivery((BOX,), verdict=Verdict(dmarc="pass")))
    assert not sender_in(event).verified


@pytest.mark.parametrize(
    ("value", "proved"),
    [
        ("mx.in.example.net; dmarc=pass header.from=example.org", True),
        ("mx.in.example.net 1; dkim=pass (2048-bit key; secure) header.d=example.org header.s=x", True),
        ("mx.in.example.net; spf=pass smtp.mailfrom=<x@example.org>", True),
        ("mx.in.example.net; dmarc=pass header.from=example.com", False),
        ("mx.in.example.net; (dmarc=pass) dmarc=fail", False),
        ("mx.in.example.net.evil.example; dmarc=pass header.from=example.org", False),
        ("evil.example; mx.in.example.net; dmarc=pass", False),
        ("mx.in.example.net", False),
        ("", False),
    ],
)
def test_authentication_results_count_only_from_our_own_server(value: str, proved: bool) -> None:
    headers = headers_of([("Authentication-Results", value)])
    assert authentication_results(headers, "mx.in.example.net").proves("example.org") is proved
    assert not authentication_results(headers, "").proves("example.org")
