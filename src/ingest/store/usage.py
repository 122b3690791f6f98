"""Monthly active contacts: how many a billing cycle counted, and why a contact was."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class CycleCount:
    """What a cycle counted. `distinct_after_merges` counts a merged contact once, for information."""

    cycle_start: date
    counted: int
    distinct_after_merges: int
    by_reason: dict[str, int]


@dataclass(frozen=True, slots=True)
class CountedBecause:
    """Why a contact counted in a cycle: its first message there, and on which channel."""

    cycle_start: date
    channel_id: int | None
    reason: str
    at: datetime


CYCLE = text("""
    select count(*), count(distinct coalesce(contact.merged_into, active.contact_id)),
           coalesce((select jsonb_object_agg(reason, number) from (
               select reason, count(*) as number from active_contact
               where workspace_id = :workspace_id and cycle_start = :cycle_start group by reason) as by_reason), '{}'::jsonb)
    from active_contact as active
    left join contact on contact.workspace_id = active.workspace_id and contact.id = active.contact_id
    where active.workspace_id = :workspace_id and active.cycle_start = :cycle_start
""")
CYCLES = text("""
    select distinct cycle_start from active_contact where workspace_id = :workspace_id order by cycle_start desc limit :limit
""")
WHY = text("""
    select cycle_start, channel_id, reason, at from active_contact
    where workspace_id = :workspace_id and contact_id = :contact_id order by cycle_start desc limit :limit
""")
BILLING = text("select time_zone, cycle_day, settings from workspace where id = :workspace_id")


def get_billing(tx: Connection, workspace_id: int) -> tuple[str, int, int | None]:
    """Return the workspace's time zone, the day its cycles start, and how many contacts it may have, if that is set."""
    row = tx.execute(BILLING, {"workspace_id": workspace_id}).one()
    limit = row.settings.get("active_contact_limit")
    return row.time_zone, row.cycle_day, limit if isinstance(limit, int) and limit > 0 else None


def count_cycle(tx: Connection, workspace_id: int, cycle_start: date) -> CycleCount:
    """Return what the cycle counted."""
    row = tx.execute(CYCLE, {"workspace_id": workspace_id, "cycle_start": cycle_start}).one()
    return CycleCount(cycle_start, row[0], row[1], row[2])


def list_cycles(tx: Connection, workspace_id: int, limit: int) -> list[date]:
    """Return the starts of the cycles that counted anybody, newest first."""
    return list(tx.scalars(CYCLES, {"workspace_id": workspace_id, "limit": limit}))


def list_reasons(tx: Connection, workspace_id: int, contact_id: int, limit: int) -> list[CountedBecause]:
    """Return the cycles in which the contact counted and why, newest first."""
    rows = tx.execute(WHY, {"workspace_id": workspace_id, "contact_id": contact_id, "limit": limit})
    return [CountedBecause(*row) for row in rows]
