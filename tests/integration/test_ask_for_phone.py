"""A workflow that asks a Telegram contact for its phone makes a merge suggestion of it, from webhook bodies on."""

# ruff: noqa: N802 - the names carry the lines of the specification

from collections import defaultdict
from typing import Any

from sqlalchemy import text

import workers.detect
import workers.react
from ingest.jobs.types import read_job
from ingest.pipeline.workflows import create_workflow, publish_workflow
from tests import builders
from tests.pipeline_world import Pipeline

ASK = {
    "trigger": {"kind": "conversation_opened", "sources": ["contact"]},
    "steps": [{"id": "q", "kind": "ask", "text": "Your phone, please?", "answer": "phone"}],
}


HANDLERS = {
    "detect_duplicates": workers.detect.detect,
    "react_to_messages": workers.react.take_messages,
    "react_to_conversations": workers.react.follow_conversations,
    "react_to_fields": workers.react.follow_fields,
}


def work_off(pipeline: Pipeline) -> None:
    """Handle the waiting jobs of the queues behind resolve, those of one name together, until only timers are left."""
    for _ in range(10):
        rows = pipeline.rows("delete from job where workspace_id = :w and name <> 'wake_run' returning *")
        groups: defaultdict[str, list[Any]] = defaultdict(list)
        for row in rows:
            groups[row.name].append(read_job(row.name, row.workspace_id, row.args))
        for name, jobs in groups.items():
            HANDLERS[name](pipeline.uow(), jobs)
        if not rows:
            return
    raise AssertionError("jobs make jobs without end")


def test_A21_A22_and_A50_the_answer_is_written_in_e164_and_the_whatsapp_contact_is_suggested(
    pipeline: Pipeline,
) -> None:
    workflow_id = create_workflow(pipeline.uow(), pipeline.workspace_id, "Ask for phone", ASK)
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("60123456789", "w.1"))
    work_off(pipeline)
    publish_workflow(pipeline.uow(), pipeline.workspace_id, workflow_id)
    pipeline.deliver("telegram", builders.telegram_text(7001, 1))
    work_off(pipeline)
    telegram = pipeline.contact_of("telegram", "7001")
    questions = pipeline.rows("select text, contact_id from message where workspace_id = :w and traffic = 'outgoing'")
    assert [tuple(row) for row in questions] == [("Your phone, please?", telegram.id)]
    assert pipeline.count("merge_suggestion") == 0
    pipeline.sleep(5)
    pipeline.deliver("telegram", builders.telegram_text(7001, 2, "+60 12-345 6789", pipeline.now))
    work_off(pipeline)
    assert pipeline.contact_of("telegram", "7001").phone == "+60123456789"
    (pair,) = pipeline.tx.execute(
        text("select * from merge_suggestion where workspace_id = :w"), {"w": pipeline.workspace_id}
    )
    whatsapp = pipeline.contact_of("whatsapp_cloud", "60123456789")
    assert {pair.low_contact_id, pair.high_contact_id} == {whatsapp.id, telegram.id}
    assert (pair.state, pair.kind, pair.keys) == ("open", "exact", ["tel:+60123456789"])
    assert "Your phone, please?" in [row.text for row in pipeline.messages()]
