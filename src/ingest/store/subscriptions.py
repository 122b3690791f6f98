"""Subscriptions: who wants to be told of which events, at which URL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription. `hook_id` is the subscriber's own id; `filters` narrow which events of the type are sent."""

    id: int
    hook_id: str
    name: str
    kind: str
    event_type: str
    url: str
    filters: dict[str, Any]
    created_at: datetime


COLUMNS = "id, hook_id, name, kind, event_type, url, filters, created_at"
FIND = text(f"select {COLUMNS} from webhook_subscription where workspace_id = :workspace_id and hook_id = :hook_id")  # noqa: S608
SAVE = text(f"""
    insert into webhook_subscription (workspace_id, hook_id, name, kind, event_type, url, filters)
    values (:workspace_id, :hook_id, :name, :kind, :event_type, :url, cast(:filters as jsonb))
    on conflict (workspace_id, hook_id) do update
    set name = excluded.name, event_type = excluded.event_type, url = excluded.url, filters = excluded.filters
    returning {COLUMNS}
""")  # noqa: S608
REMOVE = text("delete from webhook_subscription where workspace_id = :workspace_id and hook_id = :hook_id")


def find_subscription(tx: Connection, workspace_id: int, hook_id: str) -> Subscription | None:
    """Return the subscription under the subscriber's id, or None."""
    row = tx.execute(FIND, {"workspace_id": workspace_id, "hook_id": hook_id}).one_or_none()
    return None if row is None else Subscription(*row)


def save_subscription(
    tx: Connection,
    workspace_id: int,
    *,
    hook_id: str,
    name: str,
    kind: str,
    event_type: str,
    url: str,
    filters: dict[str, Any],
) -> Subscription:
    """Add the subscription, or replace the one under the same id."""
    row = tx.execute(
        SAVE,
        {
            "workspace_id": workspace_id,
            "hook_id": hook_id,
            "name": name,
            "kind": kind,
            "event_type": event_type,
            "url": url,
            "filters": msgspec.json.encode(filters).decode(),
        },
    ).one()
    return Subscription(*row)


def remove_subscription(tx: Connection, workspace_id: int, hook_id: str) -> bool:
    """Remove the subscription; return whether it was there."""
    return tx.execute(REMOVE, {"workspace_id": workspace_id, "hook_id": hook_id}).rowcount > 0
