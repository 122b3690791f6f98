"""What an unmerge gives back: the rows a merge had moved, as far as they are still there, and nothing that came later.

The caller holds the locks of both contacts throughout.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from ingest.domain.merges import Support
from ingest.store.contact_registry import moving_tables
from ingest.store.merge_moves import Pair

END_RECORD = text("""
    update merge_record set state = :state, ended_at = :now, ended_by = cast(:actor_id as bigint)
    where workspace_id = :workspace_id and id = :id
""")
MOVE_BACK = {
    table: text(f"""
        update {table} set contact_id = :absorbed_id
        from (select unnest(row_ids) as id from merge_moved
              where workspace_id = :workspace_id and merge_id = :merge_id and table_name = '{table}') as moved
        where {table}.workspace_id = :workspace_id and {table}.id = moved.id and {table}.contact_id = :kept_id
    """)  # noqa: S608 - names from the registry
    for table in moving_tables()
}

DROP_SOME_KEYS = text("""
    delete from contact_key where workspace_id = :workspace_id and contact_id = :contact_id and key = any(:keys)
""")
# A tag that somebody took off and put on again is no longer the merge's.
DROP_TAGS = text("""
    delete from contact_tag
    where workspace_id = :workspace_id and contact_id = :contact_id and tag_id = any(:tag_ids)
      and source = 'merge' and created_at = :merged_at
""")
HAND_OVER_TAGS = text("""
    update contact_tag set created_at = record.merged_at
    from unnest(cast(:tag_ids as bigint[]), cast(:tag_merge_ids as bigint[])) as held (tag_id, merge_id)
    join merge_record as record on record.workspace_id = :workspace_id and record.id = held.merge_id
    where contact_tag.workspace_id = :workspace_id and contact_tag.contact_id = :contact_id
      and contact_tag.tag_id = held.tag_id and contact_tag.source = 'merge' and contact_tag.created_at = :merged_at
""")
HAND_OVER = text("""
    update merge_record
    set added_tag_ids = added_tag_ids || coalesce((
            select array_agg(tag_id) from unnest(cast(:tag_ids as bigint[]), cast(:tag_merge_ids as bigint[]))
                   as held (tag_id, merge_id) where merge_id = merge_record.id), '{}'),
        added_keys = added_keys || coalesce((
            select array_agg(key) from unnest(cast(:keys as text[]), cast(:key_merge_ids as bigint[]))
                   as held (key, merge_id) where merge_id = merge_record.id), '{}')
    where workspace_id = :workspace_id
      and id = any(cast(:tag_merge_ids as bigint[]) || cast(:key_merge_ids as bigint[]))
""")

DISMISS_UNMERGED = text("""
    insert into merge_suggestion as pair (workspace_id, low_contact_id, high_contact_id, kind, keys, dismissed_keys, state,
                                          reason, changed_at, actor_id)
    values (:workspace_id, least(cast(:kept_id as bigint), :absorbed_id), greatest(cast(:kept_id as bigint), :absorbed_id),
            'exact', :keys, :keys, 'dismissed', 'unmerged', :now, cast(:actor_id as bigint))
    on conflict (workspace_id, low_contact_id, high_contact_id) do update
    set state = 'dismissed', reason = 'unmerged', changed_at = :now, actor_id = excluded.actor_id,
        keys = excluded.keys,
        dismissed_keys = array(select distinct unnest(pair.keys || pair.dismissed_keys || excluded.keys) order by 1)
""")

# The conversations that went back, where the kept contact has written on in them since.
LEFT_BEHIND = text("""
    with back as (
        select unnest(row_ids) as id from merge_moved
        where workspace_id = :workspace_id and merge_id = :merge_id and table_name = 'conversation'
    )
    select coalesce(array_agg(id order by id), '{}') as ids,
           exists (select from message where workspace_id = :workspace_id and contact_id = :kept_id
                                         and conversation_id in (select id from back))
           or exists (select from contact_event where workspace_id = :workspace_id and contact_id = :kept_id
                                                  and conversation_id in (select id from back))
           or exists (select from comment where workspace_id = :workspace_id and contact_id = :kept_id
                                            and conversation_id in (select id from back)) as has_rows
    from back
