"""Rules of block and unblock: for what reason and how long, and what is remembered of the addresses of deleted contacts."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

from ingest.domain.refusals import Invalid

MAX_REASON_LENGTH = 255


@dataclass(frozen=True, slots=True)
class BlockTerms:
    """Why and until when. `until` None means until somebody lifts it."""

    reason: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What a block or unblock did, as contact ids in ascending order.

    `unchanged` were so already; `missing` do not exist, are deleted, or were merged away.
    """

    changed: tuple[int, ...]
    unchanged: tuple[int, ...]
    missing: tuple[int, ...]


def check_terms(terms: BlockTerms, now: datetime) -> BlockTerms:
    """Return the terms with the reason trimmed. Raises Invalid for an end that has passed or a reason too long."""
    reason = (terms.reason or "").strip() or None
    if reason and len(reason) > MAX_REASON_LENGTH:
        raise Invalid(f"reason is longer than {MAX_REASON_LENGTH} characters", field="reason")
    if terms.until is not None and terms.until.tzinfo is None:
        raise Invalid("until has no time zone", field="until")
    if terms.until is not None and terms.until <= now:
        raise Invalid("until is in the past", field="until")
    return BlockTerms(reason, terms.until)


def address_hash(salt: bytes, channel_id: int, address: str) -> bytes:
    """Return the salted hash by which a kept block knows an address again, 32 bytes.

    The salt is a secret of the installation: without it, a phone number could be found by trying all of them.
    """
    return hmac.digest(salt, f"{channel_id}:{address}".encode(), hashlib.sha256)


def erased_hash(salt: bytes, channel_id: int, address: str) -> bytes:
    """Return the salted hash by which the address of a deleted contact is known for a while, 32 bytes.

    PostgreSQL computes the same for ten thousand at once, which is why it is not the one above.
    """
    return hashlib.sha256(salt + f"{channel_id}:{address}".encode()).digest()
