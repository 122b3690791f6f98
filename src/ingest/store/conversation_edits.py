"""Conversations as people and programs change them: opened, closed, snoozed, woken, as sets. Contacts are locked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Closing:
    """How conversations are closed: by whom, with which note."""

    source: str
    user_id: int | None
    category: str | None = None
    summary: str | None = None


OPEN = text("""
    with opened as (
        insert into conversation (workspace_id, contact_id, origin_contact_id, opened_at, opened_source)
        select :workspace_id, id, id, :now, :source from unnest(cast(:ids as bigint[])) as new (id)
        returning id, contact_id
    )
    update contact set status = 'open', conversation_id = opened.id, snoozed_until = null, updated_at = :now
    from opened where contact.workspace_id = :workspace_id and contact.id = opened.contact_id
    returning contact.id, opened.id
""")

CLOSE = text("""
    with closed as (
        update conversation
        set status = 'closed', closed_at = :now, closed_source = :source, closed_by = :user_id, category = :category,
            summary = :summary
        where workspace_id = :workspace_id and contact_id = any(:ids) and status <> 'closed'
        returning id, contact_id
    )
    update contact set status = 'closed', conversation_id = closed.id, snoozed_until = null, updated_at = :now
    from closed where contact.workspace_id = :workspace_id and contact.id = closed.contact_id
    returning contact.id, closed.id
""")

SNOOZE = text("""
    with snoozed as (
        update conversation set status = 'snoozed'
        where workspace_id = :workspace_id and contact_id = any(:ids) and status <> 'closed'
        returning id, contact_id
    )
    update contact set status = 'snoozed', conversation_id = snoozed.id, snoozed_until = :until, updated_at = :now
    from snoozed where contact.workspace_id = :workspace_id and contact.id = snoozed.contact_id
    returning contact.id, snoozed.id
""")

WAKE = text("""
    with woken as (
        update conversation set status = 'open'
        where workspace_id = :workspace_id and contact_id = any(:ids) and status = 'snoozed'
        returning id, contact_id
    )
    update contact set status = 'open', snoozed_until = null, updated_at = :now
    from woken where contact.workspace_id = :workspace_id and contact.id = woken.contact_id
    returning contact.id, woken.id
""")

IS_SNOOZE_OVER = text("""
    select status = 'snoozed' and snoozed_until <= :now and blocked_at is null from contact
    where workspace_id = :workspace_id and id = :id
""")


def open_by_hand(
    tx: Connection, workspace_id: int, ids: Sequence[int], source: str, now: datetime
) -> list[tuple[int, int]]:
    """Open a conversation for each contact, which has none; return (contact, conversation) pairs."""
    given = {"workspace_id": workspace_id, "ids": list(ids), "source": source, "now": now}
    return [(row[0], row[1]) for row in tx.execute(OPEN, given)]


def close_by_hand(
    tx: Connection, workspace_id: int, ids: Sequence[int], closing: Closing, now: datetime
) -> list[tuple[int, int]]:
    """Close the contacts' conversations; return (contact, conversation) pairs of those that had one."""
    given = {"workspace_id": workspace_id, "ids": list(ids), "now": now}
    how = {
        "source": closing.source,
        "user_id": closing.user_id,
        "category": closing.category,
        "summary": closing.summary,
    }
    return [(row[0], row[1]) for row in tx.execute(CLOSE, {**given, **how})]


def snooze(
    tx: Connection, workspace_id: int, ids: Sequence[int], until: datetime, now: datetime
) -> list[tuple[int, int]]:
    """Put the contacts' open conversations to sleep until then; return (contact, conversation) pairs."""
    given = {"workspace_id": workspace_id, "ids": list(ids), "until": until, "now": now}
    return [(row[0], row[1]) for row in tx.execute(SNOOZE, given)]


def wake(tx: Connection, workspace_id: int, ids: Sequence[int], now: datetime) -> list[tuple[int, int]]:
    """Bring the contacts' snoozed conversations back to open; return (contact, conversation) pairs."""
    given = {"workspace_id": workspace_id, "ids": list(ids), "now": now}
    return [(row[0], row[1]) for row in tx.execute(WAKE, given)]


def is_snooze_over(tx: Connection, workspace_id: int, contact_id: int, now: datetime) -> bool:
    """Return whether the contact, which is locked, is snoozed until a time that has come, and not blocked."""
    given = {"workspace_id": workspace_id, "id": contact_id, "now": now}
    return bool(tx.scalar(IS_SNOOZE_OVER, given))
