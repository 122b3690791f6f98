"""Workflows: named, versioned definitions. A version never changes; publishing says which one new runs take."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, text

from ingest.domain.workflows import Definition, read_definition

Record = Row[Any]
"""A row as it was read."""

LOCK_WORKSPACE = text(
    "select pg_advisory_xact_lock(hashtext('ingest.workflow'), hashtext(cast(:workspace_id as text)))"
)
COUNT = text("select count(*) from workflow where workspace_id = :workspace_id")
ADD = text("""
    insert into workflow (workspace_id, name, created_at, updated_at) values (:workspace_id, :name, :now, :now)
    on conflict (workspace_id, name) do nothing returning id
""")
ADD_VERSION = text("""
    insert into workflow_version (workspace_id, workflow_id, version, trigger_kind, definition, created_at, actor_id)
    values (:workspace_id, :id, :version, :trigger_kind, cast(:definition as jsonb), :now, cast(:actor_id as bigint))
""")
LOCK = text("select * from workflow where workspace_id = :workspace_id and id = :id for no key update")
GET = text("""
    select workflow.*, workflow_version.definition, workflow_version.trigger_kind,
           (select count(*) from workflow_run where workflow_run.workspace_id = workflow.workspace_id
                and workflow_run.workflow_id = workflow.id and workflow_run.state = 'active') as active_run_count
    from workflow join workflow_version
        on workflow_version.workspace_id = workflow.workspace_id and workflow_version.workflow_id = workflow.id
        and workflow_version.version = workflow.version
    where workflow.workspace_id = :workspace_id and (cast(:id as bigint) is null or workflow.id = :id)
    order by workflow.id
""")
SET_VERSION = text("""
    update workflow set version = :version, name = coalesce(cast(:name as text), name), updated_at = :now
    where workspace_id = :workspace_id and id = :id
""")
SET_STATE = text("""
    update workflow set state = :state, published_version = cast(:version as integer), updated_at = :now
    where workspace_id = :workspace_id and id = :id
""")
# Whoever unpublishes waits until the runs that are being started are there to be ended.
PUBLISHED = text("""
    select workflow.workspace_id, workflow.id, workflow_version.version, workflow_version.definition
    from workflow join workflow_version
        on workflow_version.workspace_id = workflow.workspace_id and workflow_version.workflow_id = workflow.id
        and workflow_version.version = workflow.published_version
    where workflow.workspace_id = :workspace_id and workflow.state = 'published'
      and (workflow_version.trigger_kind = :trigger_kind or workflow.id = cast(:id as bigint))
    order by workflow.id
    for share of workflow
""")
VERSIONS = text("""
    select workflow_version.workflow_id, workflow_version.version, workflow_version.definition
    from unnest(cast(:ids as bigint[]), cast(:versions as integer[])) as wanted (workflow_id, version)
    join workflow_version on workflow_version.workspace_id = :workspace_id
        and workflow_version.workflow_id = wanted.workflow_id and workflow_version.version = wanted.version
""")


@dataclass(frozen=True, slots=True)
class Published:
    """A workflow that starts runs, with its published version."""

    id: int
    version: int
    definition: Definition


def lock_names(tx: Connection, workspace_id: int) -> None:
    """Let nobody else add a workflow to the workspace until the transaction ends."""
    tx.execute(LOCK_WORKSPACE, {"workspace_id": workspace_id})


def count_workflows(tx: Connection, workspace_id: int) -> int:
    """Return how many workflows the workspace has."""
    return int(tx.execute(COUNT, {"workspace_id": workspace_id}).scalar_one())


def add_workflow(tx: Connection, workspace_id: int, name: str, now: datetime) -> int | None:
    """Add a draft without a version and return its id, or None where the name is taken."""
    found: int | None = tx.scalar(ADD, {"workspace_id": workspace_id, "name": name, "now": now})
    return found


def add_version(
    tx: Connection,
    workspace_id: int,
    workflow_id: int,
    version: int,
    definition: Mapping[str, Any],
    *,
    name: str | None,
    actor_id: int | None,
    now: datetime,
) -> None:
    """Add a version and make it the latest; the definition is valid."""
    given = {
        "workspace_id": workspace_id,
        "id": workflow_id,
        "version": version,
        "trigger_kind": definition["trigger"]["kind"],
        "definition": msgspec.json.encode(definition).decode(),
        "name": name,
        "actor_id": actor_id,
        "now": now,
    }
    tx.execute(ADD_VERSION, given)
    tx.execute(SET_VERSION, given)


def lock_workflow(tx: Connection, workspace_id: int, workflow_id: int) -> Record | None:
    """Lock a workflow's row and return it, or None."""
    return tx.execute(LOCK, {"workspace_id": workspace_id, "id": workflow_id}).first()


def find_workflow(tx: Connection, workspace_id: int, workflow_id: int) -> Record | None:
    """Return a workflow with its latest definition and how many runs are active, or None."""
    return tx.execute(GET, {"workspace_id": workspace_id, "id": workflow_id}).first()


def list_workflows(tx: Connection, workspace_id: int) -> list[Record]:
    """Return the workspace's workflows, oldest first; there are a hundred at most."""
    return list(tx.execute(GET, {"workspace_id": workspace_id, "id": None}))


def mark_state(
    tx: Connection, workspace_id: int, workflow_id: int, *, state: str, version: int | None, now: datetime
) -> None:
    """Mark a workflow published, with the version that new runs take, or unpublished."""
    given = {"workspace_id": workspace_id, "id": workflow_id, "state": state, "version": version, "now": now}
    tx.execute(SET_STATE, given)


def list_published(
    tx: Connection, workspace_id: int, trigger_kind: str, workflow_id: int | None = None
) -> list[Published]:
    """Return the published workflows with that trigger, and the one asked for whatever its trigger."""
    given = {"workspace_id": workspace_id, "trigger_kind": trigger_kind, "id": workflow_id}
    return [Published(row.id, row.version, read_definition(row.definition)) for row in tx.execute(PUBLISHED, given)]


def get_definitions(
    tx: Connection, workspace_id: int, wanted: Collection[tuple[int, int]]
) -> dict[tuple[int, int], Definition]:
    """Return the definitions of (workflow, version) pairs."""
    pairs: Sequence[tuple[int, int]] = sorted(set(wanted))
    given = {"workspace_id": workspace_id, "ids": [pair[0] for pair in pairs], "versions": [pair[1] for pair in pairs]}
    rows = tx.execute(VERSIONS, given)
    return {(row.workflow_id, row.version): read_definition(row.definition) for row in rows}
