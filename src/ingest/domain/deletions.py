"""Rules of deletion: what is asked before, what is looked for in leftovers, what remains and is certified."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

BATCH_CONTACTS = 200
# Rows that one transaction removes at most, of each table: what bounds its time, its locks and its memory.
BATCH_ROWS = 5_000
FINGERPRINT_SPAN = timedelta(days=14)
MAX_ATTEMPTS = 3
# Shorter identifiers would be found everywhere by chance.
SHORTEST_TRACE = 5

_WORDS = re.compile(rb"[\w.+@-]{5,}")
_DIGITS = re.compile(rb"[0-9]{5,}")


@dataclass(frozen=True, slots=True)
class DeletionAccepted:
    """A deletion that was accepted, now or, for a repeated request, before.

    `blocked_count` of the contacts were blocked: deleting lifts the block, unless it was asked to be kept.
    """

    deletion_job_id: int
    contact_count: int
    absorbed_count: int
    blocked_count: int
    is_repeat: bool = False


def traces_of(identifiers: Iterable[str]) -> frozenset[bytes]:
    """Return the forms by which a contact's addresses, phones and emails would be found in a raw request."""
    found: set[bytes] = set()
    for each in identifiers:
        value = each.strip().lower().encode()
        digits = re.sub(rb"\D", b"", value)
        is_number = len(digits) >= len(value) - 1
        found.add(digits if is_number else value)
    return frozenset(each for each in found if len(each) >= SHORTEST_TRACE)


def holds_trace(body: bytes, traces: Collection[bytes]) -> bool:
    """Return whether the raw request, as it is or with its URL-encoding undone, names one of the traces."""
    for form in {body.lower(), unquote_to_bytes(body).lower()}:
        if any(match.group() in traces for pattern in (_WORDS, _DIGITS) for match in pattern.finditer(form)):
            return True
    return False


def certificate(
    job: Mapping[str, Any], contact_ids: Sequence[int], failed_ids: Sequence[int], issued_at: datetime, version: str
) -> tuple[dict[str, Any], bytes]:
    """Return the certificate of a finished deletion and its digest.

    It names no contact: the set is there as a hash over the ids in ascending order, so that it can be checked against
    the tombstones.
    """
    listed = ",".join(str(each) for each in sorted(contact_ids)).encode()
    body = {
        "deletion_job_id": job["id"],
        "workspace_id": job["workspace_id"],
        "contacts": job["purged_count"],
        "contacts_hash": hashlib.sha256(listed).hexdigest(),
        "failed_contacts": len(failed_ids),
        "rows": dict(sorted(job["row_counts"].items())),
        "accepted_at": job["created_at"].isoformat(),
        "started_at": job["started_at"].isoformat(),
        "finished_at": issued_at.isoformat(),
        "actor_id": job["actor_id"],
        "schema_version": version,
        "remains": [
            "tombstone: id, time, deletion, actor",
            "billing ledger: id, cycle, channel",
            "audit log: ids",
            "message fingerprints: hashes, for 14 days",
            "exports and imports that were made before: until they expire",
            "backups: until they expire",
        ],
    }
    return body, hashlib.sha256(msgspec.json.encode(body, order="sorted")).digest()
