"""How many calls a second of one endpoint a workspace may make, a setting of the workspace."""

from sqlalchemy import Connection, text

from ingest.domain.access import rate_of

GET = text("select settings from workspace where id = :workspace_id")
SET = text("""
    update workspace set settings = settings || jsonb_build_object('api_requests_per_second', cast(:rate as integer))
    where id = :workspace_id
""")
RESET = text("update workspace set settings = settings - 'api_requests_per_second' where id = :workspace_id")


def get_call_rate(tx: Connection, workspace_id: int) -> int:
    """Return the calls a second of one endpoint: what the workspace has set, else the default."""
    return rate_of(tx.execute(GET, {"workspace_id": workspace_id}).scalar_one())


def set_call_rate(tx: Connection, workspace_id: int, rate: int | None) -> None:
    """Set the calls a second of one endpoint; None goes back to the default."""
    if rate is None:
        tx.execute(RESET, {"workspace_id": workspace_id})
    else:
        tx.execute(SET, {"workspace_id": workspace_id, "rate": rate})