""")
# The kept contact goes on in a conversation of its own: what was said in the other's since the merge stays with it.
CONTINUE_CONVERSATION = text("""
    insert into conversation (workspace_id, contact_id, origin_contact_id, status, opened_at, opened_source,
                              opened_channel_id, closed_at, closed_source, closed_by, category, summary)
    select workspace_id, :kept_id, :kept_id, status, :merged_at, 'merge', opened_channel_id, closed_at, closed_source,
           closed_by, category, summary
    from conversation where workspace_id = :workspace_id and id = :id
    returning id
""")
FOLLOW = {
    table: text(f"""
        update {table} set conversation_id = :conversation_id
        where workspace_id = :workspace_id and contact_id = :kept_id and conversation_id = any(:ids)
    """)  # noqa: S608 - names of ours
    for table in ("message", "contact_event", "comment")
}
FIND_OWN = text("""
    select id from conversation where workspace_id = :workspace_id and contact_id = :kept_id
    order by id is not distinct from cast(:id as bigint) desc, id desc limit 1
""")
CLOSE_ALL = text("""
    update conversation
    set status = 'closed', closed_at = :now, closed_source = 'unmerge', closed_by = cast(:actor_id as bigint)
    where workspace_id = :workspace_id and contact_id = :contact_id and status <> 'closed'
""")
REOPEN = text("""
    update conversation
    set status = :status, closed_at = null, closed_source = null, closed_by = null
    where workspace_id = :workspace_id and id = :id and contact_id = :contact_id
""")
SET_CURRENT = text("""
    update contact
    set conversation_id = cast(:conversation_id as bigint), status = coalesce(current.status, 'closed'),
        snoozed_until = case when current.status = 'snoozed' then cast(:snoozed_until as timestamptz) end
    from (select 1) as one
    left join conversation as current on current.workspace_id = :workspace_id and current.id = cast(:conversation_id as bigint)
    where contact.workspace_id = :workspace_id and contact.id = :kept_id
""")
SET_ACTIVITY = text("""
    update contact
    set last_message_at = newest.sent_at, last_channel_id = newest.channel_id, last_incoming_at = incoming.sent_at,
        activity_hour = floor(extract(epoch from newest.sent_at) / 3600)
    from (select 1) as one
    left join lateral (
        select sent_at, channel_id from message where workspace_id = :workspace_id and contact_id = :contact_id
        order by sent_at desc, channel_id desc limit 1
    ) as newest on true
    left join lateral (
        select sent_at from message
        where workspace_id = :workspace_id and contact_id = :contact_id and traffic = 'incoming'
        order by sent_at desc limit 1
    ) as incoming on true
    where contact.workspace_id = :workspace_id and contact.id = :contact_id
""")
RELEASE = text("""
    update contact set merged_into = null, status = :status, snoozed_until = cast(:snoozed_until as timestamptz),
                       updated_at = :now
    where workspace_id = :workspace_id and id = :contact_id
