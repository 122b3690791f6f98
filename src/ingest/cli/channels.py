"""`ingest channel`: add, list and change channels."""

import click

from ingest.channels.registry import CODES, get_adapter
from ingest.cli.given import read_pairs, require_complete, set_option, sort_settings
from ingest.cli.groups import ExampleCommand
from ingest.cli.output import as_json_option, print_record, print_rows
from ingest.errors import BadSetting
from ingest.pipeline.administer import add_channel, find_channel, list_channels, set_channel
from ingest.runtime import Runtime
from ingest.settings import read_settings

COLUMNS = ("id", "workspace_id", "code", "name", "webhook_url")


@click.group()
def channel() -> None:
    """Add, list and change channels."""


@channel.command(
    cls=ExampleCommand,
    example="ingest channel add telegram --workspace 1 --name Support \\\n"
    "  --set bot_token=123456:abc --set secret_token=choose-a-long-one",
)
@click.argument("code", type=click.Choice(CODES), metavar="CODE")
@click.option("--workspace", "workspace_id", type=int, required=True, help="The workspace's id.")
@click.option("--name", required=True, help="The channel's name in the console.")
@set_option
@as_json_option
def add(code: str, workspace_id: int, name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Add a channel and print its id and the webhook URL to enter at the provider.

    A missing setting is told with all that the channel has.
    """
    adapter = get_adapter(code)
    given = read_pairs(pairs)
    settings, secrets = sort_settings(adapter, given)
    require_complete(adapter, list(given))
    runtime = Runtime.from_settings(read_settings())
    with runtime.begin() as tx:
        added = add_channel(tx, workspace_id, code, name, settings, secrets, runtime.sealer)
    print_record({"channel_id": added.id, "webhook_url": runtime.settings.public_url + added.url_path}, as_json)


@channel.command("list", cls=ExampleCommand, example="ingest channel list --workspace 1 --json")
@click.option("--workspace", "workspace_id", type=int, help="Only this workspace's channels.")
@as_json_option
def list_command(workspace_id: int | None, as_json: bool) -> None:
    """List channels with their webhook URLs. Secrets are never shown."""
    runtime = Runtime.from_settings(read_settings())
    with runtime.begin() as tx:
        found = list_channels(tx, workspace_id)
    rows = [
        {
            "id": each.id,
            "workspace_id": each.workspace_id,
            "code": each.code,
            "name": each.name,
            "webhook_url": runtime.settings.public_url + each.url_path,
        }
        for each in found
    ]
    print_rows(rows, COLUMNS, as_json)


@channel.command("set", cls=ExampleCommand, example="ingest channel set 7 --set app_secret=new --set app_secret=old")
@click.argument("channel_id", type=int)
@click.option("--name", help="A new name.")
@set_option
def set_command(channel_id: int, name: str | None, pairs: tuple[str, ...]) -> None:
    """Change a channel's name or some of its settings; the others stay.

    A secret given twice is accepted in both values, newest first, until it is set to one: so secrets are rotated.
    """
    runtime = Runtime.from_settings(read_settings())
    with runtime.begin() as tx:
        found = find_channel(tx, channel_id)
        if found is None:
            raise BadSetting(f"there is no channel {channel_id}: `ingest channel list` shows those there are")
        settings, secrets = sort_settings(get_adapter(found.code), read_pairs(pairs))
        set_channel(tx, channel_id, name, settings, secrets, runtime.sealer)
    click.echo(f"channel {channel_id} changed", err=True)
