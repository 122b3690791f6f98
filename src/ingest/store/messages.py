"""Messages: stored once, whoever delivers them how often. The unique key (channel, hash of the provider's id) decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(slots=True)
class NewMessage:
    """A message about to be stored. `content` is JSON text or None; times are aware UTC."""

    workspace_id: int
    contact_id: int
    conversation_id: int | None
    channel_id: int
    identity_id: int
    external_id: str
    external_hash: str
    traffic: str
    source: str
    kind: str
    text: str
    content: str | None
    sent_at: datetime
    accepted_at: datetime
    sequence: int
    is_late: bool
    is_automatic: bool
    status: str | None
    trace_id: str


ADD = text("""
    insert into message (workspace_id, contact_id, origin_contact_id, conversation_id, channel_id, identity_id, external_id,
                         external_hash, traffic, source, kind, text, content, sent_at, accepted_at, sequence, is_late,
                         is_automatic, status, trace_id)
    select workspace_id, contact_id, contact_id, conversation_id, channel_id, identity_id, external_id, external_hash,
           traffic, source, kind, text, content::jsonb, sent_at, accepted_at, sequence, is_late, is_automatic, status,
           trace_id
    from unnest(
        cast(:workspace_ids as bigint[]), cast(:contact_ids as bigint[]), cast(:conversation_ids as bigint[]),
        cast(:channel_ids as bigint[]), cast(:identity_ids as bigint[]), cast(:external_ids as text[]),
        cast(:hashes as uuid[]), cast(:traffics as text[]), cast(:sources as text[]), cast(:kinds as text[]),
        cast(:texts as text[]), cast(:contents as text[]), cast(:sent_ats as timestamptz[]),
        cast(:accepted_ats as timestamptz[]), cast(:sequences as int[]), cast(:lates as boolean[]),
        cast(:automatics as boolean[]), cast(:statuses as text[]), cast(:traces as uuid[])
    ) as new (workspace_id, contact_id, conversation_id, channel_id, identity_id, external_id, external_hash, traffic, source,
              kind, text, content, sent_at, accepted_at, sequence, is_late, is_automatic, status, trace_id)
    where not exists (
        select from message_fingerprint
        where message_fingerprint.channel_id = new.channel_id and message_fingerprint.external_hash = new.external_hash
    ) and not exists (
        select from dropped_message
        where dropped_message.channel_id = new.channel_id and dropped_message.external_hash = new.external_hash
    )
    on conflict (channel_id, external_hash) do nothing
    returning id, channel_id, encode(uuid_send(external_hash), 'hex')
""")

ADD_CONTENTS = text("""
    insert into attachment_content (workspace_id, message_id, position, content)
    select * from unnest(cast(:workspace_ids as bigint[]), cast(:message_ids as bigint[]), cast(:positions as smallint[]),
                         cast(:contents as bytea[]))
    on conflict do nothing
""")

ADD_DROPPED = text("""
    insert into dropped_message (workspace_id, contact_id, channel_id, external_hash, reason)
    select * from unnest(cast(:workspace_ids as bigint[]), cast(:contact_ids as bigint[]), cast(:channel_ids as bigint[]),
                         cast(:hashes as uuid[]), cast(:reasons as text[]))
    on conflict do nothing
    returning channel_id, encode(uuid_send(external_hash), 'hex')
""")

FIND_STORED = text("""
    select message.channel_id, encode(uuid_send(message.external_hash), 'hex')
    from unnest(cast(:channel_ids as bigint[]), cast(:hashes as uuid[])) as wanted (channel_id, external_hash)
    join message using (channel_id, external_hash)
""")

MessageKey = tuple[int, str]
"""A channel's id and the hash of the provider's message id (`domain.messages`): what makes a message unique."""

LAST_NUMBER = text("select coalesce(pg_sequence_last_value(pg_get_serial_sequence('message', 'id')::regclass), 0)")


def add_messages(tx: Connection, new: Sequence[NewMessage]) -> dict[MessageKey, int]:
    """Store the messages and return the ids of those that were not there yet, by their key.

    A message is left out when it is stored already, or was, and its contact has been deleted since, or when it came before
    and was dropped: an unblock brings nothing back. Repeating is harmless.
    """
    if not new:
        return {}
    rows = tx.execute(ADD, _columns(new))
    return {(channel_id, digest): message_id for message_id, channel_id, digest in rows.all()}


def add_attachment_contents(tx: Connection, contents: Sequence[tuple[int, int, int, bytes]]) -> None:
    """Keep attachments' bytes: (workspace, message, position, content)."""
    if contents:
        workspace_ids, message_ids, positions, blobs = (list(column) for column in zip(*contents, strict=True))
        tx.execute(
            ADD_CONTENTS,
            {"workspace_ids": workspace_ids, "message_ids": message_ids, "positions": positions, "contents": blobs},
        )


def add_dropped(tx: Connection, dropped: Sequence[tuple[int, int, int, str, str]]) -> set[MessageKey]:
    """Note that messages came and were dropped: (workspace, contact, channel, hash, reason); return the new ones."""
    if not dropped:
        return set()
    workspace_ids, contact_ids, channel_ids, hashes, reasons = (list(column) for column in zip(*dropped, strict=True))
    rows = tx.execute(
        ADD_DROPPED,
        {
            "workspace_ids": workspace_ids,
            "contact_ids": contact_ids,
            "channel_ids": channel_ids,
            "hashes": hashes,
            "reasons": reasons,
        },
    )
    return {(channel_id, digest) for channel_id, digest in rows}


def find_stored(tx: Connection, keys: Sequence[MessageKey]) -> set[MessageKey]:
    """Return which of the messages are stored."""
    if not keys:
        return set()
    rows = tx.execute(FIND_STORED, {"channel_ids": [key[0] for key in keys], "hashes": [key[1] for key in keys]})
    return {(channel_id, digest) for channel_id, digest in rows}


def _columns(new: Sequence[NewMessage]) -> dict[str, list[Any]]:
    return {
        "workspace_ids": [each.workspace_id for each in new],
        "contact_ids": [each.contact_id for each in new],
        "conversation_ids": [each.conversation_id for each in new],
        "channel_ids": [each.channel_id for each in new],
        "identity_ids": [each.identity_id for each in new],
        "external_ids": [each.external_id for each in new],
        "hashes": [each.external_hash for each in new],
        "traffics": [each.traffic for each in new],
        "sources": [each.source for each in new],
        "kinds": [each.kind for each in new],
        "texts": [each.text for each in new],
        "contents": [each.content for each in new],
        "sent_ats": [each.sent_at for each in new],
        "accepted_ats": [each.accepted_at for each in new],
        "sequences": [each.sequence for each in new],
        "lates": [each.is_late for each in new],
        "automatics": [each.is_automatic for each in new],
        "statuses": [each.status for each in new],
        "traces": [each.trace_id for each in new],
    }


def last_number(tx: Connection) -> int:
    """Return the number given last to a message of any workspace: how fast it grows tells how many come."""
    return int(tx.execute(LAST_NUMBER).scalar_one())
