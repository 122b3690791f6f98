"""What happens to messages after they were sent: statuses, edits, unsends, reactions.

Effects are kept as a set, and a message's state is computed from its set: the furthest status, the latest edit, gone if
ever unsent. So it does not matter in which order they come, how often, or whether they come before their message; those
that do wait for it, for a day.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from ingest.store.messages import MessageKey


@dataclass(frozen=True, slots=True)
class NewEffect:
    """An effect to record. `effect_hash` is the same for the same effect delivered again."""

    workspace_id: int
    channel_id: int
    target_hash: str
    effect_hash: str
    kind: str
    value: str
    content: str | None
    actor: str
    at: datetime


ADD = text("""
    insert into message_effect (workspace_id, channel_id, target_hash, effect_hash, kind, value, content, actor, at,
                                expires_at)
    select workspace_id, channel_id, target_hash, effect_hash, kind, value, content::jsonb, actor, at,
           now() + interval '24 hours'
    from unnest(cast(:workspace_ids as bigint[]), cast(:channel_ids as bigint[]), cast(:targets as uuid[]),
                cast(:hashes as uuid[]), cast(:kinds as text[]), cast(:values as text[]), cast(:contents as text[]),
                cast(:actors as text[]), cast(:ats as timestamptz[]))
         as new (workspace_id, channel_id, target_hash, effect_hash, kind, value, content, actor, at)
    order by channel_id, target_hash, effect_hash
    on conflict (channel_id, target_hash, effect_hash) do nothing
    returning channel_id, encode(uuid_send(target_hash), 'hex'), encode(uuid_send(effect_hash), 'hex')
""")

# Messages are locked in id order before they change: two workers applying effects wait in one direction only.
MEET = text("""
    with met as (
        select message_effect.workspace_id, message_effect.id as effect_id, message.id as message_id
        from unnest(cast(:channel_ids as bigint[]), cast(:hashes as uuid[])) as wanted (channel_id, target_hash)
        join message_effect using (channel_id, target_hash)
        join message on message.channel_id = wanted.channel_id and message.external_hash = wanted.target_hash
        where message_effect.message_id is null
        order by message.workspace_id, message.id
        for no key update of message
    )
    update message_effect set message_id = met.message_id, expires_at = null
    from met
    where message_effect.workspace_id = met.workspace_id and message_effect.id = met.effect_id
      and message_effect.message_id is null
    returning message_effect.workspace_id, met.message_id
""")

RECOMPUTE = text("""
    with touched as (
        select distinct workspace_id, message_id
        from unnest(cast(:workspace_ids as bigint[]), cast(:message_ids as bigint[])) as pair (workspace_id, message_id)
    ), state as (
        select workspace_id, message_id,
               max(case value when 'sent' then 1 when 'failed' then 2 when 'delivered' then 3 when 'read' then 4 end)
                   filter (where kind = 'status') as rank,
               (array_agg(value order by at desc, effect_hash desc) filter (where kind = 'edit'))[1] as edited_text,
               max(at) filter (where kind = 'edit') as edited_at,
               min(at) filter (where kind = 'delete') as deleted_at
        from touched join message_effect using (workspace_id, message_id)
        group by 1, 2
    ), applied as (
        update message
        set status = case when traffic = 'outgoing' then
                coalesce((array['sent', 'failed', 'delivered', 'read'])[
                    greatest(rank, case status when 'sent' then 1 when 'failed' then 2 when 'delivered' then 3
                                               when 'read' then 4 end)], status)
                else status end,
            content = case when state.deleted_at is not null then jsonb_build_object('deleted', true)
                           when state.edited_text is not null
                           then jsonb_build_object('original_text', text) || coalesce(content, '{}')
                           else content end,
            text = case when state.deleted_at is not null then '' else coalesce(state.edited_text, text) end,
            edited_at = coalesce(state.edited_at, message.edited_at),
            deleted_at = coalesce(state.deleted_at, message.deleted_at)
        from state
        where message.workspace_id = state.workspace_id and message.id = state.message_id
        returning message.workspace_id, message.id, message.deleted_at is not null as is_deleted
    ), forgotten as (
        update message_effect set value = '', content = null
        from applied
        where message_effect.workspace_id = applied.workspace_id and message_effect.message_id = applied.id
          and applied.is_deleted and message_effect.kind = 'edit'
    )
    delete from attachment_content using applied
    where attachment_content.workspace_id = applied.workspace_id and attachment_content.message_id = applied.id
      and applied.is_deleted
""")

ANY_WAITING = text("""
    select exists (select from message_effect where message_id is null and channel_id = any(:channel_ids))
