import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from ingest.channels import twilio_sms
from ingest.channels.base import Webhook
from ingest.errors import BadPayload, BadSignature
from ingest.simulators.drafts import make_draft
from ingest.simulators.twilio_sms import simulate
from tests.unit.channels.conftest import MakeWebhook

URL = "https://hooks.example.org/in/twilio/abc?tenant=7"
FORM = b"MessageSid=SM00000000000000000000000000000001&From=%2B15550100&To=%2B15550199&Body=h%C3%A9llo+%26+bye"
JSON = rb'{"hello":"w\u00f6rld","n":1}'
JSON_URL = f"https://hooks.example.org/in/twilio/abc?bodySHA256={hashlib.sha256(JSON).hexdigest()}"
RECEIVED_AT = datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC)


def signed(url: str = URL, body: bytes = FORM, signature: str = "OTzAkGtaDSOJiC1XyoA/W6iz+G4=") -> Webhook:
    return Webhook(
        "POST",
        url,
        {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature},
        body,
        secrets={"auth_token": ("twilio-auth-token",)},
        received_at=RECEIVED_AT,
    )


def sign(text: str) -> str:
    return base64.b64encode(hmac.digest(b"twilio-auth-token", text.encode(), "sha1")).decode()


def received(**fields: str) -> Webhook:
    """Return an unsigned form of a received message, for parse alone."""
    given = {"MessageSid": "SM1", "From": "+15550100", "To": "+15550199", "Body": "", **fields}
    return signed(body=urlencode(given).encode())


def test_published_form_signature_is_accepted() -> None:
    twilio_sms.ADAPTER.verify(signed())


def test_published_json_signature_is_accepted() -> None:
    twilio_sms.ADAPTER.verify(signed(JSON_URL, JSON, "70TvYd7YkGhvVyDFylSKZXXutjQ="))


def test_json_body_other_than_the_digest_in_the_url_says_is_refused() -> None:
    with pytest.raises(BadSignature):
        twilio_sms.ADAPTER.verify(signed(JSON_URL, JSON + b" ", "70TvYd7YkGhvVyDFylSKZXXutjQ="))


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/in/twilio/abc",
        "https://hooks.example.org/in/twilio/abc/?tenant=7",
        "https://hooks.example.org/in/twilio/abc?tenant=8",
        "http://hooks.example.org/in/twilio/abc?tenant=7",
        "https://hooks.example.org:8443/in/twilio/abc?tenant=7",
    ],
)
def test_signature_holds_for_one_url_only(url: str) -> None:
    with pytest.raises(BadSignature):
        twilio_sms.ADAPTER.verify(signed(url))


def test_url_may_be_signed_with_or_without_the_standard_port_and_never_with_a_fragment() -> None:
    twilio_sms.ADAPTER.verify(signed("https://hooks.example.org:443/in/twilio/abc?tenant=7#rc=2"))
    with_port = sign("https://hooks.example.org:443/in?a=1BodyhiFrom+15550100")
    twilio_sms.ADAPTER.verify(signed("https://hooks.example.org/in?a=1", b"From=%2B15550100&Body=hi", with_port))


def test_blank_untrimmed_and_repeated_fields_are_signed_as_they_came() -> None:
    signature = sign("https://hooks.example.org/inAMedia b BlankMedia12")
    body = b"A=Media+b+&Media1=2&Media1=2&Blank="
    twilio_sms.ADAPTER.verify(signed("https://hooks.example.org/in", body, signature))


@pytest.mark.parametrize("given", ["", "OTzAkGtaDSOJiC1XyoA/W6iz+G5=", "sha1=OTzAkGtaDSOJiC1XyoA/W6iz+G4=", "é"])
def test_missing_or_wrong_signature_is_refused(given: str) -> None:
    """T61: no proof, no entry."""
    with pytest.raises(BadSignature):
        twilio_sms.ADAPTER.verify(signed(signature=given))


def test_form_with_too_many_fields_is_refused_not_crashed_on() -> None:
    with pytest.raises(BadSignature):
        twilio_sms.ADAPTER.verify(signed(body=b"a=1&" * 2000))


def test_answer_is_empty_twiml_so_that_nothing_is_sent_to_the_person() -> None:
    answer = twilio_sms.ADAPTER.answer
    assert not callable(answer)
    assert (answer.status, answer.content_type) == (200, "text/xml")
    assert b"<Message" not in answer.body


@pytest.mark.parametrize("sender", ["45678", "12345678", "PARCELCO", "+266696687"])
def test_short_code_alphanumeric_and_keypad_senders_are_no_phones(sender: str) -> None:
    """T25: only a phone is stored as one."""
    [event] = twilio_sms.parse(received(From=sender))
    assert event.sender is not None
    assert (event.sender.external_id, event.sender.phone) == (sender, None)


def test_plus_that_became_a_space_is_restored() -> None:
    [event] = twilio_sms.parse(signed(body=b"MessageSid=SM1&From=+15550100&To=+15550199&Body=hi"))
    assert event.sender is not None
    assert (event.sender.external_id, event.account) == ("+15550100", "+15550199")


