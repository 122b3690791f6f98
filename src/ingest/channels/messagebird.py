"""MessageBird's and Bird's proofs of origin: a token, or a signature over time, address and body.

Source: MessageBird, "Verifying HTTP requests" (token, and the older signed request); Bird, "Webhook security".
"""

import hashlib
from urllib.parse import parse_qsl, urlencode, urlsplit

from ingest.channels.base import BadSignature, Webhook, moment, require_hmac, require_recent, unbase64
from ingest.channels.signed_tokens import claimed_time, require_digest, token_claims

TOKEN_HEADER = "messagebird-signature-jwt"  # noqa: S105 - the name of a header
SIGNATURE_HEADER = "messagebird-signature"
TIME_HEADER = "messagebird-request-timestamp"
ALGORITHMS = ("HS256", "HS384", "HS512")
ISSUER = "MessageBird"
LEEWAY_SECONDS = 1


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the signing key signed this URL and body for about now.

    A repeated `jti` is not refused here: the message id makes the repetition harmless.
    """
    keys = hook.accepted("signing_key")
    token = hook.header(TOKEN_HEADER)
    if token:
        _verify_token(hook, token, keys)
    else:
        _verify_signature(hook, keys)


def _verify_token(hook: Webhook, token: str, keys: tuple[str, ...]) -> None:
    claims = token_claims(token, ALGORITHMS, *keys)
    if claims.get("iss") != ISSUER:
        raise BadSignature("token of another issuer")
    now = hook.received_at.timestamp()
    if now < claimed_time(claims, "nbf").timestamp() - LEEWAY_SECONDS:
        raise BadSignature("token is not valid yet")
    if now > claimed_time(claims, "exp").timestamp() + LEEWAY_SECONDS:
        raise BadSignature("token has expired")
    require_digest(claims, "url_hash", hook.url.encode())
    if hook.body:
        require_digest(claims, "payload_hash", hook.body)
    elif "payload_hash" in claims:
        raise BadSignature("token is for a request with a body")


def _verify_signature(hook: Webhook, keys: tuple[str, ...]) -> None:
    """Check Bird's signature over the URL or the older one over the sorted query; their texts cannot be confused."""
    signature = unbase64(hook.header(SIGNATURE_HEADER))
    stamp = hook.header(TIME_HEADER)
    signed_at = moment(stamp, hook.received_at)
    if signed_at is None:
        raise BadSignature("signature has no time")
    require_recent(signed_at, hook.received_at)
    try:
        require_hmac(signature, _signed(stamp, hook.url, hook.body), "sha256", *keys)
    except BadSignature:
        require_hmac(signature, _signed(stamp, _sorted_query(hook.url), hook.body), "sha256", *keys)


def _signed(stamp: str, address: str, body: bytes) -> bytes:
    return f"{stamp}\n{address}\n".encode("utf-8", "replace") + hashlib.sha256(body).digest()


def _sorted_query(url: str) -> str:
    return urlencode(sorted(parse_qsl(urlsplit(url).query, keep_blank_values=True)))
