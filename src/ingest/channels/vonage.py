"""Vonage's two proofs of origin: signed fields (SMS API) and a token over the body (Messages API).

Source: Vonage, "Signing messages" (SMS API) and "Verifying JWT webhooks".
"""

import hashlib
import hmac
from collections.abc import Mapping

from ingest.channels.base import BadPayload, BadSignature, Webhook, moment, require_hmac, require_recent, unhex
from ingest.channels.fields import as_object, as_text
from ingest.channels.signed_tokens import claimed_time, require_digest, token_claims

# The account's signature method, by the names of Vonage's dashboard.
METHODS = {"md5hash": "", "md5": "md5", "sha1": "sha1", "sha256": "sha256", "sha512": "sha512"}
DEFAULT_METHOD = "sha256"

_BEARER = "bearer "
_ENDS_FIELD = str.maketrans("&=", "__")


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the signature secret signed the request within five minutes of now.

    A repeated nonce or `jti` is not refused here: the message id makes the repetition harmless.
    """
    secrets = hook.accepted("signature_secret")
    authorization = hook.header("authorization")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        _verify_token(hook, authorization[len(_BEARER) :].strip(), secrets)
    else:
        _verify_fields(hook, secrets)


def _verify_token(hook: Webhook, token: str, secrets: tuple[str, ...]) -> None:
    claims = token_claims(token, ("HS256",), *secrets)
    require_digest(claims, "payload_hash", hook.body)
    require_recent(claimed_time(claims, "iat"), hook.received_at)


def _verify_fields(hook: Webhook, secrets: tuple[str, ...]) -> None:
    try:
        fields = sms_fields(hook)
    except BadPayload as broken:
        raise BadSignature("signed fields cannot be read") from broken
    signature, signed = unhex(fields.get("sig", "")), signed_text(fields)
    method = hook.settings.get("signature_method") or DEFAULT_METHOD
    digest = METHODS.get(method)
    if digest is None:
        raise BadSignature(f"signature_method is none of {', '.join(METHODS)}")
    if digest:
        require_hmac(signature, signed, digest, *secrets)
    else:
        _require_md5(signature, signed, secrets)
    signed_at = moment(fields.get("timestamp"), hook.received_at)
    if signed_at is None:
        raise BadSignature("signed fields have no timestamp")
    require_recent(signed_at, hook.received_at)


def _require_md5(signature: bytes, signed: bytes, secrets: tuple[str, ...]) -> None:
    """Check the oldest method, which is no HMAC: the digest of the fields with the secret after them."""
    found = False
    for secret in secrets:
        digest = hashlib.md5(signed + secret.encode(), usedforsecurity=False).digest()
        found |= hmac.compare_digest(digest, signature)
    if not found:
        raise BadSignature("signature missing or wrong")


def signed_text(fields: Mapping[str, str]) -> bytes:
    """Return what is signed: all fields but `sig`, sorted by name, their values unable to look like a field."""
    named = sorted(item for item in fields.items() if item[0] != "sig")
    return "".join(f"&{name}={value.translate(_ENDS_FIELD)}" for name, value in named).encode(
        "utf-8", "surrogateescape"
    )


def sms_fields(hook: Webhook) -> dict[str, str]:
    """Return the fields of an SMS API request, untrimmed: of the query, of a form or of a JSON object.

    Raises BadPayload for a body that is neither form nor JSON.
    """
    if hook.method == "GET":
        return hook.query
    if "json" not in hook.header("content-type"):
        return dict(hook.form)
    return {name: _raw_text(value) for name, value in as_object(hook.json()).items()}


def _raw_text(value: object) -> str:
    return value if isinstance(value, str) else as_text(value) or ""
