"""A worker's counters. Labels are queue names, outcomes and reasons from fixed lists."""

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Counter, Histogram

from ingest.store.tallies import Tally

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

ITEMS = Counter("ingest_items_total", "What became of inbound items", ["outcome", "reason"])
CLAIM_SECONDS = Histogram("ingest_claim_seconds", "Duration of one claim's work", ["queue"], buckets=BUCKETS)
CLAIM_WEIGHT = Histogram(
    "ingest_claim_items",
    "Items handled in one transaction",
    ["queue"],
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
)
FAILURES = Counter("ingest_claim_failures_total", "Claims that failed, by the kind of error", ["queue", "error"])
END_TO_END = Histogram("ingest_end_to_end_seconds", "From acceptance to storage of a message", buckets=BUCKETS)


def count_batch(tally: Tally, stored: Sequence[tuple[datetime, datetime]]) -> None:
    """Count a resolved batch's outcomes and how long its messages had waited."""
    for outcome, count in tally.items():
        ITEMS.labels(outcome.outcome, outcome.reason).inc(count)
    for accepted_at, stored_at in stored:
        END_TO_END.observe((stored_at - accepted_at).total_seconds())


def count_claim(queue: str, weight: int, seconds: float) -> None:
    """Count one claim that was handled."""
    CLAIM_SECONDS.labels(queue).observe(seconds)
    CLAIM_WEIGHT.labels(queue).observe(weight)


def count_failure(queue: str, error: str) -> None:
    """Count one claim that failed."""
    FAILURES.labels(queue, error).inc()
