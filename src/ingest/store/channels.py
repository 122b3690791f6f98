"""Channels and the apps that serve several of them: where a webhook call or an account in a payload belongs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from ingest.store.sealing import Sealer, Secrets, app_owner, channel_owner


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a webhook URL stands for: one channel, or an app whose payloads name the account.

    `channel_id` is 0 for an app, `app_id` 0 for a channel that belongs to none.
    """

    workspace_id: int
    channel_id: int
    app_id: int
    code: str
    account: str
    settings: dict[str, str]
    secrets: Secrets = field(repr=False)


FIND_CHANNEL = text("""
    select workspace_id, id, coalesce(app_id, 0), code, account, settings, secrets from channel where id = :id
""")
FIND_BRIDGES = text("""
    select workspace_id, id, coalesce(app_id, 0), code, account, settings, secrets from channel
    where code = 'custom' and (account = :name or (account = '' and cast(id as text) = :name))
    order by id
""")
FIND_APP = text("select workspace_id, 0, id, code, '', settings, secrets from app where id = :id")
LIST_ENDPOINTS = text("""
    select workspace_id, id, coalesce(app_id, 0), code, account, settings, secrets from channel where id = any(:channel_ids)
    union all
    select workspace_id, 0, id, code, '', settings, secrets from app where id = any(:app_ids)
""")
FIND_ACCOUNTS = text("""
    select wanted.workspace_id, wanted.code, wanted.account, min(channel.id)
    from unnest(cast(:workspace_ids as bigint[]), cast(:codes as text[]), cast(:accounts as text[]))
         as wanted (workspace_id, code, account)
    join channel using (workspace_id, code, account)
    group by 1, 2, 3
""")


def find_channel_endpoint(tx: Connection, sealer: Sealer, channel_id: int) -> Endpoint | None:
    """Return where calls to a channel's URL belong, or None. Raises BadSetting when its secrets cannot be opened."""
    row = tx.execute(FIND_CHANNEL, {"id": channel_id}).one_or_none()
    return None if row is None else _endpoint(row, sealer)


def find_app_endpoint(tx: Connection, sealer: Sealer, app_id: int) -> Endpoint | None:
    """Return where calls to an app's URL belong, or None."""
    row = tx.execute(FIND_APP, {"id": app_id}).one_or_none()
    return None if row is None else _endpoint(row, sealer)


def list_bridge_endpoints(tx: Connection, sealer: Sealer, name: str) -> list[Endpoint]:
    """Return the custom channels that bridges call by this `channelId`: those named so, or whose id it is.

    Several workspaces may use one name; the token of a request tells which of them is meant.
    """
    return [_endpoint(row, sealer) for row in tx.execute(FIND_BRIDGES, {"name": name})]


def list_endpoints(
    tx: Connection, sealer: Sealer, channel_ids: Sequence[int], app_ids: Sequence[int]
) -> dict[tuple[int, int], Endpoint]:
    """Return the endpoints that exist, by (channel id, 0) and (0, app id)."""
    rows = tx.execute(LIST_ENDPOINTS, {"channel_ids": list(channel_ids), "app_ids": list(app_ids)})
    found = [_endpoint(row, sealer) for row in rows]
    return {(each.channel_id, 0 if each.channel_id else each.app_id): each for each in found}


def find_accounts(tx: Connection, wanted: Sequence[tuple[int, str, str]]) -> dict[tuple[int, str, str], int]:
    """Return the channel of each (workspace, code, account) that has one."""
    if not wanted:
        return {}
    workspace_ids, codes, accounts = (list(column) for column in zip(*wanted, strict=True))
    rows = tx.execute(FIND_ACCOUNTS, {"workspace_ids": workspace_ids, "codes": codes, "accounts": accounts})
    return {(workspace_id, code, account): channel_id for workspace_id, code, account, channel_id in rows}


def _endpoint(row: Any, sealer: Sealer) -> Endpoint:
    workspace_id, channel_id, app_id, code, account, settings, sealed = row
    owner = channel_owner(workspace_id, channel_id) if channel_id else app_owner(workspace_id, app_id)
    return Endpoint(workspace_id, channel_id, app_id, code, account, settings, sealer.open(owner, sealed))
