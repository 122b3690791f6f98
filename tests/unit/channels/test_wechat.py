from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingest.channels import wechat
from ingest.channels.base import Answer, Webhook
from ingest.channels.wechat_crypto import open_message, read_xml, signature_of
from ingest.domain.events import InboundEvent, Message
from ingest.errors import BadPayload, BadSetting, BadSignature
from tests.unit.channels.conftest import MakeWebhook

SIGNED_AT = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)
PLAIN = "967f57f60dbf3922bca2a790532d5038a98ba5bf"
QUERY = f"signature={PLAIN}&timestamp=1750000000&nonce=nonce1"


def request(fields: str = "", query: str = QUERY, at: datetime = SIGNED_AT, method: str = "POST") -> Webhook:
    return Webhook(
        method,
        f"https://hooks.example.org/webhooks/1?{query}",
        {},
        f"<xml>{fields}</xml>".encode(),
        secrets={"token": ("wechat-token",)},
        received_at=at,
    )


def event_of(kind: str, fields: str = "", message_id: str = "24000000000000001") -> InboundEvent:
    """Return the first event that parse makes of a plain message with these further elements."""
    envelope = "<ToUserName>gh_1</ToUserName><FromUserName>o1</FromUserName><CreateTime>1750000000</CreateTime>"
    return wechat.parse(request(f"{envelope}<MsgType>{kind}</MsgType><MsgId>{message_id}</MsgId>{fields}"))[0]


def message_of(event: InboundEvent) -> Message:
    assert event.message is not None
    return event.message


def test_published_signatures_come_out() -> None:
    assert signature_of("wechat-token", "1750000000", "nonce1") == PLAIN
    encrypted = signature_of("wechat-token", "1750000000", "nonce1", "ENCRYPTEDBLOB==")
    assert encrypted == "4b5d4071c73da62f9a28ba606a16c0c35ca5bea1"


def test_published_plain_signature_is_accepted() -> None:
    wechat.verify(request())


@pytest.mark.parametrize(
    "query",
    [
        "",
        "signature=&timestamp=1750000000&nonce=nonce1",
        "timestamp=1750000000&nonce=nonce1",
        f"signature={PLAIN[:-1]}&timestamp=1750000000&nonce=nonce1",
        f"signature={PLAIN}&timestamp=1750000001&nonce=nonce1",
        f"signature={PLAIN}&timestamp=1750000000&nonce=nonce2",
        f"signature={PLAIN}&nonce=nonce1",
        f"signature={PLAIN}&timestamp=soon&nonce=nonce1",
    ],
)
def test_missing_or_wrong_signature_is_refused(query: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        wechat.verify(request(query=query))


@pytest.mark.parametrize("seconds", [301, -301])
def test_stale_or_future_request_is_refused(seconds: int) -> None:
    with pytest.raises(BadSignature):
        wechat.verify(request(at=SIGNED_AT + timedelta(seconds=seconds)))


def test_handshake_answers_the_echo_alone_as_plain_text() -> None:
    answer = wechat.handshake(request(query=f"{QUERY}&echostr=%3Cb%3E7", method="GET"))
    assert answer == Answer(200, b"<b>7", "text/plain; charset=utf-8")


def test_handshake_that_is_not_signed_is_refused_without_an_echo() -> None:
    """T61."""
    answer = wechat.handshake(request(query="signature=x&timestamp=1750000000&nonce=nonce1&echostr=7", method="GET"))
    assert answer == Answer(403)


def test_message_is_no_handshake() -> None:
    assert wechat.handshake(request(query=f"{QUERY}&echostr=7")) is None
    assert wechat.handshake(request(method="GET")) is None


def test_success_is_the_word_success() -> None:
    assert wechat.ADAPTER.answer == Answer(200, b"success")


def test_plain_body_is_refused_where_the_channel_has_a_key(webhook: MakeWebhook) -> None:
    """T61: the plain signature does not cover the body, so with a key it proves nothing."""
    secrets = webhook("wechat/safe_mode").secrets
    plain = webhook("wechat/text")
    with pytest.raises(BadSignature):
        wechat.verify(replace(plain, secrets=secrets))


def test_compatible_mode_is_read_from_the_cipher_and_not_from_the_plain_copy(webhook: MakeWebhook) -> None:
    hook = webhook("wechat/compatible_mode")
    forged = replace(hook, body=hook.body.replace(b"both forms", b"forged one"))
    wechat.verify(forged)
    [event] = wechat.parse(forged)
    assert message_of(event).text == "both forms"


def test_message_for_another_app_is_refused(webhook: MakeWebhook) -> None:
    hook = webhook("wechat/safe_mode")
    with pytest.raises(BadSignature):
        wechat.verify(replace(hook, settings={"app_id": "wxfake0000000002"}))
    with pytest.raises(BadSetting):
        wechat.verify(replace(hook, settings={}))


def test_cipher_under_another_key_is_refused_and_an_old_key_is_still_tried(webhook: MakeWebhook) -> None:
    hook = webhook("wechat/safe_mode")
    [key] = hook.secrets["encoding_aes_key"]
    other = key[::-1]
    wechat.verify(replace(hook, secrets={**hook.secrets, "encoding_aes_key": (other, "too-short", key)}))
    with pytest.raises(BadSignature):
        wechat.verify(replace(hook, secrets={**hook.secrets, "encoding_aes_key": (other,)}))


@pytest.mark.parametrize("sealed", ["", "AAAA", "A" * 64, "not base64", "é", "A" * 43 + "="])
def test_what_is_no_cipher_opens_to_nothing(sealed: str) -> None:
    assert open_message(sealed, "RkFLRS1XRUNIQVQtRU5DT0RJTkctQUVTLUtFWS0wMDE", "wxfake0000000001") is None


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE xml [<!ENTITY a "b">]><xml><Content>&a;</Content></xml>',
        b'<!DOCTYPE xml SYSTEM "file:///etc/hostname"><xml/>',
        b'<!DOCTYPE xml [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><xml>&b;</xml>',
        b'<?xml version="1.0" encoding="nonsense"?><xml/>',
        b"<xml>&undefined;</xml>",
        b"<xml>",
        b"\xff\xfe\x00",
        b"",
    ],
)
def test_entities_document_types_and_broken_xml_are_refused(body: bytes) -> None:
    with pytest.raises(BadPayload):
        read_xml(body)


