"""API tokens: whom a digest stands for."""

from sqlalchemy import Connection, text

from ingest.domain.access import Principal, granted, rate_of

FIND = text("""
    select token.id, token.role as token_role, token.user_id, token.name,
           member.role as user_role, member.team_id, member.restrictions, member.removed_at,
           workspace.settings, workspace.time_zone, token.last_used_on is distinct from current_date as is_first_today
    from api_token as token
    join workspace on workspace.id = token.workspace_id
    left join workspace_user as member on member.workspace_id = token.workspace_id and member.id = token.user_id
    where token.workspace_id = :workspace_id and token.digest = :digest and token.revoked_at is null
""")

MARK_USED = text("""
    update api_token set last_used_on = current_date
    where workspace_id = :workspace_id and id = :id and last_used_on is distinct from current_date
""")

ROLE_RANK = {"agent": 0, "manager": 1, "owner": 2}
TOKEN_SOURCES = frozenset({"api", "n8n", "make", "zapier"})


def find_principal(tx: Connection, workspace_id: int, digest: bytes) -> Principal | None:
    """Return whom the token stands for, or None where it is unknown, revoked, or its user is gone.

    A token acts with the lesser of its own role and its user's, under its user's restrictions. A workspace's settings
    may say `api_requests_per_second`; a token named after an integration (n8n, make, zapier) is recorded as that source.
    """
    row = tx.execute(FIND, {"workspace_id": workspace_id, "digest": digest}).one_or_none()
    if row is None or row.removed_at is not None or (row.user_id is not None and row.user_role is None):
        return None
    if row.is_first_today:
        tx.execute(MARK_USED, {"workspace_id": workspace_id, "id": row.id})
    role = min(filter(None, (row.token_role, row.user_role)), key=ROLE_RANK.__getitem__)
    return Principal(
        workspace_id=workspace_id,
        role=role,
        source=row.name.lower() if row.name.lower() in TOKEN_SOURCES else "api",
        token_id=row.id,
        user_id=row.user_id,
        team_id=row.team_id,
        restrictions=frozenset(row.restrictions or ()),
        grants=granted(row.settings),
        requests_per_second=rate_of(row.settings),
        time_zone=row.time_zone,
    )
