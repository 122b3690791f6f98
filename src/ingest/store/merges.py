"""Merge records: what was merged, by whom, and all that is needed to take it apart again.

What the merge moves is in `store.merge_moves`. The caller holds the locks of both contacts throughout.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, text

from ingest.domain.actors import Actor
from ingest.domain.merges import MergePlan, Snapshot

Record = Row[Any]
"""A row as it was read."""

SNAPSHOT = text("""
    select to_jsonb(contact) - array['search_text', 'name_key'] as row,
           (select coalesce(array_agg(tag_id order by tag_id), '{}') from contact_tag
            where workspace_id = :workspace_id and contact_id = contact.id) as tag_ids,
           (select coalesce(array_agg(id order by id), '{}') from identity
            where workspace_id = :workspace_id and contact_id = contact.id) as identity_ids,
           (select coalesce(jsonb_agg(to_jsonb(contact_key) - array['workspace_id', 'contact_id', 'created_at'] order by key),
                            '[]')
            from contact_key where workspace_id = :workspace_id and contact_id = contact.id) as keys
    from contact where workspace_id = :workspace_id and id = any(:ids)
""")

ADD_RECORD = text("""
    insert into merge_record (workspace_id, kept_contact_id, absorbed_contact_id, source, suggestion_id, rule_id, actor_id,
                              idempotency_key, chosen, kept_snapshot, absorbed_snapshot, merged_at, last_message_id)
    values (:workspace_id, :kept_id, :absorbed_id, :source, cast(:suggestion_id as bigint), cast(:rule_id as bigint),
            cast(:actor_id as bigint), cast(:idempotency_key as text), cast(:chosen as jsonb),
            cast(:kept as jsonb), cast(:absorbed as jsonb), :now,
            coalesce((select max(id) from message where workspace_id = :workspace_id), 0))
    returning id
""")

FINISH_RECORD = text("""
    update merge_record
    set changes = cast(:changes as jsonb), added_keys = :added_keys, added_tag_ids = :added_tag_ids,
        closed_conversation_id = cast(:closed_id as bigint),
        last_event_id = coalesce((select max(id) from contact_event where workspace_id = :workspace_id), 0)
    where workspace_id = :workspace_id and id = :merge_id
""")

_RECORD = """
    select id, kept_contact_id, absorbed_contact_id, source, suggestion_id, rule_id, actor_id, chosen, kept_snapshot,
           absorbed_snapshot, changes, added_tag_ids, added_keys, closed_conversation_id, last_message_id, last_event_id,
           state, merged_at, ended_at, ended_by
    from merge_record where workspace_id = :workspace_id
"""
FIND_RECORD = text(f"{_RECORD} and id = :id")
FIND_ACTIVE = text(f"{_RECORD} and absorbed_contact_id = :absorbed_id and state = 'active'")
FIND_LAST = text(f"""
    {_RECORD} and kept_contact_id = :kept_id and absorbed_contact_id = :absorbed_id order by id desc limit 1
""")
# The contact inside `kept_id` that holds `absorbed_id`, however deep.
FIND_OUTER = text("""
    with recursive up as (
        select id, merged_into, id as before, 0 as depth from contact
        where workspace_id = :workspace_id and id = :absorbed_id
        union all
        select contact.id, contact.merged_into, up.id, up.depth + 1 from up
        join contact on contact.workspace_id = :workspace_id and contact.id = up.merged_into
        where up.depth < 100
    )
    select before from up where id = :kept_id and depth > 1
""")
FIND_BY_KEY = text(f"{_RECORD} and idempotency_key = :idempotency_key")
LIST_OTHERS = text(f"{_RECORD} and kept_contact_id = :kept_id and state = 'active' and id <> :id order by id")

SET_CHANGES = text("""
    update merge_record set changes = cast(:changes as jsonb) where workspace_id = :workspace_id and id = :id
