"""The step itself: one claim's rows, resolved in the transaction it is given."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ingest.jobs.types import ApplyEffects, DetectDuplicates, ReactToConversations, ReactToMessages, StopRuns
from ingest.pipeline.resolve.aftermath import apply_aftermath
from ingest.pipeline.resolve.batch import Batch, Resolver
from ingest.pipeline.resolve.people import find_people
from ingest.pipeline.resolve.reading import read_batch
from ingest.pipeline.resolve.storing import store_messages
from ingest.store.dead_letters import add_dead_letters
from ingest.store.effects import apply_effects, list_waiting_targets
from ingest.store.planning import prefer_lookups
from ingest.store.tallies import add_tally
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.workflow_interest import list_interested

# After one such span every transaction that was under way when an effect found no message has ended.
EFFECTS_SPAN_SECONDS = 3


def resolve_requests(uow: UnitOfWork, resolver: Resolver, bodies: Sequence[bytes]) -> Batch:
    """Resolve the requests in the rows' bodies and return what became of them. Safe to run twice."""
    prefer_lookups(uow.tx)
    batch = read_batch(uow.tx, resolver, bodies)
    find_people(uow.tx, resolver, batch)
    stored = store_messages(uow, resolver, batch)
    waiting = apply_aftermath(uow, batch, stored)
    add_dead_letters(uow.tx, batch.dead)
    add_tally(uow.tx, batch.tally)
    _add_follow_ups(uow, batch, waiting)
    return batch


def apply_late_effects(uow: UnitOfWork, job: ApplyEffects) -> int:
    """Apply effects that wait although their message is there, because two transactions missed each other."""
    return apply_effects(uow.tx, list_waiting_targets(uow.tx, job.channel_ids))


def _add_follow_ups(uow: UnitOfWork, batch: Batch, waiting: set[int]) -> None:
    uow.add_jobs([DetectDuplicates(workspace_id, tuple(sorted(ids))) for workspace_id, ids in batch.detect.items()])
    interested = list_interested(uow.tx, {*batch.wrote, *batch.opened}) if batch.wrote or batch.opened else set()
    uow.add_jobs(
        [
            *(
                ReactToConversations(workspace_id, conversation_ids=tuple(ids))
                for workspace_id, ids in batch.opened.items()
                if workspace_id in interested
            ),
            *(
                ReactToMessages(workspace_id, tuple(sorted(ids)))
                for workspace_id, ids in batch.wrote.items()
                if workspace_id in interested
            ),
            *(StopRuns(workspace_id, tuple(sorted(ids))) for workspace_id, ids in batch.opted_out.items()),
        ]
    )
    if waiting:
        _look_again(uow, batch, waiting)


def _look_again(uow: UnitOfWork, batch: Batch, waiting: set[int]) -> None:
    """Have the effects that found no message looked at once more, when whoever stored it has committed.

    One job a channel and span of three seconds, due a whole span after the span has ended: it sees all effects of its
    own, and is never one that has begun already.
    """
    workspaces = {item.channel_id: item.workspace_id for item in batch.items}
    span = int(uow.now.timestamp() // EFFECTS_SPAN_SECONDS)
    channel_ids = sorted(waiting)
    uow.add_jobs(
        [ApplyEffects(workspaces[channel_id], (channel_id,)) for channel_id in channel_ids],
        due_at=datetime.fromtimestamp((span + 2) * EFFECTS_SPAN_SECONDS, UTC),
        keys=[f"apply_effects:{channel_id}:{span}" for channel_id in channel_ids],
    )
