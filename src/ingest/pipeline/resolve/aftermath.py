"""What happens to messages after they were sent, and what contacts say about being written to at all."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from ingest.domain.messages import clean_text, external_hash, message_content
from ingest.pipeline.resolve.batch import Batch, Item
from ingest.store.effects import (
    NewEffect,
    add_effects,
    add_watermarks,
    apply_effects,
    apply_watermarks,
)
from ingest.store.identities import set_consent
from ingest.store.messages import MessageKey
from ingest.store.unit_of_work import UnitOfWork


def apply_aftermath(uow: UnitOfWork, batch: Batch, stored: Collection[MessageKey]) -> set[int]:
    """Record the batch's effects, watermarks and consents, and bring effects and messages together.

    Returns the channels whose effects still wait for a message.
    """
    waiting = _add_effects(uow, batch)
    apply_effects(uow.tx, {*stored, *waiting})
    _add_watermarks(uow, batch, stored)
    _set_consent(uow, batch)
    for item in batch.items:
        if item.event.kind in {"identity_change", "started"}:
            batch.count(item, "ignored", item.event.kind)
    return {channel_id for channel_id, _ in waiting}


def _add_effects(uow: UnitOfWork, batch: Batch) -> set[MessageKey]:
    items: dict[tuple[int, str, str], Item] = {}
    new: list[NewEffect] = []
    for item in batch.items:
        event = item.event
        if event.kind not in {"status", "edit", "delete", "reaction"} or event.target_id is None:
            continue
        if event.kind in {"edit", "reaction"} and _is_blocked(batch, item):
            batch.count(item, "dropped", "blocked")
            continue
        effect = _effect(item, event.target_id)
        key = effect.channel_id, effect.target_hash, effect.effect_hash
        if key in items:
            batch.count(item, "duplicate")
            continue
        items[key] = item
        new.append(effect)
    added = add_effects(uow.tx, new)
    for key, item in items.items():
        batch.count(item, "stored" if key in added else "duplicate", item.event.kind if key in added else "")
    return {(channel_id, target) for channel_id, target, _ in added}


def _is_blocked(batch: Batch, item: Item) -> bool:
    return item.identity is not None and batch.contact_of(item).blocked_at is not None


def _effect(item: Item, target_id: str) -> NewEffect:
    event = item.event
    value = {
        "status": event.status or "sent",
        "edit": event.message.text if event.message else "",
        "reaction": event.emoji or "",
        "delete": "",
    }[event.kind]
    content = {"error": event.error} if event.error else message_content(event) if event.kind == "edit" else None
    sender = event.sender.external_id if event.sender else ""
    # Of a reaction it is part of what is said; of an edit it says whose words wait here, should they be erased.
    actor = sender if event.kind in {"reaction", "edit"} else ""
    reacts = sender if event.kind == "reaction" else ""
    # A status has no id of its own; everything else does, but some providers repeat it on the next edit.
    told = f"{event.kind}\n{value}\n{reacts}\n{int(item.sent_at.timestamp() * 1000) if event.sent_at else ''}"
    return NewEffect(
        item.workspace_id,
        item.channel_id,
        external_hash(target_id),
        external_hash(told),
        event.kind,
        clean_text(value),
        None if content is None else msgspec.json.encode(content).decode(),
        clean_text(actor),
        item.sent_at,
    )


def _add_watermarks(uow: UnitOfWork, batch: Batch, stored: Collection[MessageKey]) -> None:
    marks: list[tuple[int, int, str, str, datetime]] = []
    reached: set[tuple[int, str]] = set()
    for item in batch.items:
        event = item.event
        if event.kind == "status" and event.up_to is not None and event.sender is not None:
            status = "delivered" if event.status == "delivered" else "read"
            marks.append((item.workspace_id, item.channel_id, event.sender.external_id, status, event.up_to))
            reached.add(item.address)
            batch.count(item, "stored", "status")
        elif event.kind == "echo" and (item.channel_id, external_hash(event.external_id)) in stored:
            reached.add(item.address)
    add_watermarks(uow.tx, marks)
    apply_watermarks(uow.tx, sorted(reached))


def _set_consent(uow: UnitOfWork, batch: Batch) -> None:
    changes: dict[tuple[int, int], list[datetime | None]] = {}
    items: list[Item] = [item for item in batch.items if item.event.kind in {"opt_out", "opt_in"}]
    for item in items:
        batch.count(item, "stored", item.event.kind)
        if item.identity is not None:
            pair = changes.setdefault((item.workspace_id, item.identity.identity_id), [None, None])
            side = 0 if item.event.kind == "opt_out" else 1
            former = pair[side]
            pair[side] = item.sent_at if former is None or item.sent_at > former else former
    opted_out = set_consent(uow.tx, [(*key, out, back) for key, (out, back) in sorted(changes.items())])
    for contact_id, is_out in opted_out.items():
        if is_out:
            workspace_id = batch.contacts[contact_id].workspace_id
            batch.opted_out.setdefault(workspace_id, set()).add(contact_id)
