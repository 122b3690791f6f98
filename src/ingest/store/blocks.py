"""Block and unblock in the database, for a set of contacts at a time. The caller holds the contacts' locks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from ingest.domain.actors import Actor
from ingest.domain.blocks import BlockTerms


@dataclass(frozen=True, slots=True)
class NewBulkAct:
    """A bulk act to be added. `params` is JSON text: the terms of a block."""

    workspace_id: int
    kind: str
    contact_ids: tuple[int, ...]
    params: str
    actor: Actor


CLOSE_CONVERSATIONS = text("""
    with closed as (
        update conversation
        set status = 'closed', closed_at = :now, closed_source = 'block', closed_by = cast(:actor_id as bigint)
        where workspace_id = :workspace_id and contact_id = any(:ids) and status <> 'closed'
        returning id, contact_id
    )
    insert into contact_event (workspace_id, contact_id, origin_contact_id, conversation_id, kind, source, actor_id, at)
    select :workspace_id, contact_id, contact_id, id, 'conversation.closed', 'block', cast(:actor_id as bigint), :now
    from closed order by contact_id
""")

BLOCK = text("""
    update contact
    set blocked_at = :now, blocked_until = cast(:until as timestamptz), block_reason = cast(:reason as text),
        status = 'closed', snoozed_until = null, updated_at = :now
    where workspace_id = :workspace_id and id = any(:ids)
""")

EXTEND = text("""
    update contact
    set blocked_until = cast(:until as timestamptz), block_reason = coalesce(cast(:reason as text), block_reason)
    where workspace_id = :workspace_id and id = any(:ids)
      and (blocked_until is distinct from cast(:until as timestamptz)
           or block_reason is distinct from coalesce(cast(:reason as text), block_reason))
    returning id
""")

UNBLOCK = text("""
    update contact
    set blocked_at = null, blocked_until = null, block_reason = null, status = 'closed', updated_at = :now
    where workspace_id = :workspace_id and id = any(:ids)
""")

ADD_EVENTS = text("""
    insert into contact_event (workspace_id, contact_id, origin_contact_id, kind, source, actor_id, data, at)
    select :workspace_id, id, id, :kind, :source, cast(:actor_id as bigint), cast(:data as jsonb), :now
    from unnest(cast(:ids as bigint[])) as contact (id) order by id
""")

# In the order of their ids, as everybody locks them: two acts on parties of the same pairs wait in one direction only.
CLOSE_SUGGESTIONS = text("""
    with theirs as materialized (
        select id from merge_suggestion
        where workspace_id = :workspace_id and state = 'open'
          and (low_contact_id = any(cast(:ids as bigint[])) or high_contact_id = any(cast(:ids as bigint[])))
        order by id for no key update
    )
    update merge_suggestion set state = 'closed', reason = :reason, changed_at = :now
    from theirs where merge_suggestion.workspace_id = :workspace_id and merge_suggestion.id = theirs.id
""")

IS_BLOCK_OVER = text("""
    select id from contact
    where workspace_id = :workspace_id and id = :contact_id and blocked_at is not null and blocked_until <= :now
""")

# Keys of blocked contacts among those asked for. A contact that was blocked keeps its keys.
BLOCKED_KEYS = text("""
    select distinct contact_key.workspace_id, contact_key.match_key
    from unnest(cast(:workspace_ids as bigint[]), cast(:match_keys as text[])) as wanted (workspace_id, match_key)
    join workspace on workspace.id = wanted.workspace_id and (workspace.settings ->> 'block_by_key')::boolean
    join contact_key on contact_key.workspace_id = wanted.workspace_id and contact_key.match_key = wanted.match_key
    join contact on contact.workspace_id = contact_key.workspace_id and contact.id = contact_key.contact_id
    where contact.blocked_at is not null and contact.deletion_job_id is null
""")

# Contacts that came after the block of another contact with the same key: what block_by_key would have dropped.
COUNT_EVASIONS = text("""
    select count(distinct other.id)
    from contact as blocked
    join contact_key as theirs on theirs.workspace_id = blocked.workspace_id and theirs.contact_id = blocked.id
    join contact_key as same on same.workspace_id = theirs.workspace_id and same.match_key = theirs.match_key
    join contact as other on other.workspace_id = same.workspace_id and other.id = same.contact_id
    where blocked.workspace_id = :workspace_id and blocked.blocked_at is not null
      and other.blocked_at is null and other.merged_into is null and other.deletion_job_id is null
      and other.created_at > blocked.blocked_at
""")

ADD_BULK_ACT = text("""
    insert into bulk_act (workspace_id, kind, params, contact_ids, actor_id, created_at)
    values (:workspace_id, :kind, cast(:params as jsonb), :contact_ids, cast(:actor_id as bigint), :now)
    returning id
""")

NEXT_OF_BULK_ACT = text("""
    select id, kind, params, actor_id, next_position, cardinality(contact_ids) as total,
           contact_ids[next_position + 1 : next_position + :size] as batch
    from bulk_act where workspace_id = :workspace_id and id = :id and state <> 'completed'
    for update
