"""What a merge moves: one statement a table, whatever the number of rows.

The ids of moved rows are kept, so that an unmerge gives back exactly those and nothing that came later (`unmerge_moves`).
The caller holds the locks of both contacts throughout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from ingest.domain.actors import Actor
from ingest.domain.merges import PROFILE_FIELDS, ConversationPlan, Snapshot
from ingest.store.contact_registry import moving_tables
from ingest.store.merges import to_json

CLOSE_CONVERSATION = text("""
    update conversation
    set status = 'closed', closed_at = :now, closed_source = :source, closed_by = cast(:actor_id as bigint)
    where workspace_id = :workspace_id and id = :id and status <> 'closed'
""")

MOVE = {
    table: text(f"""
        with moved as (
            update {table} set contact_id = :kept_id
            where workspace_id = :workspace_id and contact_id = :absorbed_id
            returning id
        )
        insert into merge_moved (workspace_id, merge_id, table_name, row_ids)
        select :workspace_id, :merge_id, '{table}', array_agg(id) from moved having count(*) > 0
    """)  # noqa: S608 - names from the registry
    for table in moving_tables()
}

COUNT = {
    table: text(f"select count(*) from {table} where workspace_id = :workspace_id and contact_id = :absorbed_id")  # noqa: S608
    for table in moving_tables()
}

DROP_KEYS = text("delete from contact_key where workspace_id = :workspace_id and contact_id = :contact_id")
ADD_KEYS = text("""
    insert into contact_key (workspace_id, contact_id, key, match_key, is_primary, is_verified, origin_contact_id)
    select :workspace_id, :contact_id, key, match_key, is_primary, is_verified, origin_contact_id
    from jsonb_to_recordset(cast(:keys as jsonb))
         as new (key text, match_key text, is_primary boolean, is_verified boolean, origin_contact_id bigint)
    order by key
    on conflict (workspace_id, contact_id, key) do nothing
""")
# The key that the contact's phone or email gives is the one to write to; the others are for finding it.
SET_PRIMARY_KEYS = text("""
    update contact_key set is_primary = (key = any(:primary_keys))
    where workspace_id = :workspace_id and contact_id = :contact_id and is_primary <> (key = any(:primary_keys))
""")

ADD_TAGS = text("""
    insert into contact_tag (workspace_id, contact_id, tag_id, source, created_at)
    select :workspace_id, :contact_id, tag_id, 'merge', :now from unnest(cast(:tag_ids as bigint[])) as tag_id
    on conflict do nothing
""")
_COLUMNS = ",\n        ".join(
    f"{name} = case when jsonb_exists(cast(:values as jsonb), '{name}') then "
    + (
        f"coalesce(cast(:values as jsonb) ->> '{name}', '')"
        if name == "first_name"
        else f"cast(:values as jsonb) ->> '{name}'"
    )
    + f" else {name} end"
    for name in PROFILE_FIELDS
    if name != "lifecycle_id"
)
SET_PROFILE = text(f"""
    update contact
    set {_COLUMNS},
        lifecycle_id = case when jsonb_exists(cast(:values as jsonb), 'lifecycle_id')
                            then cast(cast(:values as jsonb) ->> 'lifecycle_id' as bigint) else lifecycle_id end,
        phone_valid = case when jsonb_exists(cast(:values as jsonb), 'phone') then cast(:phone_valid as boolean)
                           else phone_valid end,
        fields = cast(:fields as jsonb), provenance = cast(:provenance as jsonb), updated_at = :now
    where workspace_id = :workspace_id and id = :contact_id
""")  # noqa: S608 - names of ours

SET_MERGED = text("""
    update contact as kept
    set status = :status, conversation_id = cast(:conversation_id as bigint),
        snoozed_until = cast(:snoozed_until as timestamptz),
        last_channel_id = case when (coalesce(absorbed.last_message_at, '-infinity'), coalesce(absorbed.last_channel_id, 0))
                                    > (coalesce(kept.last_message_at, '-infinity'), coalesce(kept.last_channel_id, 0))
                               then absorbed.last_channel_id else kept.last_channel_id end,
        last_message_at = greatest(kept.last_message_at, absorbed.last_message_at),
        last_incoming_at = greatest(kept.last_incoming_at, absorbed.last_incoming_at),
        activity_hour = greatest(kept.activity_hour, absorbed.activity_hour)
    from contact as absorbed
    where kept.workspace_id = :workspace_id and kept.id = :kept_id
      and absorbed.workspace_id = :workspace_id and absorbed.id = :absorbed_id
