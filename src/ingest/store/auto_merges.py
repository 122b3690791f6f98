"""Auto-merge rules, and the suggestions that one would merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

Record = Row[Any]
"""A row as it was read."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open suggestion that a rule would merge: the older contact absorbs the newer one."""

    suggestion_id: int
    kept_id: int
    absorbed_id: int


ADD = text("""
    insert into auto_merge_rule (workspace_id, name, key_kind, agreeing_fields, hourly_cap, created_at)
    values (:workspace_id, :name, :key_kind, :agreeing_fields, :hourly_cap, :now)
    on conflict (workspace_id, name) do nothing returning id
""")
GET = text("""
    select * from auto_merge_rule
    where workspace_id = :workspace_id and (cast(:id as bigint) is null or id = :id) order by id
""")
SWITCH = text("""
    update auto_merge_rule set is_enabled = :is_enabled where workspace_id = :workspace_id and id = :id returning id
""")
REMOVE = text("delete from auto_merge_rule where workspace_id = :workspace_id and id = :id")
WORKSPACES = text("select distinct workspace_id from auto_merge_rule where is_enabled order by 1")

# Exact pairs whose key both sides have proved, with every field of the rule the same and not empty.
CANDIDATES = text("""
    select pair.id, pair.low_contact_id, pair.high_contact_id
    from merge_suggestion as pair
    join contact as low on low.workspace_id = pair.workspace_id and low.id = pair.low_contact_id
    join contact as high on high.workspace_id = pair.workspace_id and high.id = pair.high_contact_id
    where pair.workspace_id = :workspace_id and pair.state = 'open' and pair.kind = 'exact'
      and low.merged_into is null and high.merged_into is null
      and low.deletion_job_id is null and high.deletion_job_id is null
      and low.blocked_at is null and high.blocked_at is null
      and exists (
          select from contact_key as mine
          join contact_key as theirs on theirs.workspace_id = mine.workspace_id and theirs.key = mine.key
          where mine.workspace_id = pair.workspace_id and mine.contact_id = low.id and theirs.contact_id = high.id
            and starts_with(mine.key, :scheme) and mine.is_verified and theirs.is_verified)
      and not exists (
          select from unnest(cast(:agreeing_fields as text[])) as field
          where coalesce(to_jsonb(low) ->> field, '') = ''
             or lower(to_jsonb(low) ->> field) is distinct from lower(to_jsonb(high) ->> field))
    order by pair.id limit :limit
""")
MERGED_LATELY = text("""
    select count(*) from merge_record
    where workspace_id = :workspace_id and rule_id = :id and merged_at > cast(:since as timestamptz)
""")


def add_rule(
    tx: Connection,
    workspace_id: int,
    name: str,
    *,
    key_kind: str,
    agreeing_fields: Sequence[str],
    hourly_cap: int,
    now: datetime,
) -> int | None:
    """Add a rule, switched off, and return its id, or None where the name is taken."""
    given = {
        "workspace_id": workspace_id,
        "name": name,
        "key_kind": key_kind,
        "agreeing_fields": list(agreeing_fields),
        "hourly_cap": hourly_cap,
        "now": now,
    }
    found: int | None = tx.scalar(ADD, given)
    return found


def find_rule(tx: Connection, workspace_id: int, rule_id: int) -> Record | None:
    """Return a rule, or None."""
    return tx.execute(GET, {"workspace_id": workspace_id, "id": rule_id}).first()


def list_rules(tx: Connection, workspace_id: int) -> list[Record]:
    """Return the workspace's rules, oldest first."""
    return list(tx.execute(GET, {"workspace_id": workspace_id, "id": None}))


def switch_rule(tx: Connection, workspace_id: int, rule_id: int, *, is_enabled: bool) -> bool:
    """Switch a rule on or off; return whether there is one."""
    given = {"workspace_id": workspace_id, "id": rule_id, "is_enabled": is_enabled}
    return tx.execute(SWITCH, given).first() is not None


def remove_rule(tx: Connection, workspace_id: int, rule_id: int) -> bool:
    """Remove a rule; return whether there was one. What it has merged stays merged and reversible."""
    return bool(tx.execute(REMOVE, {"workspace_id": workspace_id, "id": rule_id}).rowcount)


def list_workspaces_with_rules(tx: Connection) -> list[int]:
    """Return the workspaces in which a rule is switched on."""
    return list(tx.scalars(WORKSPACES))


def list_candidates(tx: Connection, rule: Record, limit: int) -> list[Candidate]:
    """Return the pairs that the rule would merge now, oldest suggestion first."""
    given = {
        "workspace_id": rule.workspace_id,
        "scheme": "tel:" if rule.key_kind == "phone" else "mailto:",
        "agreeing_fields": rule.agreeing_fields,
        "limit": limit,
    }
    return [Candidate(*row) for row in tx.execute(CANDIDATES, given)]


def count_merged(tx: Connection, rule: Record, since: datetime) -> int:
    """Return how many merges the rule has made since then."""
    given = {"workspace_id": rule.workspace_id, "id": rule.id, "since": since}
    return int(tx.execute(MERGED_LATELY, given).scalar_one())