""")

ADVANCE_BULK_ACT = text("""
    update bulk_act
    set next_position = next_position + :taken, changed_count = changed_count + :changed,
        skipped_ids = skipped_ids || cast(:skipped_ids as bigint[]),
        state = case when next_position + :taken >= cardinality(contact_ids) then 'completed' else 'running' end,
        finished_at = case when next_position + :taken >= cardinality(contact_ids) then cast(:now as timestamptz) end
    where workspace_id = :workspace_id and id = :id
    returning state
""")

GET_BULK_ACT = text("""
    select id, kind, state, cardinality(contact_ids) as contact_count, next_position as done_count, changed_count,
           skipped_ids, actor_id, created_at, finished_at
    from bulk_act where workspace_id = :workspace_id and id = :id
""")


def close_and_block(
    tx: Connection,
    workspace_id: int,
    ids: Sequence[int],
    terms: BlockTerms,
    *,
    actor: Actor,
    data: str,
    now: datetime,
) -> None:
    """Close the contacts' conversations, then mark them blocked: two events each, in that order."""
    given: dict[str, Any] = {"workspace_id": workspace_id, "ids": ids, "actor_id": actor.id, "now": now}
    tx.execute(CLOSE_CONVERSATIONS, given)
    tx.execute(BLOCK, {**given, "reason": terms.reason, "until": terms.until})
    tx.execute(ADD_EVENTS, {**given, "kind": "contact.blocked", "source": actor.source, "data": data})


def extend_block(
    tx: Connection, workspace_id: int, ids: Sequence[int], *, reason: str | None, until: datetime | None
) -> list[int]:
    """Give blocked contacts a new end, and a new reason where there is one; return those for whom that changed anything."""
    given = {"workspace_id": workspace_id, "ids": ids, "reason": reason, "until": until}
    return sorted(tx.scalars(EXTEND, given))


def unblock(tx: Connection, workspace_id: int, ids: Sequence[int], *, actor: Actor, now: datetime) -> None:
    """Lift the block: the contacts are closed, and the next message opens them."""
    given: dict[str, Any] = {"workspace_id": workspace_id, "ids": ids, "actor_id": actor.id, "now": now}
    tx.execute(UNBLOCK, given)
    tx.execute(ADD_EVENTS, {**given, "kind": "contact.unblocked", "source": actor.source, "data": "{}"})


def close_suggestions(tx: Connection, workspace_id: int, ids: Collection[int], reason: str, now: datetime) -> int:
    """Close the open suggestions that any of the contacts is party to; return how many."""
    given = {"workspace_id": workspace_id, "ids": sorted(ids), "reason": reason, "now": now}
    return tx.execute(CLOSE_SUGGESTIONS, given).rowcount


def is_block_over(tx: Connection, workspace_id: int, contact_id: int, now: datetime) -> bool:
    """Return whether the contact is under a timed block whose end has come."""
    given = {"workspace_id": workspace_id, "contact_id": contact_id, "now": now}
    return tx.execute(IS_BLOCK_OVER, given).first() is not None


def blocked_keys(tx: Connection, wanted: Collection[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return which (workspace, match key) pairs a block covers, in workspaces that have `block_by_key` switched on.

    One statement. For whoever is about to create a contact with these keys: its message is dropped instead.
    """
    pairs = sorted(set(wanted))
    if not pairs:
        return set()
    rows = tx.execute(
        BLOCKED_KEYS,
        {"workspace_ids": [workspace_id for workspace_id, _ in pairs], "match_keys": [key for _, key in pairs]},
    )
    return {(row.workspace_id, row.match_key) for row in rows}


def count_evasions(tx: Connection, workspace_id: int) -> int:
    """Return how many contacts came under a blocked key after the block: what `block_by_key` would have caught."""
    return int(tx.execute(COUNT_EVASIONS, {"workspace_id": workspace_id}).scalar_one())


def add_bulk_act(tx: Connection, act: NewBulkAct, now: datetime) -> int:
    """Add a bulk act over the contacts, in ascending order, and return its id."""
    given = {
        "workspace_id": act.workspace_id,
        "kind": act.kind,
        "params": act.params,
        "contact_ids": sorted(set(act.contact_ids)),
        "actor_id": act.actor.id,
        "now": now,
    }
    return int(tx.execute(ADD_BULK_ACT, given).scalar_one())


def find_bulk_batch(tx: Connection, workspace_id: int, bulk_act_id: int, size: int) -> Any | None:
    """Return the act with its next `batch` of contact ids, its row locked; None when it is complete or unknown."""
    given = {"workspace_id": workspace_id, "id": bulk_act_id, "size": size}
    return tx.execute(NEXT_OF_BULK_ACT, given).first()


def mark_bulk_batch(
    tx: Connection,
    workspace_id: int,
    bulk_act_id: int,
    *,
    taken: int,
    changed: int,
    skipped: Sequence[int],
    now: datetime,
) -> str:
    """Record a batch's result and return the act's state: running or completed."""
    given = {
        "workspace_id": workspace_id,
        "id": bulk_act_id,
        "taken": taken,
        "changed": changed,
        "skipped_ids": list(skipped),
        "now": now,
    }
    return str(tx.execute(ADVANCE_BULK_ACT, given).scalar_one())


def find_bulk_act(tx: Connection, workspace_id: int, bulk_act_id: int) -> Any | None:
    """Return the act's progress, or None."""
    return tx.execute(GET_BULK_ACT, {"workspace_id": workspace_id, "id": bulk_act_id}).first()