""")
# Everything else about it stays as it was: what an unmerge gives back.
SET_ABSORBED = text("""
    update contact set merged_into = :kept_id, snoozed_until = null
    where workspace_id = :workspace_id and id = :absorbed_id
""")

# All that may change, in the order of their ids, as everybody locks them.
LOCK_SUGGESTIONS = text("""
    select id from merge_suggestion
    where workspace_id = :workspace_id
      and (low_contact_id in (:kept_id, :absorbed_id) or high_contact_id in (:kept_id, :absorbed_id))
    order by id for no key update
""")
# The absorbed contact's pairs as the kept one's. A dismissed pair stays dismissed unless a key is new to it.
REPOINT_SUGGESTIONS = text("""
    with pair as (
        select case when low_contact_id = :absorbed_id then high_contact_id else low_contact_id end as other_id,
               kind, keys, dismissed_keys, state, reason, opened_at, actor_id
        from merge_suggestion
        where workspace_id = :workspace_id and state in ('open', 'dismissed')
          and (low_contact_id = :absorbed_id or high_contact_id = :absorbed_id)
    )
    insert into merge_suggestion as mine (workspace_id, low_contact_id, high_contact_id, kind, keys, dismissed_keys, state,
                                          reason, opened_at, changed_at, actor_id)
    select :workspace_id, least(other_id, :kept_id), greatest(other_id, :kept_id), kind, keys, dismissed_keys, state, reason,
           opened_at, :now, actor_id
    from pair where other_id <> :kept_id
    on conflict (workspace_id, low_contact_id, high_contact_id) do update
    set kind = least(mine.kind, excluded.kind),
        keys = array(select distinct unnest(mine.keys || excluded.keys) order by 1),
        dismissed_keys = array(select distinct unnest(mine.dismissed_keys || excluded.dismissed_keys) order by 1),
        state = case
            when mine.state in ('open', 'dismissed') and excluded.state in ('open', 'dismissed')
                 and mine.state <> excluded.state
            then case when (mine.keys || excluded.keys) <@ (mine.dismissed_keys || excluded.dismissed_keys)
                      then 'dismissed' else 'open' end
            else excluded.state end,
        reason = excluded.reason, changed_at = :now
""")
MARK_MERGED = text("""
    update merge_suggestion set state = 'merged', reason = null, changed_at = :now, actor_id = cast(:actor_id as bigint)
    where workspace_id = :workspace_id and low_contact_id = least(cast(:kept_id as bigint), :absorbed_id)
      and high_contact_id = greatest(cast(:kept_id as bigint), :absorbed_id)
""")
CLOSE_SUGGESTIONS = text("""
    update merge_suggestion set state = 'closed', reason = 'party_merged', changed_at = :now
    where workspace_id = :workspace_id and state = 'open'
      and (low_contact_id = :absorbed_id or high_contact_id = :absorbed_id)
""")
ADD_EVENT = text("""
    insert into contact_event (workspace_id, contact_id, origin_contact_id, conversation_id, kind, source, actor_id, data, at)
    values (:workspace_id, :contact_id, :contact_id, cast(:conversation_id as bigint), :kind, :source,
            cast(:actor_id as bigint), cast(:data as jsonb), :now)
""")


@dataclass(frozen=True, slots=True)
class Pair:
    """The two contacts of a merge, and what its statements all need."""

    workspace_id: int
    merge_id: int
    kept_id: int
    absorbed_id: int
    actor: Actor
    now: datetime

    def given(self, **more: Any) -> dict[str, Any]:
        """Return the statements' parameters."""
        return {
            "workspace_id": self.workspace_id,
            "merge_id": self.merge_id,
            "kept_id": self.kept_id,
            "absorbed_id": self.absorbed_id,
            "actor_id": self.actor.id,
            "now": self.now,
            **more,
        }


def move_rows(tx: Connection, pair: Pair) -> None:
    """Give the kept contact every row that moves, and remember which."""
    for statement in MOVE.values():
        tx.execute(statement, pair.given())


