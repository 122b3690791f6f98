"""`ingest channel` and `ingest app`: connect providers."""

from dataclasses import asdict
from typing import Any

import click

from ingest.channels.registry import CODES, get_adapter
from ingest.cli.given import read_pairs, set_option, sort_settings
from ingest.cli.groups import ExampleCommand, ExampleGroup
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_record, print_rows
from ingest.pipeline.administer import (
    AppListed,
    ChannelListed,
    add_app,
    add_channel,
    find_adapter,
    list_apps,
    list_channels,
    set_app,
    set_channel,
)

COLUMNS = ("id", "workspace_id", "code", "name", "account", "state", "webhook_url")
APP_COLUMNS = ("id", "workspace_id", "code", "name", "webhook_url")

code_argument = click.argument("code", type=click.Choice(CODES), metavar="CODE")
workspace_option = click.option("--workspace", "workspace_id", type=int, required=True, help="The workspace's id.")


@click.group(cls=ExampleGroup, example="ingest channel list\ningest channel add --help")
def channel() -> None:
    """Add, list and change channels."""


@channel.command(
    "add",
    cls=ExampleCommand,
    example="ingest channel add telegram --workspace 1 --name Support --set secret_token=choose-a-long-one",
)
@code_argument
@workspace_option
@click.option("--name", required=True, help="The channel's name, as people see it.")
@click.option("--app", "app_id", type=int, help="The app whose webhook serves this channel too.")
@set_option
@as_json_option
def add_channel_command(
    *, code: str, workspace_id: int, name: str, app_id: int | None, pairs: tuple[str, ...], as_json: bool
) -> None:
    """Add a channel and print its id and the webhook URL to enter at the provider.

    What a channel needs is told when it is missing: try without any --set.
    """
    settings, secrets = sort_settings(get_adapter(code), read_pairs(pairs))
    with opened() as runtime, runtime.begin() as tx:
        added = add_channel(tx, workspace_id, code, name, settings, secrets, runtime.sealer, app_id)
    print_record({"channel_id": added.id, "webhook_url": runtime.settings.public_url + added.url_path}, as_json)


@channel.command("list", cls=ExampleCommand, example="ingest channel list --workspace 1 --json")
@click.option("--workspace", "workspace_id", type=int, help="Only this workspace's channels.")
@as_json_option
def list_command(workspace_id: int | None, as_json: bool) -> None:
    """List channels with their webhook URLs. Secrets are named, never shown."""
    with opened() as runtime, runtime.begin() as tx:
        found = list_channels(tx, workspace_id, runtime.sealer)
    rows = [_row(each, runtime.settings.public_url) for each in found]
    print_rows(rows, COLUMNS, as_json)


@channel.command("set", cls=ExampleCommand, example="ingest channel set 7 --set app_secret=the-new-one")
@click.argument("channel_id", type=int)
@set_option
def set_command(channel_id: int, pairs: tuple[str, ...]) -> None:
    """Change some of a channel's settings; the others stay.

    A new secret is accepted beside its former value, until it is changed once more: so it can be rotated at the provider
    without losing a message.
    """
    with opened() as runtime, runtime.begin() as tx:
        settings, secrets = sort_settings(find_adapter(tx, "channel", channel_id), read_pairs(pairs))
        set_channel(tx, channel_id, settings, secrets, runtime.sealer)
    click.echo(f"channel {channel_id} changed", err=True)


@click.group(cls=ExampleGroup, example="ingest app list\ningest app add --help")
def app() -> None:
    """Add, list and change provider applications whose one webhook serves many channels."""


@app.command(
    "add",
    cls=ExampleCommand,
    example="ingest app add whatsapp_cloud --workspace 1 --name Numbers --set app_secret=... --set verify_token=...",
)
@code_argument
@workspace_option
@click.option("--name", required=True, help="The app's name.")
@set_option
@as_json_option
def add_app_command(*, code: str, workspace_id: int, name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Add an app and print its id and webhook URL. Its channels are added with `ingest channel add --app`."""
    settings, secrets = sort_settings(get_adapter(code), read_pairs(pairs))
    with opened() as runtime, runtime.begin() as tx:
        added = add_app(tx, workspace_id, code, name, settings, secrets, runtime.sealer)
    print_record({"app_id": added.id, "webhook_url": runtime.settings.public_url + added.url_path}, as_json)


@app.command("list", cls=ExampleCommand, example="ingest app list --workspace 1 --json")
@click.option("--workspace", "workspace_id", type=int, help="Only this workspace's apps.")
@as_json_option
def list_apps_command(workspace_id: int | None, as_json: bool) -> None:
    """List apps with their webhook URLs. Secrets are named, never shown."""
    with opened() as runtime, runtime.begin() as tx:
        found = list_apps(tx, workspace_id, runtime.sealer)
    rows = [_row(each, runtime.settings.public_url) for each in found]
    print_rows(rows, APP_COLUMNS, as_json)


@app.command("set", cls=ExampleCommand, example="ingest app set 2 --set app_secret=the-new-one")
@click.argument("app_id", type=int)
@set_option
def set_app_command(app_id: int, pairs: tuple[str, ...]) -> None:
    """Change some of an app's settings; the others stay. A new secret is accepted beside its former value, as a channel's."""
    with opened() as runtime, runtime.begin() as tx:
        settings, secrets = sort_settings(find_adapter(tx, "app", app_id), read_pairs(pairs))
        set_app(tx, app_id, settings, secrets, runtime.sealer)
    click.echo(f"app {app_id} changed", err=True)


def _row(listed: AppListed | ChannelListed, public_url: str) -> dict[str, Any]:
    row = asdict(listed)
    return {"webhook_url": public_url + row.pop("url_path"), **row}
