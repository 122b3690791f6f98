"""The queues, in pipeline order. Work of one temper shares a queue; each queue has its own processes."""

RESOLVE = "resolve"
DETECT = "detect"
REACT = "react"
MERGE = "merge"
DELETE = "delete"
TRANSFER = "transfer"
SEND = "send"
NOTIFY = "notify"
UPKEEP = "upkeep"

QUEUES = (RESOLVE, DETECT, REACT, MERGE, DELETE, TRANSFER, SEND, NOTIFY, UPKEEP)

# Work by the thousand that nobody waits for: its processes give way to all others.
BULK_QUEUES = frozenset({DELETE, TRANSFER, UPKEEP})


def task_name(queue: str) -> str:
    """Return the name of the Celery task that works off a queue. It is wire format: never rename."""
    return f"ingest.{queue}"
