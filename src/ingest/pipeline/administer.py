"""Setting up: workspaces, tokens, apps and channels. Called by the command line and, later, by pages."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jwt
import msgspec

from ingest.channels.base import Adapter
from ingest.channels.registry import get_adapter
from ingest.errors import BadSetting
from ingest.store import administration as rows
from ingest.store import workspaces
from ingest.store.sealing import Sealer, app_owner, channel_owner
from ingest.store.unit_of_work import Transaction

ROLES = ("owner", "manager", "agent")


@dataclass(frozen=True, slots=True)
class ChannelAdded:
    """A new channel and the path of its webhook URL."""

    id: int
    url_path: str


@dataclass(frozen=True, slots=True)
class ChannelListed:
    """A channel as a list shows it; `secrets` names those that are set, never their values."""

    id: int
    workspace_id: int
    code: str
    name: str
    account: str
    state: str
    settings: dict[str, str]
    secrets: tuple[str, ...]
    url_path: str


@dataclass(frozen=True, slots=True)
class AppListed:
    """An app as a list shows it; `secrets` names those that are set, never their values."""

    id: int
    workspace_id: int
    code: str
    name: str
    settings: dict[str, str]
    secrets: tuple[str, ...]
    url_path: str


def create_workspace(tx: Transaction, name: str) -> int:
    """Make a workspace and return its id."""
    if not name.strip():
        raise BadSetting("a workspace needs a name")
    return workspaces.add_workspace(tx, name.strip())


def create_token(tx: Transaction, workspace_id: int, role: str, name: str, secret_key: str) -> str:
    """Make an API token and return it; it is shown this once, only its SHA-256 is kept.

    It is a JWT with the claims that clients of this dialect look at. Raises BadSetting for an unknown role or workspace.
    """
    if role not in ROLES:
        raise BadSetting(f"no role {role!r}: use one of {', '.join(ROLES)}")
    _require_workspace(tx, workspace_id)
    token_id = rows.reserve_id(tx, "api_token")
    claims = {"id": token_id, "spaceId": workspace_id, "orgId": workspace_id, "type": "api", "iat": int(time.time())}
    signing_key = hashlib.sha256(b"api-token:" + secret_key.encode()).digest()
    token = jwt.encode(claims, signing_key, algorithm="HS256")
    digest = hashlib.sha256(token.encode()).digest()
    rows.add_token(tx, {"id": token_id, "workspace_id": workspace_id, "name": name, "role": role, "digest": digest})
    return token


def add_channel(  # noqa: PLR0917 - what a channel is made of
    tx: Transaction,
    workspace_id: int,
    code: str,
    name: str,
    settings: Mapping[str, str],
    secrets: Mapping[str, tuple[str, ...]],
    sealer: Sealer,
    app_id: int | None = None,
) -> ChannelAdded:
    """Connect a channel and return its id and webhook path. Raises BadSetting naming what is missing or unknown."""
    adapter = get_adapter(code)
    _require_workspace(tx, workspace_id)
    settings = check_settings(adapter, settings, secrets, complete=app_id is None)
    channel_id = rows.reserve_id(tx, "channel")
    rows.add_channel(
        tx,
        {
            "id": channel_id,
            "workspace_id": workspace_id,
            "app_id": app_id,
            "code": code,
            "name": name,
            "account": account_of(adapter, settings),
            "settings": _json(settings),
            "secrets": sealer.seal(channel_owner(workspace_id, channel_id), dict(secrets)) if secrets else None,
        },
    )
    return ChannelAdded(channel_id, f"/webhooks/{channel_id}")


def find_adapter(tx: Transaction, kind: Literal["channel", "app"], row_id: int) -> Adapter:
    """Return the adapter of a channel or an app. Raises BadSetting where there is none with that id."""
    return get_adapter(_found(tx, kind, row_id).code)


def set_channel(
    tx: Transaction,
    channel_id: int,
    settings: Mapping[str, str],
    secrets: Mapping[str, tuple[str, ...]],
    sealer: Sealer,
) -> None:
    """Change a channel's settings. A new secret is accepted beside its former value, until it is changed once more.

    Raises BadSetting for an unknown channel or setting.
    """
    row = _found(tx, "channel", channel_id)
    owner = channel_owner(row.workspace_id, channel_id)
    merged, rotated = _changed(row, settings, secrets, sealer.open(owner, row.secrets))
    account = account_of(get_adapter(row.code), merged)
    sealed = sealer.seal(owner, rotated)
    rows.set_channel(tx, {"id": channel_id, "account": account, "settings": _json(merged), "secrets": sealed})


def set_app(
    tx: Transaction, app_id: int, settings: Mapping[str, str], secrets: Mapping[str, tuple[str, ...]], sealer: Sealer
) -> None:
    """Change an app's settings, as those of a channel. Raises BadSetting for an unknown app or setting."""
    row = _found(tx, "app", app_id)
    owner = app_owner(row.workspace_id, app_id)
    merged, rotated = _changed(row, settings, secrets, sealer.open(owner, row.secrets))
    rows.set_app(tx, {"id": app_id, "settings": _json(merged), "secrets": sealer.seal(owner, rotated)})


