"""Step `upkeep`: ring for what is due, add up tallies, let history go. Every part is safe to repeat at any time."""

from datetime import timedelta

import structlog

from ingest.jobs.types import SweepDuplicates
from ingest.store import dead_letters, due_jobs, tallies, workspaces
from ingest.store import upkeep as rows
from ingest.store.unit_of_work import Transaction, UnitOfWork

log = structlog.get_logger()


def list_queues_to_ring(tx: Transaction, ahead_seconds: float) -> dict[str, float]:
    """Return the queues with jobs that nobody holds and that are due within so many seconds: in how many, 0 for now."""
    return due_jobs.list_coming_queues(tx, ahead_seconds)


def compact_tallies(uow: UnitOfWork) -> None:
    """Add up tallies older than a minute; the sums stay what they were."""
    tallies.compact_tallies(uow.tx)


def expire_effects(uow: UnitOfWork) -> int:
    """Drop statuses, edits and reactions whose message has not come within a day."""
    return rows.expire_effects(uow.tx)


def trim_history(uow: UnitOfWork) -> dict[str, int]:
    """Drop the notes on dropped messages after 30 days, and fingerprints of deleted ones after theirs."""
    return rows.trim_history(uow.tx)


def trim_dead_letters(uow: UnitOfWork, days: int) -> int:
    """Remove dead letters older than so many days, with what they carry; return how many went.

    Those that were still open are told in the log: a message that nobody replayed is given up here.
    """
    gone, still_open = dead_letters.trim_dead_letters(uow.tx, uow.now - timedelta(days=days))
    if gone:
        log.warning("dead_letters.expired", count=gone, open_count=still_open)
    return gone


def sweep_duplicates(uow: UnitOfWork) -> int:
    """Have every workspace's contacts reviewed for duplicates once more, in batches; return how many workspaces there are."""
    ids = workspaces.list_workspace_ids(uow.tx)
    uow.add_jobs([SweepDuplicates(workspace_id) for workspace_id in ids], keys=["sweep"] * len(ids))
    return len(ids)
