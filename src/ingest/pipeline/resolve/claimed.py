"""What of a claim is resolved now: everything, unless backlogs give way or one sender floods it (see `sharing`)."""

import random
from collections.abc import Mapping, Sequence

from ingest.jobs.queues import RESOLVE
from ingest.pipeline.resolve.batch import Batch, Resolver
from ingest.pipeline.resolve.reading import Routed, add_items, parse_requests
from ingest.pipeline.resolve.sharing import (
    BACKLOG_LANE,
    FLOOD_REQUESTS,
    SAMPLE_EVERY,
    Placed,
    find_floods,
    find_surplus,
    lane_of,
    pieces_of,
)
from ingest.store.intake import RawRequest, decode_requests
from ingest.store.jobs import ClaimedJob
from ingest.store.lanes import find_newest_body
from ingest.store.tallies import Outcome
from ingest.store.unit_of_work import Transaction


def read_claimed(tx: Transaction, resolver: Resolver, rows: Sequence[ClaimedJob], *, is_full: bool) -> Batch:
    """Return the items of what is resolved now, and in `put_back` what is not. `is_full`: more may be waiting."""
    batch = Batch()
    fresh: list[Placed] = []
    backlog: list[Placed] = []
    apart: list[RawRequest] = []
    for row in rows:
        placed = [(row.id, request) for request in decode_requests(row.body or b"")]
        if row.lane:
            apart += [request for _, request in placed[: row.share]]
            batch.put_back += pieces_of(row.lane, placed[row.share :])
        else:
            (backlog if row.gives_way else fresh).extend(placed)
    room = sum(row.share for row in rows if row.gives_way and not row.lane)
    if not _may_be_floods(tx, resolver, backlog):
        # Nobody's flood: what is beyond the room need not be read now.
        batch.put_back += pieces_of(BACKLOG_LANE, backlog[room:])
        backlog = backlog[:room]
    placed = [*fresh, *backlog]
    parsed = parse_requests(tx, resolver, batch, [request for _, request in placed])
    if len(placed) > FLOOD_REQUESTS:
        lanes = _surplus(tx, resolver, placed, parsed, is_full=is_full)
        beyond = [place for place in range(len(fresh), len(placed)) if place not in lanes and parsed[place]][room:]
        lanes |= dict.fromkeys(beyond, BACKLOG_LANE)
        parsed = _unread(batch, placed, parsed, lanes)
    add_items(tx, batch, [*parsed, *parse_requests(tx, resolver, batch, apart)])
    return batch


def senders_of(events: Sequence[Routed]) -> frozenset[str]:
    """Return who a request is from: senders by channel, account and address; "" for an event of nobody's."""
    return frozenset(
        f"{endpoint.channel_id}\n{event.account}\n{event.sender.external_id}" if event.sender else ""
        for _, endpoint, event, _ in events
    )


def _may_be_floods(tx: Transaction, resolver: Resolver, backlog: Sequence[Placed]) -> bool:
    """Return whether a sample of the backlog is so much one sender's that all of it must be read."""
    chosen = random.sample(backlog, len(backlog) // SAMPLE_EVERY)
    sample = parse_requests(tx, resolver, Batch(), [request for _, request in chosen])
    return bool(find_floods([senders_of(events) for events in sample], FLOOD_REQUESTS // SAMPLE_EVERY))


def _surplus(
    tx: Transaction, resolver: Resolver, placed: Sequence[Placed], parsed: Sequence[Sequence[Routed]], *, is_full: bool
) -> dict[int, int]:
    """Return the lane of each request that is a flooding sender's surplus, by its place."""
    senders = [senders_of(events) for events in parsed]

    def others_wait() -> bool:
        workspace_ids = {request.workspace_id for _, request in placed}
        return is_full and any(_others_wait(tx, resolver, each, find_floods(senders)) for each in workspace_ids)

    return {place: lane_of(sender) for place, sender in find_surplus(senders, others_wait).items()}


def _others_wait(tx: Transaction, resolver: Resolver, workspace_id: int, floods: set[str]) -> bool:
    """Return whether the last in the workspace's line is, at least in part, from somebody else."""
    body = find_newest_body(tx, RESOLVE, workspace_id)
    if body is None:
        return False
    parsed = parse_requests(tx, resolver, Batch(), decode_requests(body))
    return any(not floods.issuperset(senders_of(events)) for events in parsed)


def _unread(
    batch: Batch, placed: Sequence[Placed], parsed: Sequence[list[Routed]], lanes: Mapping[int, int]
) -> list[list[Routed]]:
    """Put these requests into their lanes as if they had not been read; return the events of the rest."""
    by_lane: dict[int, list[Placed]] = {}
    for place, lane in lanes.items():
        request = placed[place][1]
        batch.tally[Outcome(request.workspace_id, request.channel_id, "resolved")] -= 1
        by_lane.setdefault(lane, []).append(placed[place])
    batch.requests -= len(lanes)
    batch.tally = +batch.tally
    for lane, some in by_lane.items():
        batch.put_back += pieces_of(lane, some)
    return [events for place, events in enumerate(parsed) if place not in lanes]
