"""What a contact's timeline says about its workflow runs: that one started, and why it ended."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from ingest.domain.actors import WORKFLOW
from ingest.domain.workflow_runs import Run
from ingest.store.contact_edits import NewEvent, add_contact_events


def tell_runs(tx: Connection, workspace_id: int, started: Sequence[Run], runs: Sequence[Run], now: datetime) -> None:
    """Add a line for each run that started, and one for each that has ended."""
    events: defaultdict[str, list[NewEvent]] = defaultdict(list)
    for run in started:
        events["workflow.started"].append(NewEvent(run.contact_id, {"run_id": run.id, "workflow_id": run.workflow_id}))
    for run in runs:
        if run.reason is not None:
            facts = {"run_id": run.id, "workflow_id": run.workflow_id, "reason": run.reason}
            kind = "workflow.finished" if run.reason == "finished" else "workflow.stopped"
            events[kind].append(NewEvent(run.contact_id, facts))
    for kind, lines in events.items():
        add_contact_events(tx, workspace_id, kind, lines, source=WORKFLOW.source, actor_id=None, now=now)
