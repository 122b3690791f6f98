"""JSON Web Tokens as proof of origin: the HMAC family only, whatever the token's own header asks for.

Source: RFC 7515, RFC 7518 section 3.2, RFC 8725. The claims are for the adapter to check, against the time of arrival and
not the clock, so that a stored request can be verified again.
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

from ingest.channels.base import decode_json, require_hmac
from ingest.domain.events import JSON
from ingest.errors import BadPayload, BadSignature

_DIGESTS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


def token_claims(token: str, algorithms: tuple[str, ...], *secrets: str) -> JSON:
    """Return the claims of a token signed with one of the secrets. Raises BadSignature for any other."""
    signed, _, signature = token.rpartition(".")
    header, _, claims = signed.partition(".")
    algorithm = _object(header).get("alg")
    if algorithm not in algorithms or algorithm not in _DIGESTS:
        raise BadSignature("token algorithm is not accepted")
    require_hmac(_decoded(signature), signed.encode("utf-8", "replace"), _DIGESTS[algorithm], *secrets)
    return _object(claims)


def claimed_time(claims: JSON, name: str) -> datetime:
    """Return a claim that is a time in unix seconds. Raises BadSignature where it is missing or none."""
    value = claims.get(name)
    try:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadSignature(f"token without {name}")
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as unusable:
        raise BadSignature(f"token without {name}") from unusable


def require_digest(claims: JSON, name: str, content: bytes) -> None:
    """Raise BadSignature unless the claim is the SHA-256 of the content, in hex."""
    claimed = claims.get(name)
    expected = hashlib.sha256(content).hexdigest()
    if not isinstance(claimed, str) or not hmac.compare_digest(
        claimed.encode("utf-8", "replace").lower(), expected.encode()
    ):
        raise BadSignature(f"token {name} does not match")


def _object(part: str) -> JSON:
    try:
        value = decode_json(_decoded(part))
    except BadPayload as broken:
        raise BadSignature("token cannot be read") from broken
    if not isinstance(value, dict):
        raise BadSignature("token cannot be read")
    return value


def _decoded(part: str) -> bytes:
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
    # One spelling each, as in `unbase64`: bits that stand for nothing are zero.
    return decoded if base64.urlsafe_b64encode(decoded).decode().rstrip("=") == part else b""
