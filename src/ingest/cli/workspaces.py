"""`ingest workspace` and `ingest token`."""

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_record
from ingest.pipeline.administer import create_token, create_workspace

ROLES = ("owner", "manager", "agent")


@click.group()
def workspace() -> None:
    """Create workspaces."""


@workspace.command(cls=ExampleCommand, example='ingest workspace create "Example Shop"')
@click.argument("name")
@as_json_option
def create(name: str, as_json: bool) -> None:
    """Create a workspace and print its id."""
    with opened() as runtime, runtime.begin() as tx:
        workspace_id = create_workspace(tx, name)
    print_record({"workspace_id": workspace_id, "name": name}, as_json)


@click.group()
def token() -> None:
    """Create API tokens."""


@token.command("create", cls=ExampleCommand, example="ingest token create --workspace 1 --role manager --name reports")
@click.option("--workspace", "workspace_id", type=int, required=True, help="The workspace's id.")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the token may do.")
@click.option("--name", default="command line", show_default=True, help="What the token is for.")
@as_json_option
def create_token_command(workspace_id: int, role: str, name: str, as_json: bool) -> None:
    """Create an API token and print it. It is shown this once; only its hash is kept."""
    with opened() as runtime, runtime.begin() as tx:
        made = create_token(tx, workspace_id, role, name, runtime.settings.secret_keys[0])
    print_record({"token": made, "workspace_id": workspace_id, "role": role}, as_json)