""")


@dataclass(frozen=True, slots=True)
class Lost:
    """The keys and tags that the merge to be taken out had added."""

    keys: frozenset[str]
    tag_ids: frozenset[int]


def mark_ended(tx: Connection, pair: Pair, state: str) -> None:
    """Mark the record undone or unmerged."""
    tx.execute(END_RECORD, pair.given(id=pair.merge_id, state=state))


def move_rows_back(tx: Connection, pair: Pair) -> None:
    """Give the absorbed contact back what the merge had moved, as far as the kept contact still has it."""
    for statement in MOVE_BACK.values():
        tx.execute(statement, pair.given())


def drop_tags(tx: Connection, pair: Pair, tag_ids: Collection[int], merged_at: datetime) -> None:
    """Take off the tags that the merge had put on, unless somebody has put them on again."""
    if tag_ids:
        tx.execute(DROP_TAGS, pair.given(contact_id=pair.kept_id, tag_ids=sorted(tag_ids), merged_at=merged_at))


def drop_keys(tx: Connection, pair: Pair, keys: Collection[str]) -> None:
    """Take these keys from the kept contact."""
    tx.execute(DROP_SOME_KEYS, pair.given(contact_id=pair.kept_id, keys=sorted(keys)))


def hand_over(tx: Connection, pair: Pair, support: Support, lost: Lost, merged_at: datetime) -> None:
    """Let the other merges hold up those keys and tags that they too had brought."""
    keys = {key: support.keys[key] for key in sorted(lost.keys & support.keys.keys())}
    tags = {tag_id: support.tag_ids[tag_id] for tag_id in sorted(lost.tag_ids & support.tag_ids.keys())}
    given = pair.given(
        contact_id=pair.kept_id,
        merged_at=merged_at,
        keys=list(keys),
        key_merge_ids=list(keys.values()),
        tag_ids=list(tags),
        tag_merge_ids=list(tags.values()),
    )
    tx.execute(HAND_OVER, given)
    tx.execute(HAND_OVER_TAGS, given)


def dismiss_unmerged(tx: Connection, pair: Pair, shared_keys: Sequence[str]) -> None:
    """Dismiss the pair: whoever took it apart does not want to be asked at once."""
    tx.execute(DISMISS_UNMERGED, pair.given(keys=list(shared_keys)))


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """The conversations that went back, and whether the kept contact has written on in them since the merge."""

    conversation_ids: tuple[int, ...]
    has_rows: bool


def find_left_behind(tx: Connection, pair: Pair) -> LeftBehind:
    """Return the conversations that went back. Call it after `move_rows_back`."""
    row = tx.execute(LEFT_BEHIND, pair.given()).one()
    return LeftBehind(tuple(row.ids), row.has_rows)


def continue_conversation(
    tx: Connection, pair: Pair, left: LeftBehind, current_id: int | None, merged_at: datetime
) -> int | None:
    """Let the kept contact go on in a conversation of its own with what came since the merge; return its id.

    It has the state of `current_id`, if that one went back, so it may be open.
    """
    source_id = current_id if current_id in left.conversation_ids else left.conversation_ids[-1]
    new_id: int | None = tx.scalar(CONTINUE_CONVERSATION, pair.given(id=source_id, merged_at=merged_at))
    for statement in FOLLOW.values():
        tx.execute(statement, pair.given(conversation_id=new_id, ids=list(left.conversation_ids)))
    return new_id


def find_own(tx: Connection, pair: Pair, conversation_id: int | None) -> int | None:
    """Return this conversation if the kept contact has it, else its newest one, or None."""
    own_id: int | None = tx.scalar(FIND_OWN, pair.given(id=conversation_id))
    return own_id


def close_all(tx: Connection, pair: Pair) -> None:
    """Close the taken-out contact's open or snoozed conversation with source `unmerge`."""
    tx.execute(CLOSE_ALL, pair.given(contact_id=pair.absorbed_id))


def reopen(tx: Connection, pair: Pair, contact_id: int, conversation_id: int, status: str) -> None:
    """Give a party's conversation its former status back, silently."""
    tx.execute(REOPEN, pair.given(contact_id=contact_id, id=conversation_id, status=status))


def settle_kept(tx: Connection, pair: Pair, conversation_id: int | None, snoozed_until: str | None) -> None:
    """Give the kept contact this current conversation with its status, and the activity of the messages it still has."""
    tx.execute(SET_CURRENT, pair.given(conversation_id=conversation_id, snoozed_until=snoozed_until))
    tx.execute(SET_ACTIVITY, pair.given(contact_id=pair.kept_id))


def release(tx: Connection, pair: Pair, status: str, snoozed_until: str | None) -> None:
    """Turn the absorbed contact from a redirect into a contact again."""
    tx.execute(RELEASE, pair.given(contact_id=pair.absorbed_id, status=status, snoozed_until=snoozed_until))
