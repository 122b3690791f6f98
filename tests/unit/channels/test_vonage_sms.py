import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from ingest.channels import vonage_sms
from ingest.channels.base import Webhook
from ingest.domain.events import InboundEvent, Message
from ingest.errors import BadPayload, BadSignature
from tests.unit.channels.conftest import MakeWebhook

SIGNED_AT = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)
BODY = rb'{"hello":"w\u00f6rld","n":1}'
FIELDS = {
    "msisdn": "15550100",
    "to": "15550199",
    "text": "a&b=c",
    "messageId": "0A00000000000001",
    "timestamp": "1750000000",
    "nonce": "n-1",
}
SIGNATURES = {
    "md5hash": "a16211d5e5a030931b612fd1b67cd0a0",
    "md5": "f724a5645d10355199d63137f63628c2",
    "sha1": "97c44de908f084b227cd0b95f6a59bce97dea827",
    "sha256": "3ac76d8a3076e5c3f6d893034c2d7ced574b4049feff68b54dab5072d6b6fc08",
}
TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3NTAwMDAwMDAsImp0aSI6ImotMSIsImlzcyI6IlZvbmFnZSIsInBheWxvYWRfaGFzaCI6"
    "IjI5N2I2NGQ4ODZlODBhZWU5ZWYwM2FkMTMwZTg0YjE3OWI1ZDZlMGMzYmM5ZGQxNTFkZmVlZjUyYmY0Y2U3YjIiLCJhcGlfa2V5Ijoiay0xIiwiYXBw"
    "bGljYXRpb25faWQiOiJhcHAtMSJ9.-FT6tQymnptxoR32-eVdGtB362afXH7R9b_Z6j9U22w"
)


def request(
    body: bytes, headers: Mapping[str, str], *, method: str = "sha256", at: datetime = SIGNED_AT, url: str = ""
) -> Webhook:
    return Webhook(
        "POST",
        url or "https://hooks.example.org/in/vonage/abc",
        headers,
        body,
        settings={"signature_method": method},
        secrets={"signature_secret": ("vonage-sig-secret",)},
        received_at=at,
    )


def signed_form(method: str, signature: str, **changes: str) -> Webhook:
    return request(urlencode({**FIELDS, **changes, "sig": signature}).encode(), {}, method=method)


def with_token(token: str, body: bytes = BODY, at: datetime = SIGNED_AT) -> Webhook:
    return request(body, {"authorization": f"Bearer {token}", "content-type": "application/json"}, at=at)


def without_token(**body: object) -> Webhook:
    """Return an unsigned Messages API request, for parse alone."""
    given = {"message_uuid": "u-1", "from": "447700900456", "to": "447700900123", "channel": "whatsapp", **body}
    return request(json.dumps(given).encode(), {"content-type": "application/json"})


def message_of(event: InboundEvent) -> Message:
    assert event.message is not None
    return event.message


@pytest.mark.parametrize(("method", "signature"), SIGNATURES.items())
def test_published_field_signature_is_accepted_in_either_case(method: str, signature: str) -> None:
    vonage_sms.ADAPTER.verify(signed_form(method, signature))
    vonage_sms.ADAPTER.verify(signed_form(method, signature.upper()))


def test_fields_are_signed_alike_in_a_form_a_query_and_json() -> None:
    fields = {**FIELDS, "sig": SIGNATURES["sha256"]}
    url = f"https://hooks.example.org/in/vonage/abc?{urlencode(fields)}"
    vonage_sms.ADAPTER.verify(replace(request(b"", {}, url=url), method="GET"))
    as_json = {**fields, "timestamp": 1750000000}
    vonage_sms.ADAPTER.verify(request(json.dumps(as_json).encode(), {"content-type": "application/json"}))


def test_signature_by_another_method_than_the_accounts_is_refused() -> None:
    """T61: a weaker method is no way in."""
    with pytest.raises(BadSignature):
        vonage_sms.ADAPTER.verify(signed_form("sha256", SIGNATURES["md5hash"]))
    with pytest.raises(BadSignature):
        vonage_sms.ADAPTER.verify(signed_form("none", SIGNATURES["sha256"]))


@pytest.mark.parametrize("signature", ["", "x", SIGNATURES["sha256"][:-2], "0" * 64, "sha256=" + SIGNATURES["sha256"]])
def test_missing_or_wrong_signature_is_refused(signature: str) -> None:
    """T61."""
    with pytest.raises(BadSignature):
        vonage_sms.ADAPTER.verify(signed_form("sha256", signature))


def test_changed_text_is_refused() -> None:
    with pytest.raises(BadSignature):
        vonage_sms.ADAPTER.verify(signed_form("sha256", SIGNATURES["sha256"], text="a&b=d"))


@pytest.mark.parametrize("seconds", [301, -301, 86400 * 365])
def test_stale_or_future_fields_and_tokens_are_refused(seconds: int) -> None:
    at = SIGNED_AT + timedelta(seconds=seconds)
    with pytest.raises(BadSignature):
        vonage_sms.ADAPTER.verify(replace(signed_form("sha256", SIGNATURES["sha256"]), received_at=at))
    with pytest.raises(BadSignature):
        vonage_sms.ADAPTER.verify(with_token(TOKEN, at=at))


@pytest.mark.parametrize("seconds", [0, 299, -299])
def test_published_token_is_accepted_within_five_minutes(seconds: int) -> None:
    vonage_sms.ADAPTER.verify(with_token(TOKEN, at=SIGNED_AT + timedelta(seconds=seconds)))


