"""Rules of deletion: what is asked before, what is looked for in leftovers, what remains and is certified."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

BATCH_CONTACTS = 200
# Rows that one transaction removes at most, of each table: what bounds its time, its locks and its memory, and how long an
# inbound message waits for the disk.
BATCH_ROWS = 4_000
FINGERPRINT_SPAN = timedelta(days=14)
MAX_ATTEMPTS = 3


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
            "message fingerprints and erased addresses: hashes, for 14 days",
            "backups: until they expire",
        ],
    }
    return body, hashlib.sha256(msgspec.json.encode(body, order="sorted")).digest()
