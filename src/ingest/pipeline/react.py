"""Step `react`: start, advance and stop workflow runs, many at a time, under their contacts' locks.

A claim's jobs are taken together, so that the number of statements grows with the kinds of jobs in it, not with the runs.

A run is looked at again under the lock before anything is done for it: it is active, its contact is live and not blocked,
and the wait it was called for is the one it is in. So a timer or an answer that comes late finds nothing to do.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from ingest.domain.actors import Actor
from ingest.domain.workflow_runs import Answer, Facts, Run, Wishes, start, take_answer, wake
from ingest.domain.workflows import SILENT_SOURCES, Definition, Trigger
from ingest.jobs.act_types import ReactToFields, ReactToTags, StartRuns, WakeRun
from ingest.jobs.types import JobType, ReactToConversations, ReactToMessages, StopRuns
from ingest.pipeline.react_effects import do_wishes
from ingest.store import workflow_runs as rows
from ingest.store.contacts import lock_contacts
from ingest.store.runs import RunEnd, Timer, WaitKey, end_runs, set_timers, void_timers
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.workflow_events import tell_runs
from ingest.store.workflows import Published, get_definitions, list_published

log = structlog.get_logger()

Job = TypeVar("Job", bound=JobType)
MAX_DEPTH = 5
Pair = tuple[Published, int]
"""A workflow to be started for a contact."""


@dataclass(slots=True)
class Scene:
    """What is needed to take runs of one workspace further, and what became of them."""

    uow: UnitOfWork
    workspace_id: int
    usable: frozenset[int]
    """The contacts that runs may be taken further for: locked, live and not blocked."""
    facts: dict[int, Facts] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)
    runs: dict[int, Run] = field(default_factory=dict)
    definitions: dict[tuple[int, int], Definition] = field(default_factory=dict)
    waits: dict[int, WaitKey] = field(default_factory=dict)
    """What each run waited for when it came in, if anything."""
    woken: set[WaitKey] = field(default_factory=set)
    """Waits whose timer is the job in hand: it goes with its claim."""
    started: set[int] = field(default_factory=set)

    def enter(self, runs: Iterable[Run]) -> None:
        """Bring the runs in, all at once, with their definitions and what they may know of their contacts."""
        new = list(runs)
        self.runs = {run.id: run for run in new}
        self.waits = {run.id: WaitKey(run.id, run.wait_number) for run in new if run.waits_for is not None}
        missing = {(run.workflow_id, run.version) for run in new} - self.definitions.keys()
        if missing:
            self.definitions |= get_definitions(self.uow.tx, self.workspace_id, missing)
        if new:
            contact_ids = {run.contact_id for run in new}
            reads_tags = any(definition.reads_tags for definition in self.definitions.values())
            self.facts = rows.get_facts(self.uow.tx, self.workspace_id, contact_ids, with_tags=reads_tags)

    def definition_of(self, run: Run) -> Definition:
        """Return the definition that the run keeps to."""
        return self.definitions[run.workflow_id, run.version]

    def finish(self) -> None:
        """Do what the steps wanted, write the runs back, and set the timers of those that wait."""
        tx, now = self.uow.tx, self.uow.now
        do_wishes(self.uow, self.workspace_id, self.wishes)
        runs = list(self.runs.values())
        rows.save_runs(tx, self.workspace_id, runs, now)
        moved = [run for run in runs if self.waits.get(run.id) != WaitKey(run.id, run.wait_number)]
        over = {self.waits[run.id] for run in moved if run.id in self.waits}
        void_timers(tx, self.workspace_id, over - self.woken)
        set_timers(
            tx,
            self.workspace_id,
            [Timer(run.id, run.contact_id, run.wait_number, run.wake_at) for run in moved if run.wake_at is not None],
        )
        tell_runs(tx, self.workspace_id, [run for run in runs if run.id in self.started], runs, now)


def _set_scene(uow: UnitOfWork, workspace_id: int, contact_ids: Collection[int]) -> Scene:
    """Lock the contacts and return a scene with those that runs may be taken further for."""
    found = lock_contacts(uow.tx, [(workspace_id, contact_id) for contact_id in set(contact_ids)])
    usable = frozenset(each.id for each in found.values() if each.is_live and each.blocked_at is None)
    return Scene(uow, workspace_id, usable)


def _by_workspace(jobs: Sequence[Job]) -> dict[int, list[Job]]:
    groups: defaultdict[int, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[job.workspace_id].append(job)
    return dict(sorted(groups.items()))


def react_to_messages(uow: UnitOfWork, jobs: Sequence[ReactToMessages]) -> int:
    """Let waiting runs take the contacts' messages as answers, in order; return how many messages were taken.

    A message answers the newest question only; older ones go on waiting for the next.
    """
    taken = 0
    for workspace_id, group in _by_workspace(jobs).items():
        asked = {each for job in group for each in job.contact_ids}
        waiting = rows.contacts_with_waiting_runs(uow.tx, workspace_id, asked)
        if waiting:
            taken += _take_answers(_set_scene(uow, workspace_id, waiting))
    return taken


def _take_answers(scene: Scene) -> int:
    scene.enter(rows.list_waiting_runs(scene.uow.tx, scene.workspace_id, scene.usable))
    if not scene.runs:
        return 0
    after = {run.id: run.asked_after_message_id or 0 for run in scene.runs.values()}
    answers = rows.list_answers(scene.uow.tx, scene.workspace_id, scene.facts, min(after.values()))
    open_runs: defaultdict[int, list[Run]] = defaultdict(list)
    for run in scene.runs.values():
        open_runs[run.contact_id].append(run)
    taken = sum(_take(scene, answer, open_runs[answer.contact_id], after) for answer in answers)
    scene.finish()
    return taken


def _take(scene: Scene, answer: Answer, runs: list[Run], after: dict[int, int]) -> bool:
    """Give the answer to the newest of the runs that wait for one; the others have passed it over."""
    may = [run for run in runs if after[run.id] < answer.message_id]
    if not may:
        return False
    newest = max(may, key=lambda run: (run.asked_after_message_id or 0, run.id))
    take_answer(
        newest,
        scene.definition_of(newest),
        answer,
        scene.facts[answer.contact_id],
        scene.wishes,
        now=scene.uow.now,
    )
    if newest.waits_for != "answer" or newest.tries == 0:
        # What was written before a question is no answer to it.
        runs.remove(newest)
    for run in runs:
        if run in may:
            run.asked_after_message_id = max(run.asked_after_message_id or 0, answer.message_id)
    return True


def wake_runs(uow: UnitOfWork, jobs: Sequence[WakeRun]) -> int:
    """Take runs further whose time has come; return how many. A run that has moved on since is left alone."""
    woken = 0
    for workspace_id, group in _by_workspace(jobs).items():
        waits = {WaitKey(job.run_id, job.wait_number) for job in group}
        scene = _set_scene(uow, workspace_id, {job.contact_id for job in group})
        due = [
            run
            for run in rows.get_runs(uow.tx, workspace_id, {job.run_id for job in group})
            if run.waits_for is not None
            and WaitKey(run.id, run.wait_number) in waits
            and run.contact_id in scene.usable
        ]
        scene.woken = waits
        scene.enter(due)
        for run in due:
            wake(run, scene.definition_of(run), scene.facts[run.contact_id], scene.wishes, uow.now)
        if due:
            scene.finish()
        woken += len(due)
    return woken


def react_to_conversations(uow: UnitOfWork, jobs: Sequence[ReactToConversations]) -> int:
    """Start the workflows that wait for conversations being opened or closed; return how many runs started."""
    started = 0
    heard = [job for job in jobs if job.source not in SILENT_SOURCES]
    for job, parts in _together(heard, lambda job: (job.workspace_id, job.trigger, job.source, job.depth)):
        ids = [each for part in parts for each in part.conversation_ids]
        owners = rows.list_conversation_owners(uow.tx, job.workspace_id, set(ids))
        contact_ids = [owners[each] for each in ids if each in owners]
        if job.trigger == "conversation_closed":
            scene = _set_scene(uow, job.workspace_id, contact_ids)
            leaving = rows.list_exiting_runs(uow.tx, job.workspace_id, scene.usable, job.trigger)
            end_runs(uow.tx, job.workspace_id, leaving, RunEnd("exit_condition", uow.now))
        cause = Cause(job.workspace_id, job.trigger, job.depth)
        started += _start_all(uow, cause, contact_ids, partial(_lets_in, job.source))
    return started


def _together(jobs: Sequence[Job], alike: Callable[[Job], Hashable]) -> Iterator[tuple[Job, list[Job]]]:
    """Give the jobs that are alike together, with the first of them to tell what they have in common."""
    groups: dict[Hashable, list[Job]] = {}
    for job in jobs:
        groups.setdefault(alike(job), []).append(job)
    for group in groups.values():
        yield group[0], group


def _lets_in(source: str, trigger: Trigger) -> bool:
    # Workflows that set each other off would never end: what a workflow does counts only where it is asked for.
    return source in trigger.sources if trigger.sources else source != "workflow"


def react_to_tags(uow: UnitOfWork, jobs: Sequence[ReactToTags]) -> int:
    """Start the workflows that wait for tags; return how many runs started."""
    started = 0
    for job, parts in _together(jobs, lambda job: (job.workspace_id, job.tag_id, job.action, job.depth)):
        name = rows.get_tag_names(uow.tx, job.workspace_id, [job.tag_id]).get(job.tag_id, "")
        contact_ids = [each for part in parts for each in part.contact_ids]
        cause = Cause(job.workspace_id, "tag_updated", job.depth)
        started += _start_all(uow, cause, contact_ids, partial(_waits_for_tag, name, job.action))
    return started


def _waits_for_tag(name: str, action: str, trigger: Trigger) -> bool:
    return trigger.action in {None, action} and (not trigger.tags or name in trigger.tags)


def react_to_fields(uow: UnitOfWork, jobs: Sequence[ReactToFields]) -> int:
    """Start the workflows that wait for changed fields; return how many runs started."""
    started = 0
    for job, parts in _together(jobs, lambda job: (job.workspace_id, job.fields, job.depth)):
        contact_ids = [each for part in parts for each in part.contact_ids]
        cause = Cause(job.workspace_id, "field_updated", job.depth)
        started += _start_all(uow, cause, contact_ids, partial(_waits_for_fields, frozenset(job.fields)))
    return started


def _waits_for_fields(changed: frozenset[str], trigger: Trigger) -> bool:
    return not trigger.fields or bool(trigger.fields & changed)


def start_workflow(uow: UnitOfWork, job: StartRuns) -> int:
    """Start a published workflow by hand for the contacts; return how many runs started."""
    published = [
        each
        for each in list_published(uow.tx, job.workspace_id, "manual", job.workflow_id)
        if each.id == job.workflow_id
    ]
    scene = _set_scene(uow, job.workspace_id, job.contact_ids)
    pairs = [(each, contact_id) for each in published for contact_id in sorted(scene.usable)]
    return _start(scene, pairs, depth=0, actor_id=job.actor_id or None)


@dataclass(frozen=True, slots=True)
class Cause:
    """What workflows start for: an event of a kind, and how many workflows in a row have led to it."""

    workspace_id: int
    kind: str
    depth: int


def _start_all(uow: UnitOfWork, cause: Cause, contact_ids: Sequence[int], wanted: Callable[[Trigger], bool]) -> int:
    if cause.depth > MAX_DEPTH:
        log.info("chain.ended", cause=cause.kind, count=len(contact_ids))
        return 0
    published = list_published(uow.tx, cause.workspace_id, cause.kind)
    wanted_by = [each for each in published if wanted(each.definition.trigger)]
    return sum(_start_for(uow, cause, wanted_by, each) for each in _rounds(contact_ids)) if wanted_by else 0


def _rounds(contact_ids: Sequence[int]) -> list[set[int]]:
    """Return sets that hold each contact as often as it is there: what happened to it twice starts a workflow twice."""
    counts = Counter(contact_ids)
    return [{each for each, count in counts.items() if count > turn} for turn in range(max(counts.values(), default=0))]


def _start_for(uow: UnitOfWork, cause: Cause, published: Sequence[Published], contact_ids: Collection[int]) -> int:
    scene = _set_scene(uow, cause.workspace_id, contact_ids)
    pairs = [(each, contact_id) for contact_id in sorted(scene.usable) for each in published]
    return _start(scene, pairs, depth=cause.depth)


def _start(scene: Scene, pairs: Sequence[Pair], *, depth: int, actor_id: int | None = None) -> int:
    once = [(each.id, contact_id) for each, contact_id in pairs if each.definition.once_per_contact]
    enrolled = rows.find_enrolled(scene.uow.tx, scene.workspace_id, once) if once else set()
    once_ids = {each.id for each, _ in pairs if each.definition.once_per_contact}
    new = [
        (each.id, each.version, contact_id)
        for each, contact_id in pairs
        if each.id not in once_ids or (each.id, contact_id) not in enrolled
    ]
    runs = rows.start_runs(scene.uow.tx, scene.workspace_id, new, actor_id=actor_id, depth=depth, now=scene.uow.now)
    scene.definitions |= {(each.id, each.version): each.definition for each, _ in pairs}
    scene.enter(runs)
    scene.started |= {run.id for run in runs}
    for run in runs:
        start(run, scene.definition_of(run), scene.facts[run.contact_id], scene.wishes, scene.uow.now)
    if runs:
        scene.finish()
    return len(runs)


def stop_opted_out(uow: UnitOfWork, jobs: Sequence[StopRuns]) -> int:
    """End the runs that wait for an answer on a channel that their contact wants nothing from; return how many."""
    ended = 0
    for job in jobs:
        scene = _set_scene(uow, job.workspace_id, job.contact_ids)
        run_ids = rows.list_opted_out_runs(uow.tx, job.workspace_id, scene.usable)
        ended += end_runs(uow.tx, job.workspace_id, run_ids, RunEnd(job.reason, uow.now, Actor("contact")))
    return ended
