"""Step `detect`: compare contacts by their keys; open, change and close merge suggestions.

All contacts of a claim are reviewed as one set, with the same few statements for one as for a thousand. One transaction
at a time reviews a workspace: it sees every commit that came before, so of two transactions that each made one contact
of a pair, the detection of the later one finds both. Storing messages never waits for it.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ingest.domain.suggestions import CountedKey, Scene, Suggestion, pairs_to_review, review
from ingest.jobs.types import DetectDuplicates
from ingest.store import contact_keys as keys
from ingest.store import suggestions
from ingest.store.contact_keys import Contact, WorkspaceKey
from ingest.store.planning import prefer_lookups
from ingest.store.suggestions import OpenedSuggestion, WorkspacePair
from ingest.store.unit_of_work import UnitOfWork

MAX_CONTACTS = 1000
MAX_STALE_KEYS = 200


@dataclass(slots=True)
class Detected:
    """What a detection did. `opened` is the one place that tells of suggestions that became open, first or again.

    `counts` are numbers for a log line: contact_count, shared_key_count, and of written suggestions opened_count,
    changed_count (open before and after), dismissed_count, closed_count, merged_count.
    """

    opened: list[OpenedSuggestion] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def detect_duplicates(uow: UnitOfWork, jobs: Sequence[DetectDuplicates]) -> Detected:
    """Review the suggestions of the jobs' contacts and return what became of them. Safe to run twice."""
    workspace_ids = {job.workspace_id for job in jobs}
    contacts = sorted({(job.workspace_id, contact_id) for job in jobs for contact_id in job.contact_ids})
    done = Detected()
    prefer_lookups(uow.tx)
    keys.lock_detection(uow.tx, workspace_ids)
    stale = _take_stale_keys(uow, workspace_ids)
    for batch in _batches(contacts) or [[]]:
        _review(uow, batch, stale, done)
        stale = set()
    return done


def sweep_duplicates(
    uow: UnitOfWork, workspace_id: int, after_contact_id: int, limit: int = MAX_CONTACTS
) -> int | None:
    """Review the next contacts of a workspace, whether anything has happened to them or not.

    Returns the id to go on after, None when all are done; start with 0. It repairs what a lost job has left behind.
    """
    prefer_lookups(uow.tx)
    keys.lock_detection(uow.tx, {workspace_id})
    if after_contact_id == 0:
        keys.mark_abandoned_keys(uow.tx, workspace_id)
    stale = _take_stale_keys(uow, {workspace_id})
    ids = keys.list_contact_ids(uow.tx, workspace_id, after_contact_id, limit)
    _review(uow, [(workspace_id, each) for each in ids], stale, Detected())
    return ids[-1] if len(ids) == limit else None


def _batches(contacts: Sequence[Contact]) -> list[Sequence[Contact]]:
    return [contacts[start : start + MAX_CONTACTS] for start in range(0, len(contacts), MAX_CONTACTS)]


def _take_stale_keys(uow: UnitOfWork, workspace_ids: Collection[int]) -> set[WorkspaceKey]:
    stale = keys.take_stale_keys(uow.tx, workspace_ids, MAX_STALE_KEYS)
    if len(stale) == MAX_STALE_KEYS:
        uow.add_jobs([DetectDuplicates(workspace_id) for workspace_id in sorted(workspace_ids)])
    return stale


def _review(uow: UnitOfWork, contacts: Sequence[Contact], stale: Collection[WorkspaceKey], done: Detected) -> None:
    """Review all pairs that these contacts and keys are part of, and write what changes."""
    counted = keys.count_keys(uow.tx, contacts, stale)
    links = suggestions.list_links(uow.tx, contacts)
    pairs = _pairs(contacts, counted, links)
    risen = [
        (workspace_id, key.match_key)
        for workspace_id, found in counted.items()
        for key in found
        if key.is_shared and not key.was_shared
    ]
    before = suggestions.lock_suggestions(uow.tx, contacts, pairs, risen)
    scenes = _set_scenes(uow, contacts, {*pairs, *before}, counted, links)
    changes = [
        (workspace_id, each)
        for workspace_id, scene in scenes.items()
        for each in review(_of(workspace_id, pairs), _rows_of(workspace_id, before), scene)
    ]
    opened = suggestions.save_suggestions(uow.tx, changes, before, uow.now)
    keys.mark_shared_keys(uow.tx, [(place, key) for place, found in counted.items() for key in found], uow.now)
    _count(done, contacts, counted, changes, opened)


def _pairs(
    contacts: Iterable[Contact], counted: Mapping[int, Iterable[CountedKey]], links: Iterable[WorkspacePair]
) -> set[WorkspacePair]:
    own: defaultdict[int, set[int]] = defaultdict(set)
    for workspace_id, contact_id in contacts:
        own[workspace_id].add(contact_id)
    return set(links) | {
        (workspace_id, pair)
        for workspace_id, found in counted.items()
        for pair in pairs_to_review(own[workspace_id], found)
    }


def _set_scenes(
    uow: UnitOfWork,
    contacts: Collection[Contact],
    pairs: Collection[WorkspacePair],
    counted: Mapping[int, Iterable[CountedKey]],
    links: Mapping[WorkspacePair, frozenset[str]],
) -> dict[int, Scene]:
    """Return what there is to know of the pairs' parties, by workspace."""
    wanted = {(workspace_id, contact_id) for workspace_id, pair in pairs for contact_id in pair}
    parties, shared = keys.list_parties(uow.tx, wanted)
    # Pairs without any of the contacts come from keys that are shared from now on, or no longer.
    further = suggestions.list_links(uow.tx, wanted.difference(contacts)) if _has_strangers(contacts, pairs) else {}
    scenes = {workspace_id: Scene() for workspace_id, _ in pairs}
    for (workspace_id, contact_id), party in parties.items():
        scenes[workspace_id].parties[contact_id] = party
    for (workspace_id, pair), found in {**further, **links}.items():
        if workspace_id in scenes:
            scenes[workspace_id].links[pair] = found
    for workspace_id, scene in scenes.items():
        now_counted = {key.match_key: key.is_shared for key in counted.get(workspace_id, ())}
        known = {key for place, key in shared if place == workspace_id and key not in now_counted}
        scene.shared_keys = known | {key for key, is_shared in now_counted.items() if is_shared}
    return scenes


def _has_strangers(contacts: Collection[Contact], pairs: Iterable[WorkspacePair]) -> bool:
    own = set(contacts)
    return any((place, low) not in own and (place, high) not in own for place, (low, high) in pairs)


def _of(workspace_id: int, pairs: Iterable[WorkspacePair]) -> list[tuple[int, int]]:
    return [pair for place, pair in pairs if place == workspace_id]


def _rows_of(workspace_id: int, rows: Mapping[WorkspacePair, Suggestion]) -> dict[tuple[int, int], Suggestion]:
    return {pair: row for (place, pair), row in rows.items() if place == workspace_id}


def _count(
    done: Detected,
    contacts: Sequence[Contact],
    counted: Mapping[int, Iterable[CountedKey]],
    changes: Iterable[tuple[int, Suggestion]],
    opened: Sequence[OpenedSuggestion],
) -> None:
    done.opened.extend(opened)
    words = Counter(f"{'changed' if each.state == 'open' else each.state}_count" for _, each in changes)
    done.counts.update(words)
    done.counts["changed_count"] -= len(opened)
    done.counts["opened_count"] += len(opened)
    done.counts["contact_count"] += len(contacts)
    done.counts["shared_key_count"] += sum(key.is_shared for found in counted.values() for key in found)
