"""What is in the databases before the load begins: known senders for all three systems, and millions of rows for ours.

The known senders of ours come through its own resolve step. Further contacts are copies of one of them, made by one
statement a table, with indexes and triggers set aside meanwhile: the rows are the same, only faster.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import psycopg

from benchmarks.bodies import PHONE_NUMBER_ID, digits_of, whatsapp_body, whatsapp_headers
from ingest.channels.base import Webhook
from ingest.channels.registry import get_adapter
from ingest.domain.events import Sender
from ingest.domain.profiles import facts_hash
from ingest.pipeline.resolve import Resolver, resolve_requests
from ingest.runtime import Runtime
from ingest.store.intake import RawRequest, encode_requests

BATCH = 500
TABLES = ("contact", "identity", "contact_key", "conversation", "message", "active_contact", "contact_event")
# Ids of copies: number + this, in every table, far above those that the pipeline gives out.
BASE = 10_000_000

NAIVE = """
    insert into naive_contact (id, name, phone, status, is_blocked, last_message_at)
    select n + 1, 'Sender ' || n, '+4477' || lpad(n::text, 8, '0'), 'open', false, now()
    from generate_series(0, %(count)s - 1) n;
    insert into naive_identity (id, channel_id, address, contact_id)
    select n + 1, 1, '4477' || lpad(n::text, 8, '0'), n + 1 from generate_series(0, %(count)s - 1) n;
    insert into naive_conversation (id, contact_id, status)
    select n + 1, n + 1, 'open' from generate_series(0, %(count)s - 1) n;
    insert into naive_message (id, channel_id, external_id, contact_id, conversation_id, text, sent_at)
    select n + 1, 1, 'wamid.known.' || n, n + 1, n + 1, 'Message ' || n, now() from generate_series(0, %(count)s - 1) n;
    select setval(pg_get_serial_sequence(name, 'id'), %(count)s + 1)
    from unnest(array['naive_contact', 'naive_identity', 'naive_conversation', 'naive_message']) name;
"""
FLOOR = """
    insert into floor_message (sender, external_id, text, sent_at)
    select '4477' || lpad(n::text, 8, '0'), 'wamid.known.' || n, 'Message ' || n, 0 from generate_series(0, %(count)s - 1) n
"""

COPIES = (
    """
    insert into contact (workspace_id, id, first_name, display_name, phone, phone_valid, country_code, provenance, status,
                         conversation_id, last_message_at, last_incoming_at, last_channel_id, activity_hour, profile_at,
                         profile_hash, active_cycle, source)
    select workspace_id, %(base)s + n, 'Sender ' || n, 'Sender ' || n, '+4477' || lpad(n::text, 8, '0'), phone_valid,
           country_code, provenance, status, %(base)s + n, last_message_at, last_incoming_at, last_channel_id,
           activity_hour, profile_at, told, active_cycle, source
    from contact, told_by where id = %(model)s
    """,
    """
    insert into identity (workspace_id, id, channel_id, address, contact_id, origin_contact_id, profile, connected_at)
    select workspace_id, %(base)s + n, channel_id, '4477' || lpad(n::text, 8, '0'), %(base)s + n, %(base)s + n,
           profile || jsonb_build_object('phone', '+4477' || lpad(n::text, 8, '0')), connected_at
    from identity, told_by where contact_id = %(model)s
    """,
    """
    insert into contact_key (workspace_id, contact_id, key, match_key, is_primary, is_verified, origin_contact_id)
    select workspace_id, %(base)s + n, 'tel:+4477' || lpad(n::text, 8, '0'), 'tel:+4477' || lpad(n::text, 8, '0'),
           is_primary, is_verified, %(base)s + n
    from contact_key, told_by where contact_id = %(model)s
    """,
    """
    insert into conversation (workspace_id, id, contact_id, origin_contact_id, status, opened_at, opened_source,
                              opened_channel_id)
    select workspace_id, %(base)s + n, %(base)s + n, %(base)s + n, status, opened_at, opened_source, opened_channel_id
    from conversation, told_by where contact_id = %(model)s
    """,
    """
    insert into active_contact (workspace_id, cycle_start, contact_id, channel_id, reason)
    select workspace_id, cycle_start, %(base)s + n, channel_id, reason from active_contact, told_by where contact_id = %(model)s
    """,
    """
    insert into contact_event (workspace_id, contact_id, origin_contact_id, conversation_id, kind, source)
    select workspace_id, %(base)s + n, %(base)s + n, %(base)s + n, kind, source
    from contact_event, told_by where contact_id = %(model)s
    """,
)
MESSAGES = """
    insert into message (workspace_id, contact_id, origin_contact_id, conversation_id, channel_id, identity_id, external_id,
                         external_hash, traffic, source, kind, text, sent_at, accepted_at)
    select c.workspace_id, c.id, c.id, c.conversation_id, c.last_channel_id, i.id, 'wamid.stored.' || c.id || '.' || n,
           md5('wamid.stored.' || c.id || '.' || n)::uuid, 'incoming', 'contact', 'text', 'Message ' || n || ' of many',
           now() - make_interval(mins => n), now() - make_interval(mins => n)
    from contact c join identity i on i.workspace_id = c.workspace_id and i.contact_id = c.id, generate_series(1, %(each)s) n
    where c.workspace_id = 1 and c.id between %(low)s and %(high)s