def _found(tx: Transaction, kind: Literal["channel", "app"], row_id: int) -> rows.Record:
    row = rows.find_channel(tx, row_id) if kind == "channel" else rows.find_app(tx, row_id)
    if row is None:
        raise BadSetting(f"there is no {kind} {row_id}: `ingest {kind} list` shows those there are")
    return row


def _changed(
    row: rows.Record,
    settings: Mapping[str, str],
    secrets: Mapping[str, tuple[str, ...]],
    known: Mapping[str, tuple[str, ...]],
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return the settings and secrets with the new ones; a new secret stands before its former value."""
    rotated = {name: (*values, *known.get(name, ())[:1])[:2] for name, values in secrets.items()}
    every = {**known, **rotated}
    return check_settings(get_adapter(row.code), {**row.settings, **settings}, every, complete=False), every


def add_app(  # noqa: PLR0917 - what an app is made of
    tx: Transaction,
    workspace_id: int,
    code: str,
    name: str,
    settings: Mapping[str, str],
    secrets: Mapping[str, tuple[str, ...]],
    sealer: Sealer,
) -> ChannelAdded:
    """Register a provider application that serves many channels; return its id and webhook path."""
    adapter = get_adapter(code)
    if adapter.account_setting is None:
        raise BadSetting(f"{code} requests do not name an account, so an app cannot tell its channels apart")
    _require_workspace(tx, workspace_id)
    settings = check_settings(adapter, settings, secrets, complete=False)
    app_id = rows.reserve_id(tx, "app")
    rows.add_app(
        tx,
        {
            "id": app_id,
            "workspace_id": workspace_id,
            "code": code,
            "name": name,
            "settings": _json(settings),
            "secrets": sealer.seal(app_owner(workspace_id, app_id), dict(secrets)),
        },
    )
    return ChannelAdded(app_id, f"/webhooks/app/{app_id}")


def reseal_secrets(tx: Transaction, sealer: Sealer) -> int:
    """Seal the secrets of all channels and apps with the newest key; return how many were not yet. Safe to repeat.

    Raises BadSetting, and changes nothing, when one cannot be opened.
    """
    count = 0
    for kind, owner_of in (("channel", channel_owner), ("app", app_owner)):
        for row in rows.lock_secrets(tx, kind):
            if not sealer.is_current(row.secrets):
                owner = owner_of(row.workspace_id, row.id)
                rows.set_secrets(tx, kind, row.id, sealer.seal(owner, sealer.open(owner, row.secrets)))
                count += 1
    return count


def list_channels(tx: Transaction, workspace_id: int | None, sealer: Sealer) -> list[ChannelListed]:
    """Return the channels of one workspace or of all, by id."""
    return [
        ChannelListed(
            row.id,
            row.workspace_id,
            row.code,
            row.name,
            row.account,
            row.state,
            row.settings,
            tuple(sorted(sealer.open(channel_owner(row.workspace_id, row.id), row.secrets))),
            f"/webhooks/{row.id}",
        )
        for row in rows.list_channels(tx, workspace_id)
    ]


def list_apps(tx: Transaction, workspace_id: int | None, sealer: Sealer) -> list[AppListed]:
    """Return the apps of one workspace or of all, by id."""
    return [
        AppListed(
            row.id,
            row.workspace_id,
            row.code,
            row.name,
            row.settings,
            tuple(sorted(sealer.open(app_owner(row.workspace_id, row.id), row.secrets))),
            f"/webhooks/app/{row.id}",
        )
        for row in rows.list_apps(tx, workspace_id)
    ]


def check_settings(
    adapter: Adapter, settings: Mapping[str, str], secrets: Mapping[str, tuple[str, ...]], *, complete: bool
) -> dict[str, str]:
    """Return the settings with defaults. Raises BadSetting for unknown names and, where `complete`, for missing ones."""
    declared = {each.name: each for each in adapter.settings}
    unknown = sorted({*settings, *secrets} - set(declared))
    if unknown:
        raise BadSetting(f"{adapter.code} has no setting {unknown[0]!r}: it takes {', '.join(declared) or 'none'}")
    given = {**{each.name: each.default for each in adapter.settings if each.default and not each.secret}, **settings}
    missing = [
        each for each in adapter.settings if each.required and not given.get(each.name) and not secrets.get(each.name)
    ]
    if complete and missing:
        told = "; ".join(f"{each.name} ({each.help})" for each in missing)
        raise BadSetting(f"{adapter.code} needs {told}: give it with --set {missing[0].name}=...")
    return given


def account_of(adapter: Adapter, settings: Mapping[str, str]) -> str:
    """Return the provider-side account that the settings name, "" for none."""
    return settings.get(adapter.account_setting, "") if adapter.account_setting else ""


def _require_workspace(tx: Transaction, workspace_id: int) -> None:
    if workspace_id not in workspaces.get_workspaces(tx, [workspace_id]):
        raise BadSetting(f"no workspace {workspace_id}: `ingest workspace create NAME` makes one")


def _json(settings: Mapping[str, str]) -> str:
    return msgspec.json.encode(dict(settings)).decode()