""")

# Anything that came to the kept contact after the merge: a message, an event, a change of its own.
HAS_NEWS = text("""
    select exists (select from message where workspace_id = :workspace_id and contact_id = record.kept_contact_id
                                         and id > record.last_message_id)
        or exists (select from contact_event where workspace_id = :workspace_id and contact_id = record.kept_contact_id
                                               and id > record.last_event_id)
        or exists (select from comment where workspace_id = :workspace_id and contact_id = record.kept_contact_id
                                         and created_at > record.merged_at)
        or exists (select from contact where workspace_id = :workspace_id and id = record.kept_contact_id
                                         and updated_at <> record.merged_at)
    from merge_record as record where workspace_id = :workspace_id and id = :id
""")

# Newest first. A record's absorbed contact has its name and channels from the snapshot's time.
HISTORY = text("""
    select record.id, kept_contact_id, absorbed_contact_id, source, actor_id, rule_id, suggestion_id, state, merged_at,
           ended_at, ended_by, chosen, changes,
           kept_snapshot -> 'row' as kept, absorbed_snapshot -> 'row' as absorbed,
           (select coalesce(jsonb_object_agg(table_name, cardinality(row_ids)), '{}') from merge_moved
            where workspace_id = :workspace_id and merge_id = record.id) as moved_counts
    from merge_record as record
    where workspace_id = :workspace_id
      and (cast(:contact_id as bigint) is null or :contact_id in (kept_contact_id, absorbed_contact_id))
      and (cast(:before_id as bigint) is null or record.id < :before_id)
    order by record.id desc limit :limit
""")

# Who can be taken out of a contact: name, id, and the channels that came with them and are still there.
ABSORBED = text("""
    select record.id as merge_id, contact.id, contact.first_name, contact.last_name, contact.display_name, contact.phone,
           contact.email, record.merged_at,
           (select coalesce(array_agg(distinct identity.channel_id), '{}') from merge_moved
            join identity on identity.workspace_id = :workspace_id and identity.id = any(merge_moved.row_ids)
            where merge_moved.workspace_id = :workspace_id and merge_moved.merge_id = record.id
              and merge_moved.table_name = 'identity' and identity.contact_id = record.kept_contact_id) as channel_ids
    from merge_record as record
    join contact on contact.workspace_id = :workspace_id and contact.id = record.absorbed_contact_id
    where record.workspace_id = :workspace_id and record.kept_contact_id = :kept_id and record.state = 'active'
    order by record.id