"""


def know_senders(runtime: Runtime, workspace_id: int, channel_id: int, count: int) -> None:
    """Send one message of each sender through the resolve step."""
    resolver = Resolver(runtime.sealer)
    now = datetime.now(UTC)
    for low in range(0, count, BATCH):
        requests = []
        for sender in range(low, min(low + BATCH, count)):
            body = whatsapp_body(sender, f"wamid.known.{sender}", int(now.timestamp()), f"Message {sender}")
            url, headers = f"http://127.0.0.1/webhooks/{channel_id}", whatsapp_headers(body)
            requests.append(RawRequest(workspace_id, channel_id, 0, now, uuid4().bytes, "POST", url, headers, body))
        with runtime.unit_of_work() as uow:
            resolve_requests(uow, resolver, [encode_requests(requests)])
    _analyze(runtime.conninfo)


def know_senders_of_naive(conninfo: str, count: int) -> None:
    """Make the senders known to the comparator *naive*."""
    _fill(conninfo, NAIVE, count)


def know_senders_of_floor(conninfo: str, count: int) -> None:
    """Give the comparator *floor* as many messages as the others have; it knows no senders."""
    _fill(conninfo, FLOOR, count)


def store_contacts(conninfo: str, first: int, count: int) -> range:
    """Make senders from number `first` on contacts, like the first one that is known; return their contact ids."""
    with psycopg.connect(conninfo) as tx:
        tx.execute("set local session_replication_role = replica")
        tx.execute("create temp table told_by (n bigint not null, told bigint) on commit drop")
        with tx.cursor().copy("copy told_by from stdin") as copy:
            for sender, told in _facts(first, count):
                copy.write_row((sender, told))
        indexes = _drop_indexes(tx)
        row = tx.execute("select min(id) from contact where phone = '+447700000000'").fetchone()
        for statement in COPIES:
            tx.execute(statement, {"base": BASE, "model": row[0] if row else 0})
        for table in ("contact", "identity", "conversation"):
            tx.execute(f"select setval(pg_get_serial_sequence('{table}', 'id'), (select max(id) from {table}))")
        _restore_indexes(tx, indexes)
    _analyze(conninfo)
    return range(BASE + first, BASE + first + count)


def store_messages(conninfo: str, contact_ids: range, each: int) -> float:
    """Store so many messages of each contact in the range of ids; return the seconds it took."""
    began = time.monotonic()
    with psycopg.connect(conninfo) as tx:
        tx.execute("set local session_replication_role = replica")
        indexes = _drop_indexes(tx) if each * len(contact_ids) > 1_000_000 else []
        for low in range(contact_ids.start, contact_ids.stop, 50_000):
            high = min(low + 50_000, contact_ids.stop) - 1
            tx.execute(MESSAGES, {"low": low, "high": high, "each": each})
        _restore_indexes(tx, indexes)
    _analyze(conninfo)
    return time.monotonic() - began


def _facts(first: int, count: int) -> list[tuple[int, int]]:
    """Return each sender with the hash of what its messages say about it, so that none of them is news."""
    body = whatsapp_body(first, "wamid.model", 0, "")
    hook = Webhook("POST", "", {}, body, {"phone_number_id": PHONE_NUMBER_ID}, {}, datetime.now(UTC))
    model = get_adapter("whatsapp_cloud").parse(hook)[0].sender
    assert model is not None
    return [(number, facts_hash(_named(model, number, digits_of(first)))) for number in range(first, first + count)]


def _named(model: Sender, number: int, digits: str) -> Sender:
    """Return what the sender of that number says: the model with its digits and name replaced."""
    phone = (model.phone or "").replace(digits, digits_of(number))
    return replace(model, external_id=digits_of(number), display_name=f"Sender {number}", phone=phone or None)


def _drop_indexes(tx: psycopg.Connection) -> list[str]:
    """Drop the indexes that no constraint rests on, and return how to make them again."""
    rows = tx.execute(
        """select indexdef, indexname from pg_indexes
           where tablename = any(%s) and indexname not in (select conname from pg_constraint)""",
        (list(TABLES),),
    ).fetchall()
    for _, name in rows:
        tx.execute(f"drop index {name}")
    return [definition for definition, _ in rows]


def _restore_indexes(tx: psycopg.Connection, definitions: list[str]) -> None:
    tx.execute("set local maintenance_work_mem = '512MB'")
    for definition in definitions:
        tx.execute(definition)


def _fill(conninfo: str, statements: str, count: int) -> None:
    with psycopg.connect(conninfo, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(statements, {"count": count})
    _analyze(conninfo)


def _analyze(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("vacuum analyze")
