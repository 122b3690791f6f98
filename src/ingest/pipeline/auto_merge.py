"""Step `merge`, without a person: pairs that a rule of the workspace calls the same. Off until somebody switches it on.

Every merge it makes is an ordinary one, in the history under its rule and to be taken apart again.
"""

from collections.abc import Sequence
from datetime import timedelta

from ingest.domain.actors import Actor
from ingest.domain.refusals import Conflict, Invalid, NotFound, Refused
from ingest.jobs.act_types import AutoMerge
from ingest.pipeline.merge import MergeRequest, merge_contacts
from ingest.store import auto_merges as rows
from ingest.store.auto_merges import Candidate
from ingest.store.contacts import lock_contacts
from ingest.store.unit_of_work import UnitOfWork

KEY_KINDS = ("phone", "email")
AGREEING_FIELDS = ("first_name", "last_name", "display_name", "phone", "email", "country_code", "language")
BATCH = 50
PREVIEW_LIMIT = 1000
DEFAULT_CAP = 100
MAX_CAP = 10_000


def create_rule(
    uow: UnitOfWork,
    workspace_id: int,
    name: str,
    *,
    key_kind: str,
    agreeing_fields: Sequence[str],
    hourly_cap: int = DEFAULT_CAP,
) -> int:
    """Keep a rule, switched off, and return its id. Raises Invalid, or Conflict for a name that is taken."""
    if not 1 <= len(name.strip()) <= 120:
        raise Invalid("a name has 1 to 120 characters", field="name")
    if key_kind not in KEY_KINDS:
        raise Invalid(f"one of {', '.join(KEY_KINDS)}", field="keyKind")
    if not agreeing_fields or set(agreeing_fields) - set(AGREEING_FIELDS):
        raise Invalid(f"one or more of {', '.join(AGREEING_FIELDS)}", field="agreeingFields")
    if not 1 <= hourly_cap <= MAX_CAP:
        raise Invalid(f"from 1 to {MAX_CAP}", field="hourlyCap")
    rule_id = rows.add_rule(
        uow.tx,
        workspace_id,
        name.strip(),
        key_kind=key_kind,
        agreeing_fields=sorted(set(agreeing_fields)),
        hourly_cap=hourly_cap,
        now=uow.now,
    )
    if rule_id is None:
        raise Conflict("there is a rule of that name", word="name_taken", field="name")
    return rule_id


def preview_rule(uow: UnitOfWork, workspace_id: int, rule_id: int) -> list[Candidate]:
    """Return the pairs that the rule would merge now, at most 1,000, without merging any. Raises NotFound."""
    rule = rows.find_rule(uow.tx, workspace_id, rule_id)
    if rule is None:
        raise NotFound("no such rule")
    return rows.list_candidates(uow.tx, rule, PREVIEW_LIMIT)


def add_auto_merges(uow: UnitOfWork) -> int:
    """Have the rules of every workspace that has some looked after; return how many workspaces."""
    workspace_ids = rows.list_workspaces_with_rules(uow.tx)
    for workspace_id in workspace_ids:
        uow.add_job(AutoMerge(workspace_id), key="auto_merge")
    return len(workspace_ids)


def auto_merge(uow: UnitOfWork, job: AutoMerge) -> int:
    """Merge what the workspace's rules say, within their caps, at most 50 pairs; return how many."""
    merged = 0
    for rule in rows.list_rules(uow.tx, job.workspace_id):
        if not rule.is_enabled or merged >= BATCH:
            continue
        left = rule.hourly_cap - rows.count_merged(uow.tx, rule, uow.now - timedelta(hours=1))
        candidates = rows.list_candidates(uow.tx, rule, max(0, min(left, BATCH - merged)))
        lock_contacts(
            uow.tx, [(job.workspace_id, each) for pair in candidates for each in (pair.kept_id, pair.absorbed_id)]
        )
        merged += sum(_merge(uow, job.workspace_id, rule.id, pair) for pair in candidates)
    return merged


def _merge(uow: UnitOfWork, workspace_id: int, rule_id: int, pair: Candidate) -> bool:
    request = MergeRequest(
        workspace_id,
        pair.kept_id,
        pair.absorbed_id,
        actor=Actor("rule"),
        needs_shared_key=True,
        suggestion_id=pair.suggestion_id,
        rule_id=rule_id,
    )
    try:
        return not merge_contacts(uow, request).is_repeat
    except Refused:
        # Another pair of this batch has taken one of the two: its suggestions have moved on.
        return False
