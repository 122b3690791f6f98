from dataclasses import replace

import pytest

from ingest.channels import meta
from ingest.channels.base import BadSignature, Webhook
from tests.unit.channels.conftest import MakeWebhook

# Known-good values: the HMAC of these 28 bytes was worked out elsewhere.
BODY = b'{"hello":"w\\u00f6rld","n":1}'
SIGNATURE = "sha256=80f84e7171ded6d247c5a67b038eca147a632bf19543c43bafef680c94d26174"


def signed(signature: str, body: bytes = BODY) -> Webhook:
    return Webhook(
        "POST",
        "https://hooks.example.org/",
        {"x-hub-signature-256": signature},
        body,
        {},
        {"app_secret": ("meta-app-secret",)},
    )


def test_known_signature_is_accepted() -> None:
    meta.verify(signed(SIGNATURE))


def test_upper_case_digits_are_the_same_digest() -> None:
    meta.verify(signed("sha256=" + SIGNATURE.removeprefix("sha256=").upper()))


def test_body_serialised_anew_is_refused() -> None:
    with pytest.raises(BadSignature):
        meta.verify(signed(SIGNATURE, '{"hello":"wörld","n":1}'.encode()))


@pytest.mark.parametrize("prefix", ["", "sha1=", "SHA256=", "sha256:"])
def test_other_prefix_is_refused(prefix: str) -> None:
    """T61: the digest alone, or under another name, is no proof."""
    with pytest.raises(BadSignature):
        meta.verify(signed(prefix + SIGNATURE.removeprefix("sha256=")))


def test_old_sha1_header_is_no_proof() -> None:
    hook = replace(signed(SIGNATURE), headers={"x-hub-signature": SIGNATURE})
    with pytest.raises(BadSignature):
        meta.verify(hook)


def test_handshake_answers_the_bare_challenge_as_plain_text(webhook: MakeWebhook) -> None:
    answer = meta.handshake(webhook("whatsapp_cloud/handshake"))
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"1158201444")
    assert answer.content_type.startswith("text/plain")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "hub.mode=subscribe&hub.challenge=1",
        "hub.mode=subscribe&hub.verify_token=&hub.challenge=1",
        "hub.mode=subscribe&hub.verify_token=wrong&hub.challenge=1",
        "hub.mode=unsubscribe&hub.verify_token=verify-me&hub.challenge=1",
        "hub_mode=subscribe&hub_verify_token=verify-me&hub_challenge=1",
    ],
)
def test_handshake_without_our_word_is_forbidden(webhook: MakeWebhook, query: str) -> None:
    hook = replace(webhook("whatsapp_cloud/handshake"), url=f"https://hooks.example.org/webhooks/1?{query}")
    answer = meta.handshake(hook)
    assert answer is not None
    assert (answer.status, answer.body) == (403, b"")


def test_handshake_is_forbidden_where_no_verify_token_is_configured(webhook: MakeWebhook) -> None:
    answer = meta.handshake(replace(webhook("whatsapp_cloud/handshake"), secrets={}))
    assert answer is not None
    assert answer.status == 403


def test_message_is_no_handshake(webhook: MakeWebhook) -> None:
    assert meta.handshake(webhook("whatsapp_cloud/text")) is None
