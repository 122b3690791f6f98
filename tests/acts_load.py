"""Rows by the thousand for measuring the acts: one statement a table."""

from sqlalchemy import Connection, text

CONTACTS = text("""
    insert into contact (workspace_id, first_name, last_name, phone, email, source, last_message_at, activity_hour)
    select :workspace_id, 'Person', 'Number ' || n, '+6012' || lpad(n::text, 8, '0'), 'person' || n || '@example.com',
           'channel', now(), 1
    from generate_series(:first, :first + :count - 1) as n
    returning id
""")
IDENTITIES = text("""
    insert into identity (workspace_id, channel_id, address, contact_id, origin_contact_id, connected_at)
    select :workspace_id, :channel_id, 'load-' || :channel_id || '-' || id, id, id, now()
    from unnest(cast(:ids as bigint[])) as id
""")
KEYS = text("""
    insert into contact_key (workspace_id, contact_id, key, match_key, origin_contact_id)
    select :workspace_id, id, key, key, id from unnest(cast(:ids as bigint[])) as id,
           lateral (values ('tel:+load' || id), ('mailto:load' || id || '@example.com')) as k (key)
""")
CONVERSATIONS = text("""
    with made as (
        insert into conversation (workspace_id, contact_id, origin_contact_id, opened_at, opened_source)
        select :workspace_id, id, id, now(), 'contact' from unnest(cast(:ids as bigint[])) as id
        returning id, contact_id
    )
    update contact set conversation_id = made.id, status = 'open' from made
    where contact.workspace_id = :workspace_id and contact.id = made.contact_id
""")
MESSAGES = text("""
    insert into message (workspace_id, contact_id, origin_contact_id, conversation_id, channel_id, external_id, external_hash,
                         traffic, source, kind, text, sent_at, accepted_at)
    select :workspace_id, contact.id, contact.id, conversation_id, :channel_id, 'wamid.' || contact.id || '.' || n,
           md5(:channel_id || '.' || contact.id || '.' || n)::uuid, 'incoming', 'contact', 'text',
           'message number ' || n || ' of a contact', now() - make_interval(secs => n), now()
    from contact, generate_series(1, :each) as n
    where contact.workspace_id = :workspace_id and contact.id = any(:ids)
""")


def load_contacts(
    tx: Connection, workspace_id: int, channel_id: int, count: int, messages_each: int, *, first: int = 1
) -> list[int]:
    """Make contacts, each with an identity, two keys, an open conversation and messages; return their ids."""
    given = {
        "workspace_id": workspace_id,
        "channel_id": channel_id,
        "count": count,
        "each": messages_each,
        "first": first,
    }
    ids = sorted(tx.scalars(CONTACTS, given))
    given["ids"] = ids
    for statement in (IDENTITIES, KEYS, CONVERSATIONS, *([MESSAGES] if messages_each else [])):
        tx.execute(statement, given)
    return ids