""")

ADD_WATERMARKS = text("""
    insert into watermark (workspace_id, channel_id, address, status, up_to)
    select workspace_id, channel_id, address, status, max(up_to)
    from unnest(cast(:workspace_ids as bigint[]), cast(:channel_ids as bigint[]), cast(:addresses as text[]),
                cast(:statuses as text[]), cast(:up_tos as timestamptz[]))
         as new (workspace_id, channel_id, address, status, up_to)
    group by 1, 2, 3, 4
    order by 2, 3, 4
    on conflict (channel_id, address, status) do update set up_to = greatest(watermark.up_to, excluded.up_to)
""")

# Every outgoing message of the addresses that is no further than its watermark says.
APPLY_WATERMARKS = text("""
    with reached as (
        select message.workspace_id, message.id,
               max(case watermark.status when 'delivered' then 3 else 4 end) as rank
        from unnest(cast(:channel_ids as bigint[]), cast(:addresses as text[])) as wanted (channel_id, address)
        join watermark using (channel_id, address)
        join identity using (channel_id, address)
        join message on message.workspace_id = identity.workspace_id and message.contact_id = identity.contact_id
                    and message.identity_id = coalesce(identity.alias_of, identity.id)
                    and message.traffic = 'outgoing' and message.sent_at <= watermark.up_to
        where coalesce(message.status, 'queued') <> watermark.status and coalesce(message.status, 'queued') <> 'read'
        group by 1, 2
        order by 1, 2
    )
    update message
    set status = (array['sent', 'failed', 'delivered', 'read'])[
            greatest(reached.rank, case status when 'delivered' then 3 when 'read' then 4 else 0 end)]
    from reached
    where message.workspace_id = reached.workspace_id and message.id = reached.id
""")

APPLY_ALL_WAITING = text("""
    select distinct message_effect.channel_id, encode(uuid_send(message_effect.target_hash), 'hex')
    from message_effect
    join message on message.channel_id = message_effect.channel_id and message.external_hash = message_effect.target_hash
    where message_effect.message_id is null and message_effect.channel_id = any(:channel_ids)
    limit 1000
""")


def add_effects(tx: Connection, new: Sequence[NewEffect]) -> set[tuple[int, str, str]]:
    """Record the effects; return the (channel, target, effect) keys of those not recorded before."""
    if not new:
        return set()
    rows = tx.execute(
        ADD,
        {
            "workspace_ids": [each.workspace_id for each in new],
            "channel_ids": [each.channel_id for each in new],
            "targets": [each.target_hash for each in new],
            "hashes": [each.effect_hash for each in new],
            "kinds": [each.kind for each in new],
            "values": [each.value for each in new],
            "contents": [each.content for each in new],
            "actors": [each.actor for each in new],
            "ats": [each.at for each in new],
        },
    )
    return {(channel_id, target, effect) for channel_id, target, effect in rows}


def apply_effects(tx: Connection, keys: Collection[MessageKey]) -> int:
    """Bring waiting effects and messages of these keys together; return how many messages changed. Safe to repeat."""
    channel_ids = sorted({key[0] for key in keys})
    # Nearly always nothing waits: one look at the index of waiting effects then stands for a look-up a message.
    if not keys or not tx.execute(ANY_WAITING, {"channel_ids": channel_ids}).scalar_one():
        return 0
    met = tx.execute(MEET, {"channel_ids": [key[0] for key in keys], "hashes": [key[1] for key in keys]}).all()
    if met:
        tx.execute(RECOMPUTE, {"workspace_ids": [row[0] for row in met], "message_ids": [row[1] for row in met]})
    return len({row[1] for row in met})


def list_waiting_targets(tx: Connection, channel_ids: Sequence[int]) -> list[MessageKey]:
    """Return at most 1,000 keys whose effects wait although their message is there: two transactions had missed each other."""
    rows = tx.execute(APPLY_ALL_WAITING, {"channel_ids": list(channel_ids)})
    return [(channel_id, target) for channel_id, target in rows]


def add_watermarks(tx: Connection, watermarks: Sequence[tuple[int, int, str, str, datetime]]) -> None:
    """Record "all up to then": (workspace, channel, address, status, up to). The furthest counts."""
    if watermarks:
        workspace_ids, channel_ids, addresses, statuses, up_tos = (
            list(column) for column in zip(*watermarks, strict=True)
        )
        tx.execute(
            ADD_WATERMARKS,
            {
                "workspace_ids": workspace_ids,
                "channel_ids": channel_ids,
                "addresses": addresses,
                "statuses": statuses,
                "up_tos": up_tos,
            },
        )


def apply_watermarks(tx: Connection, addresses: Collection[tuple[int, str]]) -> None:
    """Move the outgoing messages to these (channel, address) pairs as far as their watermarks say."""
    if addresses:
        tx.execute(
            APPLY_WATERMARKS,
            {"channel_ids": [each[0] for each in addresses], "addresses": [each[1] for each in addresses]},
        )
