"""Which contact an identifier means: by id, through any merges, or by a key that exactly one contact has."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from ingest.domain.contact_keys import match_key
from ingest.domain.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class ResolvedContact:
    """A live contact. `assignee_id` and its team say who may see it; `asked_id` is the id asked for, if by id."""

    id: int
    assignee_id: int | None
    assignee_team_id: int | None
    asked_id: int | None = None

    @property
    def is_redirected(self) -> bool:
        """Whether the id asked for has been absorbed into this contact."""
        return self.asked_id is not None and self.asked_id != self.id


# A merge never makes a cycle, so following it ends.
BY_ID = text("""
    with recursive way (id, merged_into, deletion_job_id, assignee_id) as (
        select id, merged_into, deletion_job_id, assignee_id from contact where workspace_id = :workspace_id and id = :id
        union all
        select contact.id, contact.merged_into, contact.deletion_job_id, contact.assignee_id
        from way join contact on contact.workspace_id = :workspace_id and contact.id = way.merged_into
    )
    select way.id, way.assignee_id, member.team_id
    from way left join workspace_user as member on member.workspace_id = :workspace_id and member.id = way.assignee_id
    where way.merged_into is null and way.deletion_job_id is null
""")

BY_KEY = text("""
    select contact.id, contact.assignee_id, member.team_id, contact_key.is_primary
    from contact_key
    join contact on contact.workspace_id = contact_key.workspace_id and contact.id = contact_key.contact_id
    left join workspace_user as member on member.workspace_id = contact.workspace_id and member.id = contact.assignee_id
    where contact_key.workspace_id = :workspace_id and contact_key.match_key = :match_key and contact_key.key = :key
      and contact.merged_into is null and contact.deletion_job_id is null
    order by contact.id
    limit 101
""")


def list_identified(tx: Connection, workspace_id: int, identifier: Identifier) -> list[ResolvedContact]:
    """Return the live contacts that the identifier means, by id; at most 101.

    An absorbed id means the contact that absorbed it. A key means the contacts that have it as their phone or email,
    and only where there is none those that keep it beside.
    """
    if identifier.kind == "id":
        rows = tx.execute(BY_ID, {"workspace_id": workspace_id, "id": identifier.id})
        return [ResolvedContact(row.id, row.assignee_id, row.team_id, identifier.id) for row in rows]
    given = {"workspace_id": workspace_id, "match_key": match_key(identifier.key), "key": identifier.key}
    found = tx.execute(BY_KEY, given).all()
    primary = [row for row in found if row.is_primary]
    return [ResolvedContact(row.id, row.assignee_id, row.team_id) for row in primary or found]