def test_token_is_for_these_bytes_only() -> None:
    for body in (BODY + b" ", json.dumps(json.loads(BODY)).encode(), b""):
        with pytest.raises(BadSignature):
            vonage_sms.ADAPTER.verify(with_token(TOKEN, body))


def unsecured(header: dict[str, object], signature: str = "") -> str:
    claims = TOKEN.split(".")[1]
    return f"{base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip('=')}.{claims}.{signature}"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "...",
        TOKEN.rpartition(".")[0],
        TOKEN.rpartition(".")[0] + ".",
        unsecured({"alg": "none"}),
        unsecured({"alg": "None"}, TOKEN.rpartition(".")[2]),
        unsecured({"alg": "RS256"}, TOKEN.rpartition(".")[2]),
        unsecured({"alg": ["HS256"]}, TOKEN.rpartition(".")[2]),
        unsecured({"typ": "JWT"}, TOKEN.rpartition(".")[2]),
        TOKEN + "A",
        "é" + TOKEN,
    ],
)
def test_token_of_another_algorithm_or_shape_is_refused(token: str) -> None:
    """T61: the algorithm is ours to choose, not the token's."""
    with pytest.raises(BadSignature):
        vonage_sms.ADAPTER.verify(with_token(token))


def test_reachability_check_is_answered_and_anything_more_is_not() -> None:
    assert vonage_sms.handshake(request(b"", {})) is not None
    assert vonage_sms.handshake(request(b"{}", {})) is None
    assert vonage_sms.handshake(request(b"", {}, url="https://hooks.example.org/in?msisdn=1")) is None


def test_parts_of_a_long_message_are_messages_of_their_own_and_say_so(webhook: MakeWebhook) -> None:
    first, second = (vonage_sms.parse(webhook(f"vonage_sms/{name}")) for name in ("part_one", "part_two"))
    assert [event.kind for event in first + second] == ["message", "message"]
    assert message_of(first[0]).details == {"concat": {"ref": "52", "part": 1, "total": 2}}
    assert message_of(second[0]).details == {"concat": {"ref": "52", "part": 2, "total": 2}}
    assert first[0].external_id != second[0].external_id


def test_part_that_holds_a_stop_word_is_no_opt_out(webhook: MakeWebhook) -> None:
    """T69: only a whole message is a word; this part is the end of a longer one."""
    [event] = vonage_sms.parse(webhook("vonage_sms/part_two"))
    assert message_of(event).text == "Stop"


def test_alphanumeric_sender_and_short_code_are_no_phones() -> None:
    """T25."""
    for sender in ("PARCELCO", "45678", "0123456789", "266696687"):
        [event] = vonage_sms.parse(request(urlencode({**FIELDS, "msisdn": sender}).encode(), {}))
        assert event.sender is not None
        assert (event.sender.external_id, event.sender.phone) == (sender, None)


def test_binary_and_new_types_are_kept_as_unsupported(webhook: MakeWebhook) -> None:
    """T53."""
    [binary] = vonage_sms.parse(webhook("vonage_sms/binary"))
    assert (message_of(binary).kind, message_of(binary).raw_kind) == ("unsupported", "binary")
    [hologram] = vonage_sms.parse(webhook("vonage_sms/messages_new_kind"))
    assert (message_of(hologram).kind, message_of(hologram).raw_kind) == ("unsupported", "hologram")


def test_receipts_of_one_message_have_ids_of_their_own(webhook: MakeWebhook) -> None:
    [delivered] = vonage_sms.parse(webhook("vonage_sms/receipt_delivered"))
    assert (delivered.external_id, delivered.target_id) == ("0B00000000FAKE01:delivered", "0B00000000FAKE01")
    assert delivered.error is None


def test_stop_counts_on_sms_and_not_on_whatsapp() -> None:
    """T69."""
    stop = {"message_type": "text", "text": "Stop"}
    assert [each.kind for each in vonage_sms.parse(without_token(channel="sms", **stop))] == ["message", "opt_out"]
    assert [each.kind for each in vonage_sms.parse(without_token(**stop))] == ["message"]


def test_whatsapp_user_may_come_with_phone_and_user_id_or_either() -> None:
    both = {
        "whatsapp": {"wa_id": "447700900456", "user_id": "GB.7000000000000000042"},
        "message_type": "text",
        "text": "",
    }
    [event] = vonage_sms.parse(without_token(**both))
    assert event.sender is not None
    assert event.sender.aliases == ("GB.7000000000000000042",)
    [hidden] = vonage_sms.parse(without_token(**both | {"from": "GB.7000000000000000042"}))
    assert hidden.sender is not None
    assert (hidden.sender.external_id, hidden.sender.phone) == ("GB.7000000000000000042", "+447700900456")


def test_messenger_id_is_no_phone_however_long_its_digits(webhook: MakeWebhook) -> None:
    """T25."""
    [event] = vonage_sms.parse(webhook("vonage_sms/messages_messenger"))
    assert event.sender is not None
    assert event.sender.phone is None


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"message_uuid": "u-1"}', b'{"message_uuid": "u-1", "from": "null"}']
)
def test_message_of_nobody_is_unreadable(body: bytes) -> None:
    with pytest.raises(BadPayload):
        vonage_sms.parse(request(body, {"content-type": "application/json"}))
