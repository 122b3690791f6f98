"""Step `transfer`, bulk changes: tag, assign or close many contacts in batches of 500, with what became of each.

Each contact is changed as it would be alone, workflows included: it is the same act, only many times.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import msgspec

from ingest.domain.access import Principal
from ingest.domain.imports import RowOutcome
from ingest.domain.refusals import Invalid
from ingest.jobs.transfer_types import BulkBatch
from ingest.pipeline.contacts import Editor, assign_contacts
from ingest.pipeline.contacts_conversations import close_conversations
from ingest.pipeline.contacts_tags import tag_contacts, untag_contacts
from ingest.store import transfers
from ingest.store.contacts import lock_contacts
from ingest.store.conversation_edits import Closing
from ingest.store.transfers import PartKey
from ingest.store.unit_of_work import UnitOfWork

BATCH_CONTACTS = 500
MAX_CONTACTS = 1_000_000
KEPT_DAYS = 30
BULK = "bulk"

BulkAction = Literal["tag", "untag", "assign", "close"]


def accept_bulk(
    uow: UnitOfWork, principal: Principal, action: BulkAction, ids: Sequence[int], params: Mapping[str, Any]
) -> int:
    """Freeze the set of contacts, add the first batch's job, and return the transfer's id. Raises Invalid for nobody."""
    frozen = list(dict.fromkeys(ids))
    if not 1 <= len(frozen) <= MAX_CONTACTS:
        raise Invalid(f"1 to {MAX_CONTACTS:,} contacts", field="contactIds")
    transfer_id = transfers.add_transfer(
        uow.tx,
        principal.workspace_id,
        BULK,
        {"action": action, "params": dict(params)},
        source=principal.source,
        user_id=principal.user_id,
        token_id=principal.token_id,
        now=uow.now,
        expires_at=uow.now + timedelta(days=KEPT_DAYS),
    )
    for position, start in enumerate(range(0, len(frozen), BATCH_CONTACTS)):
        batch = frozen[start : start + BATCH_CONTACTS]
        key = PartKey(principal.workspace_id, transfer_id, position)
        transfers.add_part(uow.tx, key, len(batch), msgspec.json.encode(batch))
    transfers.set_total(uow.tx, principal.workspace_id, transfer_id, len(frozen))
    uow.add_job(BulkBatch(principal.workspace_id, transfer_id))
    return transfer_id


def bulk_batch(uow: UnitOfWork, job: BulkBatch) -> Counter[str]:
    """Change one batch of contacts and add the next one's job; return how many ended how. Safe to run twice."""
    transfer = transfers.lock_transfer(uow.tx, job.workspace_id, job.transfer_id)
    key = PartKey(job.workspace_id, job.transfer_id, job.position)
    content = transfers.find_part(uow.tx, key) if transfer is not None else None
    if transfer is None or content is None:
        return Counter()
    ids: list[int] = msgspec.json.decode(content)
    editor = Editor(job.workspace_id, transfer.source, transfer.user_id)
    outcomes = _change(uow, editor, ids, transfer.options, job.position * BATCH_CONTACTS + 1)
    transfers.finish_part(uow.tx, key, [each.as_json() for each in outcomes], uow.now)
    counts = Counter(each.outcome for each in outcomes)
    is_over = transfer.done_count + len(ids) >= transfer.total_count
    transfers.mark_progress(
        uow.tx, transfer, job.workspace_id, done=len(ids), counts=counts, is_over=is_over, now=uow.now
    )
    if not is_over:
        uow.add_job(BulkBatch(job.workspace_id, job.transfer_id, job.position + 1))
    return counts


def _change(
    uow: UnitOfWork, editor: Editor, ids: Sequence[int], options: Mapping[str, Any], first: int
) -> list[RowOutcome]:
    found = lock_contacts(uow.tx, [(editor.workspace_id, each) for each in ids])
    live = [each for each in ids if each in found and found[each].is_live]
    blocked = {each for each in live if found[each].blocked_at is not None and options["action"] == "close"}
    changed = _act(uow, editor, [each for each in live if each not in blocked], options["action"], options["params"])
    outcomes = []
    for number, contact_id in enumerate(ids, first):
        if contact_id in blocked:
            outcomes.append(RowOutcome(number, "failed", contact_id, "contactIds", "the contact is blocked"))
        elif contact_id not in found or not found[contact_id].is_live:
            outcomes.append(RowOutcome(number, "failed", contact_id, "contactIds", "no such contact any more"))
        else:
            outcomes.append(RowOutcome(number, "updated" if contact_id in changed else "unchanged", contact_id))
    return outcomes


def _act(uow: UnitOfWork, editor: Editor, ids: Sequence[int], action: str, params: Mapping[str, Any]) -> set[int]:
    if not ids:
        return set()
    if action == "tag":
        return tag_contacts(uow, editor, ids, params["tags"])
    if action == "untag":
        return untag_contacts(uow, editor, ids, params["tags"])
    if action == "assign":
        return set(assign_contacts(uow, editor, ids, params["assignee"]))
    closing = Closing(editor.source, editor.user_id, params.get("category"), params.get("summary"))
    return close_conversations(uow, editor, ids, closing)