def test_event_without_id_gets_the_same_one_each_time_and_in_either_case() -> None:
    scan = "<Event>SCAN</Event><EventKey>poster7</EventKey>"
    assert event_of("event", scan) == event_of("event", scan.replace("SCAN", "scan"))
    assert event_of("event", scan).external_id != event_of("event", scan.replace("7", "8")).external_id


def test_following_by_a_code_tells_how_the_person_came(webhook: MakeWebhook) -> None:
    opt_in, started = wechat.parse(webhook("wechat/subscribe_by_code"))
    assert [opt_in.kind, started.kind] == ["opt_in", "started"]
    assert message_of(started).referral == {"ref": "poster7", "ticket": "FAKE_TICKET"}
    assert opt_in.external_id != started.external_id


def test_unsubscribing_is_an_opt_out() -> None:
    """T69."""
    event = event_of("event", "<Event>unsubscribe</Event>")
    assert (event.kind, event.sender and event.sender.external_id) == ("opt_out", "o1")


def test_account_that_the_message_is_for_is_in_the_body() -> None:
    """T56."""
    assert event_of("text", "<Content>hi</Content>").account == "gh_1"


@pytest.mark.parametrize("kind", ["miniprogrampage", "hologram"])
def test_unknown_kind_of_message_is_kept_as_unsupported_with_its_fields(kind: str) -> None:
    """T53."""
    message = message_of(event_of(kind, "<Title>Fake Shop</Title>"))
    assert (message.kind, message.raw_kind, message.details) == ("unsupported", kind, {"Title": "Fake Shop"})


def test_message_id_keeps_all_its_64_bits() -> None:
    assert event_of("text", message_id="18446744073709551615").external_id == "18446744073709551615"


def test_time_in_milliseconds_is_read_too() -> None:
    body = (
        "<FromUserName>o1</FromUserName><CreateTime>1750000000000</CreateTime><MsgType>text</MsgType><MsgId>1</MsgId>"
    )
    [event] = wechat.parse(request(body))
    assert event.sent_at == SIGNED_AT


@pytest.mark.parametrize("missing", ["FromUserName", "MsgType", "MsgId"])
def test_message_without_what_identifies_it_is_unreadable(missing: str) -> None:
    fields = {"FromUserName": "o1", "MsgType": "text", "MsgId": "1"}
    body = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items() if name != missing)
    with pytest.raises(BadPayload):
        wechat.parse(request(body))
