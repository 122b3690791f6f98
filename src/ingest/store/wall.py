"""The second wall: a transaction that sees one workspace only, whatever its statements say."""

from sqlalchemy import Connection, text

API_ROLE = "ingest_api"
# Plans are made for the values at hand: a tag of three contacts and one of a million want different ones. No statement of
# the API is long enough to be worth compiling, or a second process, which must first be started and found time for.
ENTER = text("""
    select set_config('role', :role, true), set_config('ingest.workspace_id', :workspace_id, true),
           set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true),
           set_config('max_parallel_workers_per_gather', '0', true)
""")


def enter_workspace(tx: Connection, workspace_id: int) -> None:
    """Put the transaction under the role that row-level security binds, for this workspace, until its end."""
    tx.execute(ENTER, {"role": API_ROLE, "workspace_id": str(workspace_id)})


NAME = text("""
    select set_config('ingest.workspace_id', :workspace_id, true), set_config('plan_cache_mode', 'force_custom_plan', true)
""")


def name_workspace(tx: Connection, workspace_id: int) -> None:
    """Say which workspace the lookups of lists are for, without leaving the worker's own role."""
    tx.execute(NAME, {"workspace_id": str(workspace_id)})
