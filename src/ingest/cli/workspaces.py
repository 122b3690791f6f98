"""`ingest workspace` and `ingest token`."""

import click

from ingest.cli.groups import ExampleCommand, ExampleGroup
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_record, print_rows
from ingest.errors import BadSetting
from ingest.pipeline.administer import create_token, create_workspace
from ingest.store.token_lists import list_tokens, revoke_token
from ingest.store.workspaces import list_workspaces

ROLES = ("owner", "manager", "agent")
MAX_TOKENS_LISTED = 1000


@click.group(cls=ExampleGroup, example='ingest workspace create "Example Shop"\ningest workspace list')
def workspace() -> None:
    """Create and list workspaces."""


@workspace.command(cls=ExampleCommand, example='ingest workspace create "Example Shop"')
@click.argument("name")
@as_json_option
def create(name: str, as_json: bool) -> None:
    """Create a workspace and print its id."""
    with opened() as runtime, runtime.begin() as tx:
        workspace_id = create_workspace(tx, name)
    print_record({"workspace_id": workspace_id, "name": name}, as_json)


@workspace.command("list", cls=ExampleCommand, example="ingest workspace list --json")
@as_json_option
def list_command(as_json: bool) -> None:
    """List workspaces, by id."""
    with opened() as runtime, runtime.begin() as tx:
        found = list_workspaces(tx)
    print_rows(found, ("id", "name", "time_zone", "cycle_day"), as_json)


@click.group(cls=ExampleGroup, example="ingest token create --workspace 1 --role owner")
def token() -> None:
    """Create, list and revoke API tokens."""


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


@token.command("list", cls=ExampleCommand, example="ingest token list --workspace 1")
@click.option("--workspace", "workspace_id", type=int, required=True, help="The workspace's id.")
@as_json_option
def list_tokens_command(workspace_id: int, as_json: bool) -> None:
    """List a workspace's API tokens, revoked ones too; never what they are."""
    with opened() as runtime, runtime.begin() as tx:
        found = list_tokens(tx, workspace_id, 0, MAX_TOKENS_LISTED)
    print_rows(found, ("id", "name", "role", "created_at", "last_used_on", "revoked_at"), as_json)


@token.command("revoke", cls=ExampleCommand, example="ingest token revoke 7 --workspace 1")
@click.argument("token_id", type=int)
@click.option("--workspace", "workspace_id", type=int, required=True, help="The workspace's id.")
def revoke_command(token_id: int, workspace_id: int) -> None:
    """Revoke an API token; the web processes notice within about a second. Safe to repeat."""
    with opened() as runtime, runtime.begin() as tx:
        if not revoke_token(tx, workspace_id, token_id):
            raise BadSetting(
                f"workspace {workspace_id} has no token {token_id}: `ingest token list --workspace {workspace_id}` "
                "shows those there are"
            )
    click.echo(f"token {token_id} revoked", err=True)
