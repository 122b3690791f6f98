"""Tags of a workspace, and which contacts have them. Names are compared without regard to letter case."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of the workspace."""

    id: int
    name: str
    description: str
    color_code: str
    emoji: str
    created_at: datetime
    contact_count: int = 0


COLUMNS = "id, name, description, color_code, emoji, created_at"

# In the order of their key, so that two transactions wait for each other in one direction only.
ENSURE = text("""
    insert into tag (workspace_id, name)
    select :workspace_id, name from unnest(cast(:names as text[])) as new (name) order by lower(name)
    on conflict do nothing
""")
FIND_ALL = text(f"""
    select {COLUMNS} from tag
    where workspace_id = :workspace_id and lower(name) in (select lower(name) from unnest(cast(:names as text[])) as w (name))
""")  # noqa: S608
PAGE = text("""
    select tag.id, name, description, color_code, emoji, tag.created_at,
           (select count(*) from contact_tag where contact_tag.workspace_id = tag.workspace_id and tag_id = tag.id)
    from tag
    where workspace_id = :workspace_id and case when :cursor < 0 then id < -:cursor else id > :cursor end
    order by case when :cursor < 0 then -id else id end limit :limit
""")
ADD = text(f"""
    insert into tag (workspace_id, name, description, color_code, emoji)
    values (:workspace_id, :name, :description, :color_code, :emoji)
    on conflict do nothing returning {COLUMNS}
""")  # noqa: S608
CHANGE = text(f"""
    update tag set name = coalesce(:name, name), description = coalesce(:description, description),
                   color_code = coalesce(:color_code, color_code), emoji = coalesce(:emoji, emoji)
    where workspace_id = :workspace_id and id = :id returning {COLUMNS}
""")  # noqa: S608
REMOVE = text("delete from tag where workspace_id = :workspace_id and id = :id")

PUT_ON = text("""
    insert into contact_tag (workspace_id, contact_id, tag_id, source, created_at)
    select :workspace_id, contact_id, tag_id, :source, :now
    from unnest(cast(:contact_ids as bigint[])) as a (contact_id), unnest(cast(:tag_ids as bigint[])) as b (tag_id)
    order by contact_id, tag_id
    on conflict do nothing
    returning contact_id, tag_id
""")
TAKE_OFF = text("""
    delete from contact_tag
    where workspace_id = :workspace_id and contact_id = any(:contact_ids) and tag_id = any(:tag_ids)
    returning contact_id, tag_id
""")


def find_tags(tx: Connection, workspace_id: int, names: Sequence[str]) -> dict[str, Tag]:
    """Return the tags of these names that exist, by lower-case name."""
    rows = tx.execute(FIND_ALL, {"workspace_id": workspace_id, "names": list(names)})
    return {row.name.lower(): Tag(*row) for row in rows}


def ensure_tags(tx: Connection, workspace_id: int, names: Sequence[str]) -> dict[str, Tag]:
    """Return the tags of these names, by lower-case name, made where they are missing."""
    tx.execute(ENSURE, {"workspace_id": workspace_id, "names": list(names)})
    return find_tags(tx, workspace_id, names)


def list_tags(tx: Connection, workspace_id: int, cursor: int, limit: int) -> list[Tag]:
    """Return the tags after the id, by id; with a negative cursor those before it, nearest first."""
    rows = tx.execute(PAGE, {"workspace_id": workspace_id, "cursor": cursor, "limit": limit})
    return [Tag(*row) for row in rows]


def add_tag(
    tx: Connection, workspace_id: int, *, name: str, description: str, color_code: str, emoji: str
) -> Tag | None:
    """Add the tag and return it; None when the name is taken."""
    given = {"name": name, "description": description, "color_code": color_code, "emoji": emoji}
    row = tx.execute(ADD, {"workspace_id": workspace_id, **given}).one_or_none()
    return None if row is None else Tag(*row)


def change_tag(
    tx: Connection,
    workspace_id: int,
    tag_id: int,
    *,
    name: str | None,
    description: str | None,
    color_code: str | None,
    emoji: str | None,
) -> Tag:
    """Change what is given and return the tag, which exists."""
    given = {"name": name, "description": description, "color_code": color_code, "emoji": emoji}
    return Tag(*tx.execute(CHANGE, {"workspace_id": workspace_id, "id": tag_id, **given}).one())


def remove_tag(tx: Connection, workspace_id: int, tag_id: int) -> None:
    """Remove the tag from the workspace and from all its contacts."""
    tx.execute(REMOVE, {"workspace_id": workspace_id, "id": tag_id})


def put_tags_on(
    tx: Connection,
    workspace_id: int,
    contact_ids: Sequence[int],
    tag_ids: Sequence[int],
    *,
    source: str,
    now: datetime,
) -> list[tuple[int, int]]:
    """Put every tag on every contact; return the (contact, tag) pairs that are new. The contacts are locked."""
    given = {"workspace_id": workspace_id, "contact_ids": list(contact_ids), "tag_ids": list(tag_ids)}
    return [(row[0], row[1]) for row in tx.execute(PUT_ON, {**given, "source": source, "now": now})]


def take_tags_off(
    tx: Connection, workspace_id: int, contact_ids: Sequence[int], tag_ids: Sequence[int]
) -> list[tuple[int, int]]:
    """Take the tags off the contacts, which are locked; return the (contact, tag) pairs that are gone."""
    given = {"workspace_id": workspace_id, "contact_ids": list(contact_ids), "tag_ids": list(tag_ids)}
    return [(row[0], row[1]) for row in tx.execute(TAKE_OFF, given)]