def close_conversation(tx: Connection, pair: Pair, contact_id: int, conversation_id: int) -> None:
    """Close a party's conversation with source `merge`: an event that starts nothing."""
    closed = tx.execute(CLOSE_CONVERSATION, pair.given(id=conversation_id, source="merge")).rowcount
    if closed:
        add_event(tx, pair, contact_id, "conversation.closed", {}, conversation_id=conversation_id)


def add_event(
    tx: Connection,
    pair: Pair,
    contact_id: int,
    kind: str,
    data: Mapping[str, Any],
    *,
    conversation_id: int | None = None,
) -> None:
    """Add an event to a party's timeline."""
    source = "merge" if kind == "conversation.closed" else pair.actor.source
    given = pair.given(
        contact_id=contact_id, kind=kind, source=source, data=to_json(data), conversation_id=conversation_id
    )
    tx.execute(ADD_EVENT, given)


def set_merged(tx: Connection, pair: Pair, plan: ConversationPlan) -> None:
    """Give the kept contact its conversation and activity, and turn the absorbed one into a redirect."""
    given = pair.given(status=plan.status, conversation_id=plan.current_id, snoozed_until=plan.snoozed_until)
    tx.execute(SET_MERGED, given)
    tx.execute(SET_ABSORBED, pair.given())


def add_tags(tx: Connection, pair: Pair, tag_ids: Sequence[int]) -> None:
    """Put the absorbed contact's tags on the kept one. Nobody's tag trigger fires."""
    if tag_ids:
        tx.execute(ADD_TAGS, pair.given(contact_id=pair.kept_id, tag_ids=list(tag_ids)))


def merge_suggestions(tx: Connection, pair: Pair) -> None:
    """Mark the pair's suggestion merged, and make the absorbed contact's others the kept one's."""
    tx.execute(LOCK_SUGGESTIONS, pair.given())
    tx.execute(REPOINT_SUGGESTIONS, pair.given())
    tx.execute(MARK_MERGED, pair.given())
    tx.execute(CLOSE_SUGGESTIONS, pair.given())


def set_profile(
    tx: Connection,
    pair: Pair,
    contact: Snapshot,
    values: Mapping[str, tuple[Any, Mapping[str, Any] | None]],
    *,
    phone_valid: bool | None,
) -> None:
    """Give fields of the kept contact new values with their provenance; None clears either. Custom fields are "fields.<id>"."""
    fields, provenance = dict(contact.row["fields"]), dict(contact.row["provenance"])
    columns = {}
    for name, (value, origin) in values.items():
        if name.startswith("fields."):
            _put(fields, name.removeprefix("fields."), value)
        else:
            columns[name] = value
        _put(provenance, name, origin)
    given = pair.given(
        contact_id=contact.id,
        values=to_json(columns),
        fields=to_json(fields),
        provenance=to_json(provenance),
        phone_valid=phone_valid,
    )
    tx.execute(SET_PROFILE, given)


def _put(target: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        target.pop(name, None)
    else:
        target[name] = value


def add_keys(tx: Connection, pair: Pair, contact_id: int, keys: Sequence[Mapping[str, Any]]) -> None:
    """Give a party those keys that it lacks."""
    tx.execute(ADD_KEYS, pair.given(contact_id=contact_id, keys=to_json(keys)))


def drop_absorbed_keys(tx: Connection, pair: Pair) -> None:
    """Take all keys from the absorbed contact: it is found through the kept one from now on."""
    tx.execute(DROP_KEYS, pair.given(contact_id=pair.absorbed_id))


def set_primary_keys(tx: Connection, pair: Pair, primary_keys: Sequence[str]) -> None:
    """Mark which of the kept contact's keys are those of its phone and email."""
    tx.execute(SET_PRIMARY_KEYS, pair.given(contact_id=pair.kept_id, primary_keys=list(primary_keys)))


def count_moving(tx: Connection, workspace_id: int, absorbed_id: int) -> dict[str, int]:
    """Return how many rows of each table a merge of the contact would move, for its preview."""
    given = {"workspace_id": workspace_id, "absorbed_id": absorbed_id}
    return {table: int(tx.execute(statement, given).scalar_one()) for table, statement in COUNT.items()}