""")


@dataclass(frozen=True, slots=True)
class NewRecord:
    """What a merge record says beside the snapshots."""

    workspace_id: int
    kept: Snapshot
    absorbed: Snapshot
    chosen: Mapping[str, Any]
    actor: Actor
    suggestion_id: int | None = None
    rule_id: int | None = None
    idempotency_key: str | None = None


def take_snapshots(tx: Connection, workspace_id: int, contact_ids: Collection[int]) -> dict[int, Snapshot]:
    """Return the contacts as they are, by id; those that do not exist are absent."""
    rows = tx.execute(SNAPSHOT, {"workspace_id": workspace_id, "ids": sorted(set(contact_ids))})
    return {
        row.row["id"]: Snapshot(row.row, tuple(row.tag_ids), tuple(row.identity_ids), tuple(row.keys)) for row in rows
    }


def add_record(tx: Connection, new: NewRecord, now: datetime) -> int:
    """Add the merge record and return its id; `finish_record` completes it."""
    given = {
        "workspace_id": new.workspace_id,
        "kept_id": new.kept.id,
        "absorbed_id": new.absorbed.id,
        "source": new.actor.source,
        "actor_id": new.actor.id,
        "suggestion_id": new.suggestion_id,
        "rule_id": new.rule_id,
        "idempotency_key": new.idempotency_key,
        "chosen": to_json(new.chosen),
        "kept": to_json(new.kept),
        "absorbed": to_json(new.absorbed),
        "now": now,
    }
    return int(tx.execute(ADD_RECORD, given).scalar_one())


def to_json(value: Any) -> str:
    """Return the value as JSON text."""
    return msgspec.json.encode(value).decode()


def read_snapshot(value: Mapping[str, Any]) -> Snapshot:
    """Return a snapshot from what a merge record keeps."""
    return msgspec.convert(value, Snapshot)


def finish_record(tx: Connection, workspace_id: int, merge_id: int, plan: MergePlan) -> None:
    """Complete the record with what the merge did; call it last."""
    given = {
        "workspace_id": workspace_id,
        "merge_id": merge_id,
        "changes": to_json({name: change.as_json() for name, change in plan.changes.items()}),
        "added_keys": [key["key"] for key in plan.added_keys],
        "added_tag_ids": list(plan.added_tag_ids),
        "closed_id": plan.conversation.closed_id,
    }
    tx.execute(FINISH_RECORD, given)


def find_record(tx: Connection, workspace_id: int, merge_id: int) -> Record | None:
    """Return a merge record, or None."""
    return tx.execute(FIND_RECORD, {"workspace_id": workspace_id, "id": merge_id}).first()


def find_active_record(tx: Connection, workspace_id: int, absorbed_id: int) -> Record | None:
    """Return the record of the merge that the contact is absorbed by, or None."""
    return tx.execute(FIND_ACTIVE, {"workspace_id": workspace_id, "absorbed_id": absorbed_id}).first()


def find_last_record(tx: Connection, workspace_id: int, kept_id: int, absorbed_id: int) -> Record | None:
    """Return the record of the latest merge of the second contact into the first, active or not, or None."""
    given = {"workspace_id": workspace_id, "kept_id": kept_id, "absorbed_id": absorbed_id}
    return tx.execute(FIND_LAST, given).first()


def find_outer(tx: Connection, workspace_id: int, kept_id: int, absorbed_id: int) -> int | None:
    """Return which contact that was merged into the first holds the second one inside, or None."""
    given = {"workspace_id": workspace_id, "kept_id": kept_id, "absorbed_id": absorbed_id}
    outer: int | None = tx.scalar(FIND_OUTER, given)
    return outer


def find_record_by_key(tx: Connection, workspace_id: int, idempotency_key: str) -> Record | None:
    """Return the record that a call with this idempotency key has made, or None."""
    return tx.execute(FIND_BY_KEY, {"workspace_id": workspace_id, "idempotency_key": idempotency_key}).first()


def list_other_records(tx: Connection, workspace_id: int, kept_id: int, merge_id: int) -> list[Record]:
    """Return the other active merges into the contact, oldest first."""
    return list(tx.execute(LIST_OTHERS, {"workspace_id": workspace_id, "kept_id": kept_id, "id": merge_id}))


def set_changes(tx: Connection, workspace_id: int, merge_id: int, changes: Mapping[str, Any]) -> None:
    """Replace what the record says about changed fields."""
    tx.execute(SET_CHANGES, {"workspace_id": workspace_id, "id": merge_id, "changes": to_json(changes)})


def has_news(tx: Connection, workspace_id: int, merge_id: int) -> bool:
    """Return whether anything came to the kept contact since the merge."""
    return bool(tx.scalar(HAS_NEWS, {"workspace_id": workspace_id, "id": merge_id}))


def list_history(
    tx: Connection, workspace_id: int, *, contact_id: int | None = None, before_id: int | None = None, limit: int = 50
) -> list[Record]:
    """Return merge records, newest first, of the workspace or of one contact; `before_id` continues a page."""
    given = {"workspace_id": workspace_id, "contact_id": contact_id, "before_id": before_id, "limit": limit}
    return list(tx.execute(HISTORY, given))


def list_absorbed(tx: Connection, workspace_id: int, kept_id: int) -> list[Record]:
    """Return the contacts that can be taken out of this one, oldest merge first."""
    return list(tx.execute(ABSORBED, {"workspace_id": workspace_id, "kept_id": kept_id}))
