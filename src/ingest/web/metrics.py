"""The web process's own counters. Labels are constants and queue names: never an id, an address or a text."""

from prometheus_client import Counter, Histogram

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

EDGE = Histogram(
    "ingest_accept_seconds", "From the first byte of a webhook call to its answer", buckets=LATENCY_BUCKETS
)
EDGE_ANSWERS = Counter("ingest_webhook_answers_total", "Webhook calls by how they were answered", ["outcome"])
GROUP_SIZE = Histogram("ingest_group_requests", "Requests in one commit", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500))
GROUP_SECONDS = Histogram("ingest_group_seconds", "Duration of one grouped commit", buckets=LATENCY_BUCKETS)

_answers = {
    outcome: EDGE_ANSWERS.labels(outcome)
    for outcome in (
        "accepted",
        "handshake",
        "unknown",
        "unproved",
        "malformed",
        "method",
        "too_large",
        "too_slow",
        "gone",
        "unavailable",
    )
}


def count_edge(outcome: str) -> None:
    """Count one answered call."""
    _answers[outcome].inc()


def observe_group(size: int, seconds: float) -> None:
    """Record one grouped commit."""
    GROUP_SIZE.observe(size)
    GROUP_SECONDS.observe(seconds)
