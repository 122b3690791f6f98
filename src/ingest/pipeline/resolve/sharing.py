"""Sharing a claim: what a backlog has beyond its room, and what one sender has too much of, is put back into other lanes.

What is put back becomes rows of its own, in the transaction that stores the rest: accepted = resolved + waiting stays
exact, and a worker that dies in between has changed nothing. What is stored does not depend on order, so anything may be
put back; it only says who waits. Lanes take turns (see `store.jobs`): lane 0 is for what has just come, lane -1 for a
workspace's backlog, the others for floods of single senders. What is in a lane apart is not looked at again.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from ingest.store.intake import RawRequest, encode_requests
from ingest.store.lanes import Piece

# More requests than that of one sender, in one claim, are a flood.
FLOOD_REQUESTS = 50
# So many requests a row of what is put back: the smallest helping of a later claim.
PIECE_REQUESTS = 10
# One request in so many of a backlog is read to see whether it is one sender's.
SAMPLE_EVERY = 10
BACKLOG_LANE = -1
# Floods of one workspace share so many lanes: nobody gets more turns by sending under more names.
FLOOD_LANES = 16

Placed = tuple[int, RawRequest]
"""The id of the row that a request came in, and the request."""


def pieces_of(lane: int, placed: Sequence[Placed]) -> list[Piece]:
    """Return the requests as rows-to-be of the lane, those of one row together."""
    by_origin: dict[int, list[RawRequest]] = {}
    for origin_id, request in placed:
        by_origin.setdefault(origin_id, []).append(request)
    return [
        Piece(origin_id, lane, encode_requests(some), len(some))
        for origin_id, requests in by_origin.items()
        for start in range(0, len(requests), PIECE_REQUESTS)
        if (some := requests[start : start + PIECE_REQUESTS])
    ]


def find_floods(senders: Sequence[Collection[str]], most: int = FLOOD_REQUESTS) -> set[str]:
    """Return the senders with more than `most` requests. `senders` are those of each request, "" for nobody."""
    counts = Counter(sender for each in senders for sender in each)
    return {sender for sender, count in counts.items() if count > most and sender}


def find_surplus(senders: Sequence[Collection[str]], others_wait: Callable[[], bool] = lambda: True) -> dict[int, str]:
    """Return which requests are put apart, by their place, and whose each is.

    Of a flood all but the first few, as long as somebody else is in the same claim or waits behind it. A request of several
    senders never is.
    """
    floods = find_floods(senders)
    if not floods or not (any(not floods.issuperset(each) for each in senders) or others_wait()):
        return {}
    kept: Counter[str] = Counter()
    surplus: dict[int, str] = {}
    for place, each in enumerate(senders):
        if len(each) == 1 and floods.issuperset(each):
            (sender,) = each
            kept[sender] += 1
            if kept[sender] > PIECE_REQUESTS:
                surplus[place] = sender
    return surplus


def lane_of(sender: str) -> int:
    """Return the lane of a sender's flood, always the same one."""
    return 1 + zlib.crc32(sender.encode()) % FLOOD_LANES
