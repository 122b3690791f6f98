"""One sender's flood is stored at the pace of any other messages, in as many statements."""

# ruff: noqa: N802 - the names carry the lessons

import time

import pytest
from sqlalchemy import event

from tests import builders
from tests.builders import at
from tests.pipeline_world import Pipeline

pytestmark = pytest.mark.database

FLOOD, BATCH = 5000, 500


def store(pipeline: Pipeline, run: str, senders: int) -> tuple[float, int]:
    """Store 5,000 messages in batches; return the seconds and the statements that the last batch took."""
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    batches = [
        [
            pipeline.request(
                "whatsapp_cloud",
                builders.whatsapp_text(f"4477009{number % senders:05d}", f"{run}.{number}", "again", at(number)),
            )
            for number in range(start, start + BATCH)
        ]
        for start in range(0, FLOOD, BATCH)
    ]
    began = time.process_time()
    for batch in batches:
        statements = 0
        event.listen(pipeline.tx, "before_cursor_execute", count)
        pipeline.resolve(*batch)
        event.remove(pipeline.tx, "before_cursor_execute", count)
    return time.process_time() - began, statements


def test_T37_a_flood_from_one_sender_costs_no_more_than_messages_of_many(pipeline: Pipeline) -> None:
    store(pipeline, "warm", BATCH)
    seconds_of_many, statements_of_many = store(pipeline, "many", BATCH)
    seconds, statements = store(pipeline, "flood", 1)
    assert pipeline.count("message") == 3 * FLOOD
    assert statements <= statements_of_many
    assert seconds < 1.5 * seconds_of_many
