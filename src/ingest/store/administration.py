"""The rows behind setting up: tokens, apps and channels."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

Record = Row[Any]
"""A row as it was read."""

RESERVE = text("select nextval(pg_get_serial_sequence(:table, 'id'))")
ADD_TOKEN = text("""
    insert into api_token (id, workspace_id, name, role, digest) values (:id, :workspace_id, :name, :role, :digest)
""")
ADD_CHANNEL = text("""
    insert into channel (id, workspace_id, app_id, code, name, account, settings, secrets)
    values (:id, :workspace_id, :app_id, :code, :name, :account, cast(:settings as jsonb), :secrets)
""")
SET_CHANNEL = text("""
    update channel set settings = cast(:settings as jsonb), secrets = :secrets, account = :account, updated_at = now()
    where id = :id
""")
GET_CHANNEL = text("select workspace_id, code, settings, secrets from channel where id = :id for update")
ADD_APP = text("""
    insert into app (id, workspace_id, code, name, settings, secrets)
    values (:id, :workspace_id, :code, :name, cast(:settings as jsonb), :secrets)
""")
SET_APP = text("update app set settings = cast(:settings as jsonb), secrets = :secrets where id = :id")
GET_APP = text("select workspace_id, code, settings, secrets from app where id = :id for update")
LIST_APPS = text("""
    select id, workspace_id, code, name, settings, secrets from app
    where cast(:workspace_id as bigint) is null or workspace_id = :workspace_id
    order by id
""")
LIST_CHANNELS = text("""
    select id, workspace_id, code, name, account, state, settings, secrets from channel
    where cast(:workspace_id as bigint) is null or workspace_id = :workspace_id
    order by id
""")

SECRETS = {
    "channel": text("select workspace_id, id, secrets from channel where secrets is not null order by id for update"),
    "app": text("select workspace_id, id, secrets from app where secrets is not null order by id for update"),
}
HOLDS_SECRETS = text("""
    select exists (select from channel where secrets is not null) or exists (select from app where secrets is not null)
        or exists (select from block_list)
""")
SET_SECRETS = {
    "channel": text("update channel set secrets = :secrets where id = :id"),
    "app": text("update app set secrets = :secrets where id = :id"),
}


def reserve_id(tx: Connection, table: Literal["api_token", "channel", "app"]) -> int:
    """Return a fresh id: secrets are sealed for the id, so it is needed before the row."""
    return int(tx.execute(RESERVE, {"table": table}).scalar_one())


def add_token(tx: Connection, row: Mapping[str, Any]) -> None:
    """Add a token's digest."""
    tx.execute(ADD_TOKEN, row)


def add_channel(tx: Connection, row: Mapping[str, Any]) -> None:
    """Add a channel."""
    tx.execute(ADD_CHANNEL, row)


def set_channel(tx: Connection, row: Mapping[str, Any]) -> None:
    """Change a channel's settings, secrets and account."""
    tx.execute(SET_CHANNEL, row)


def add_app(tx: Connection, row: Mapping[str, Any]) -> None:
    """Add an app."""
    tx.execute(ADD_APP, row)


def set_app(tx: Connection, row: Mapping[str, Any]) -> None:
    """Change an app's settings and secrets."""
    tx.execute(SET_APP, row)


def find_app(tx: Connection, app_id: int) -> Record | None:
    """Return an app's workspace, code, settings and sealed secrets, locked, or None."""
    return tx.execute(GET_APP, {"id": app_id}).one_or_none()


def list_apps(tx: Connection, workspace_id: int | None) -> Sequence[Record]:
    """Return apps by id, of one workspace or of all."""
    return tx.execute(LIST_APPS, {"workspace_id": workspace_id}).all()


def find_channel(tx: Connection, channel_id: int) -> Record | None:
    """Return a channel's workspace, code, settings and sealed secrets, locked, or None."""
    return tx.execute(GET_CHANNEL, {"id": channel_id}).one_or_none()


def list_channels(tx: Connection, workspace_id: int | None) -> Sequence[Record]:
    """Return channels by id, of one workspace or of all."""
    return tx.execute(LIST_CHANNELS, {"workspace_id": workspace_id}).all()


def holds_secrets(tx: Connection) -> bool:
    """Return whether anything was made with a secret key: the secrets of a channel or an app, or a kept block."""
    return bool(tx.scalar(HOLDS_SECRETS))


def lock_secrets(tx: Connection, kind: str) -> Sequence[Record]:
    """Return (workspace_id, id, secrets) of every channel or app that has secrets, locked, by id."""
    return tx.execute(SECRETS[kind]).all()


def set_secrets(tx: Connection, kind: str, row_id: int, sealed: bytes) -> None:
    """Put other sealed secrets in place of a channel's or an app's."""
    tx.execute(SET_SECRETS[kind], {"id": row_id, "secrets": sealed})
