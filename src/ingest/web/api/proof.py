"""Who asks: the bearer token of a request, checked against the stored digest.

A token is a JSON Web Token in form, because clients look at its claims (id, spaceId, orgId, iat, type). What proves it
is its SHA-256 in the database alone, so that it can be revoked at once.
"""

import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import msgspec
from sqlalchemy import Engine

from ingest.domain.access import Principal
from ingest.domain.refusals import NotProved
from ingest.store.tokens import find_principal
from ingest.store.wall import enter_workspace

CACHE_SECONDS = 1.0
MAX_CACHED = 10_000
MAX_TOKEN_LENGTH = 2000
CLAIMS = {"id": int, "spaceId": int, "orgId": int, "iat": int, "type": str}
BIGGEST_ID = 2**53


def bearer_token(header: str | None) -> str:
    """Return the token of an Authorization header. Raises NotProved where there is none."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise NotProved("Token not found: send `Authorization: Bearer <token>`")
    return token


def claimed_workspace(token: str) -> int:
    """Return the workspace that the token claims. Raises NotProved for anything that is not formed like our tokens."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN_LENGTH or len(parts) != 3 or not token.isascii():
        raise NotProved("Token not found")
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, msgspec.DecodeError):
        raise NotProved("Token not found") from None
    if not _has_claims(claims):
        raise NotProved("Token not found")
    return int(claims["spaceId"])


def _has_claims(claims: Any) -> bool:
    if not isinstance(claims, dict):
        return False
    typed = all(type(claims.get(name)) is kind for name, kind in CLAIMS.items())
    return typed and 0 < claims["spaceId"] < BIGGEST_ID


class TokenCheck:
    """Checks tokens against the database. Who was found is remembered for a second, who was not never is."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = Lock()
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    def remembered(self, token: str) -> Principal | None:
        """Return whom the token stood for within the last second, without asking the database."""
        with self._lock:
            found = self._known.get(_digest(token))
        return found[0] if found and self._clock() < found[1] else None

    def look_up(self, token: str) -> Principal:
        """Return whom the token stands for, from the database. Raises NotProved for an unknown or revoked one."""
        workspace_id, digest = claimed_workspace(token), _digest(token)
        with self._engine.begin() as tx:
            enter_workspace(tx, workspace_id)
            principal = find_principal(tx, workspace_id, digest)
        with self._lock:
            self._known.pop(digest, None)
            if principal is not None:
                self._known[digest] = (principal, self._clock() + CACHE_SECONDS)
            if len(self._known) > MAX_CACHED:
                self._known.popitem(last=False)
        if principal is None:
            raise NotProved("Token not found")
        return principal


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
