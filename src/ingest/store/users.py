"""Users of a workspace: people who may be assigned contacts, with a role and restrictions."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class User:
    """A user. `restrictions` narrow what the role allows, see `domain.access`."""

    id: int
    first_name: str
    last_name: str
    email: str
    role: str
    team_id: int | None
    team_name: str | None
    restrictions: list[str]
    is_invited: bool


COLUMNS = """
    member.id, member.first_name, member.last_name, member.email, member.role, member.team_id, team.name,
    member.restrictions, member.is_invited
"""
SOURCE = """
    workspace_user as member left join team on team.workspace_id = member.workspace_id and team.id = member.team_id
"""
PAGE = text(f"""
    select {COLUMNS} from {SOURCE}
    where member.workspace_id = :workspace_id and member.removed_at is null and not member.is_invited
      and case when :cursor < 0 then member.id < -:cursor else member.id > :cursor end
    order by case when :cursor < 0 then -member.id else member.id end limit :limit
""")  # noqa: S608
FIND = text(f"""
    select {COLUMNS} from {SOURCE}
    where member.workspace_id = :workspace_id and member.removed_at is null and not member.is_invited and member.id = :id
""")  # noqa: S608
FIND_BY_EMAIL = text(f"""
    select {COLUMNS} from {SOURCE}
    where member.workspace_id = :workspace_id and member.removed_at is null and not member.is_invited
      and lower(member.email) = lower(:email)
""")  # noqa: S608
FIND_ANY = text(f"""
    select {COLUMNS} from {SOURCE}
    where member.workspace_id = :workspace_id and member.removed_at is null and member.id = :id
    for update of member
""")  # noqa: S608
ADD = text("""
    insert into workspace_user (workspace_id, first_name, last_name, email, role, team_id, restrictions, is_invited)
    values (:workspace_id, :first_name, :last_name, :email, :role, :team_id, :restrictions, :is_invited)
    on conflict do nothing returning id
""")
CHANGE = text("""
    update workspace_user
    set first_name = :first_name, last_name = :last_name, role = :role, team_id = :team_id, restrictions = :restrictions,
        is_invited = :is_invited
    where workspace_id = :workspace_id and id = :id
""")
REMOVE = text("update workspace_user set removed_at = now() where workspace_id = :workspace_id and id = :id")
# All owners are locked, so that two of them cannot remove each other.
OWNERS = text("""
    select id from workspace_user
    where workspace_id = :workspace_id and role = 'owner' and removed_at is null and not is_invited
    order by id for update
""")


def list_users(tx: Connection, workspace_id: int, cursor: int, limit: int) -> list[User]:
    """Return the users after the id, by id, without those only invited; with a negative cursor those before it."""
    rows = tx.execute(PAGE, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit})
    return [User(*row) for row in rows]


def find_user(tx: Connection, workspace_id: int, user_id: int) -> User | None:
    """Return the user, or None for one that is unknown, removed or only invited."""
    row = tx.execute(FIND, {"workspace_id": workspace_id, "id": user_id}).one_or_none()
    return None if row is None else User(*row)


def find_user_by_email(tx: Connection, workspace_id: int, email: str) -> User | None:
    """Return the user with this address, as `find_user`."""
    row = tx.execute(FIND_BY_EMAIL, {"workspace_id": workspace_id, "email": email}).one_or_none()
    return None if row is None else User(*row)


def lock_user(tx: Connection, workspace_id: int, user_id: int) -> User | None:
    """Lock and return the user, invited ones included, or None."""
    row = tx.execute(FIND_ANY, {"workspace_id": workspace_id, "id": user_id}).one_or_none()
    return None if row is None else User(*row)


def lock_owners(tx: Connection, workspace_id: int) -> list[int]:
    """Lock the workspace's owners and return their ids."""
    return list(tx.scalars(OWNERS, {"workspace_id": workspace_id}))


def add_user(
    tx: Connection,
    workspace_id: int,
    *,
    first_name: str,
    last_name: str,
    email: str,
    role: str,
    team_id: int | None = None,
    restrictions: Sequence[str] = (),
    is_invited: bool = False,
) -> int | None:
    """Add the user and return the id; None when the address is taken."""
    given = {
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "role": role,
        "team_id": team_id,
        "restrictions": list(restrictions),
        "is_invited": is_invited,
    }
    found: int | None = tx.execute(ADD, {"workspace_id": workspace_id, **given}).scalar_one_or_none()
    return found


def change_user(tx: Connection, workspace_id: int, user: User) -> None:
    """Write the user's names, role, team and restrictions."""
    tx.execute(
        CHANGE,
        {
            "workspace_id": workspace_id,
            "id": user.id,
            "first_name": user.first_name,
            "last_name": user.last_name,
            "role": user.role,
            "team_id": user.team_id,
            "restrictions": list(user.restrictions),
            "is_invited": user.is_invited,
        },
    )


def remove_user(tx: Connection, workspace_id: int, user_id: int) -> None:
    """Remove the user. What they did stays; their tokens stop working."""
    tx.execute(REMOVE, {"workspace_id": workspace_id, "id": user_id})