@pytest.mark.parametrize("sender", ["", " ", "null", "0", "rcs:undefined"])
def test_placeholder_for_a_sender_is_not_made_a_contact(sender: str) -> None:
    with pytest.raises(BadPayload):
        twilio_sms.parse(received(From=sender))


@pytest.mark.parametrize("text", ["STOP", "stop", " Stop\r\n", "StopAll", "UNSUBSCRIBE", "cancel", "End", "quit"])
def test_stop_word_gives_the_message_and_an_opt_out(text: str) -> None:
    """T69: a stop word is heard before any workflow reads the text."""
    message, opt_out = twilio_sms.parse(received(Body=text))
    assert message.message is not None
    assert message.message.text == text
    assert (opt_out.kind, opt_out.external_id, opt_out.sender) == ("opt_out", "SM1:opt_out", message.sender)


@pytest.mark.parametrize("text", ["start", "YES", "Unstop"])
def test_start_word_gives_the_message_and_an_opt_in(text: str) -> None:
    """T69: START restores."""
    assert [event.kind for event in twilio_sms.parse(received(Body=text))] == ["message", "opt_in"]


@pytest.mark.parametrize("text", ["please stop", "STOP it", "stop.", "help", "INFO", ""])
def test_word_inside_a_sentence_is_only_text(text: str) -> None:
    assert [event.kind for event in twilio_sms.parse(received(Body=text))] == ["message"]


def test_operator_may_set_words_of_another_language() -> None:
    hook = replace(received(Body="Arrêt"), settings={"stop_words": "ARRET, arrêt", "start_words": "MARCHE"})
    assert [event.kind for event in twilio_sms.parse(hook)] == ["message", "opt_out"]
    assert [event.kind for event in twilio_sms.parse(replace(hook, body=received(Body="STOP").body))] == ["message"]


def test_advanced_opt_out_decides_instead_of_our_words(webhook: MakeWebhook) -> None:
    """T69: what Twilio has answered as HELP is no opt-out here either."""
    assert [event.kind for event in twilio_sms.parse(received(Body="STOP", OptOutType="HELP"))] == ["message"]
    assert [event.kind for event in twilio_sms.parse(webhook("twilio_sms/advanced_opt_in"))] == ["message", "opt_in"]


def test_send_refused_because_of_an_opt_out_records_it(webhook: MakeWebhook) -> None:
    """T69: error 21610 says that the person had opted out at Twilio."""
    status, opt_out = twilio_sms.parse(webhook("twilio_sms/status_opted_out"))
    assert (status.status, status.error) == ("failed", "21610")
    assert opt_out.kind == "opt_out"
    assert opt_out.sender is not None
    assert opt_out.sender.external_id == "+15550100"


def test_status_is_about_the_contact_written_to_and_our_number_is_the_account(webhook: MakeWebhook) -> None:
    """T56: the account of a status is its From, that of a message its To."""
    [status] = twilio_sms.parse(webhook("twilio_sms/status_delivered"))
    assert status.account == "+15550199"
    assert status.sender is not None
    assert status.sender.external_id == "+15550100"


def test_all_media_are_read_whatever_their_count_claims() -> None:
    """T41: more than the first item of a list is read."""
    media = {f"MediaUrl{number}": f"https://api.twilio.example/{number}" for number in range(11)}
    [event] = twilio_sms.parse(received(NumMedia="999999999", **media))
    assert event.message is not None
    assert [each.url for each in event.message.attachments] == list(media.values())


@pytest.mark.parametrize(
    "body", ["A" * 60, "dGhpcyBpcyBzaG9ydA==", "x" * 48 + "!", base64.b64encode(b"\0" * 60).decode()]
)
def test_text_that_only_looks_like_base64_is_left_alone(body: str) -> None:
    [event] = twilio_sms.parse(received(Body=body))
    assert event.message is not None
    assert event.message.text == body


def test_unreadable_event_of_a_stream_leaves_its_neighbours(webhook: MakeWebhook) -> None:
    """T41: four events in one request, one of them broken."""
    events = twilio_sms.parse(webhook("twilio_sms/event_stream"))
    assert [event.kind for event in events] == ["message", "status", "ignored", "ignored"]
    assert [event.reason for event in events[2:]] == ["unreadable_item", "unknown_event"]


def test_bytes_that_are_no_text_do_not_stop_a_message() -> None:
    [event] = twilio_sms.parse(signed(body=b"MessageSid=SM1&From=%2B15550100&Body=caf\xe9+%00"))
    assert event.message is not None
    assert event.message.text == "caf? "


def test_simulated_request_is_proved_and_read_as_its_draft() -> None:
    settings = {"auth_token": "twilio-auth-token", "number": "+15550199"}
    draft = make_draft(7, "run.1", "How much is delivery?", RECEIVED_AT)
    request = simulate(draft, settings, URL)
    hook = replace(signed(), headers=request.headers, body=request.body)
    twilio_sms.ADAPTER.verify(hook)
    [event] = twilio_sms.parse(hook)
    assert event.sender is not None
    assert event.message is not None
    assert (event.sender.phone, event.message.text, event.account) == (draft.phone, draft.text, "+15550199")
