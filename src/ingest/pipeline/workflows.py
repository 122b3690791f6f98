"""Workflows managed: kept in versions, published, unpublished, started and stopped by hand."""

from collections.abc import Mapping
from typing import Any

from ingest.domain.actors import API, Actor
from ingest.domain.refusals import Conflict, Invalid, NotFound
from ingest.domain.workflows import MAX_WORKFLOWS, read_definition
from ingest.store import workflows as rows
from ingest.store.contacts import lock_contacts
from ingest.store.runs import RunEnd, end_runs, end_runs_of_contacts, end_runs_of_workflow
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.workflow_runs import list_runs

MAX_NAME = 120


def create_workflow(
    uow: UnitOfWork, workspace_id: int, name: str, definition: Mapping[str, Any], actor: Actor = API
) -> int:
    """Keep a new workflow as a draft and return its id.

    Raises Invalid naming what cannot be, Conflict for a name that is taken or a workspace that has its hundred.
    """
    read_definition(definition)
    wanted = _read_name(name)
    rows.lock_names(uow.tx, workspace_id)
    if rows.count_workflows(uow.tx, workspace_id) >= MAX_WORKFLOWS:
        raise Conflict(f"a workspace has at most {MAX_WORKFLOWS} workflows", word="too_many_workflows")
    workflow_id = rows.add_workflow(uow.tx, workspace_id, wanted, uow.now)
    if workflow_id is None:
        raise Conflict("there is a workflow of that name", word="name_taken", field="name")
    rows.add_version(uow.tx, workspace_id, workflow_id, 1, definition, name=None, actor_id=actor.id, now=uow.now)
    return workflow_id


def _read_name(name: str) -> str:
    trimmed = name.strip()
    if not 1 <= len(trimmed) <= MAX_NAME:
        raise Invalid(f"a name has 1 to {MAX_NAME} characters", field="name")
    return trimmed


def change_workflow(
    uow: UnitOfWork, workspace_id: int, workflow_id: int, definition: Mapping[str, Any], actor: Actor = API
) -> int:
    """Keep a new version and return its number. Runs keep to theirs; new ones take it once it is published."""
    read_definition(definition)
    workflow = _lock(uow, workspace_id, workflow_id)
    version = int(workflow.version) + 1
    rows.add_version(uow.tx, workspace_id, workflow_id, version, definition, name=None, actor_id=actor.id, now=uow.now)
    return version


def publish_workflow(uow: UnitOfWork, workspace_id: int, workflow_id: int) -> int:
    """Have new runs take the latest version; return its number. Safe to repeat."""
    workflow = _lock(uow, workspace_id, workflow_id)
    rows.mark_state(uow.tx, workspace_id, workflow_id, state="published", version=workflow.version, now=uow.now)
    return int(workflow.version)


def unpublish_workflow(uow: UnitOfWork, workspace_id: int, workflow_id: int, actor: Actor = API) -> int:
    """Start no more runs and end those that are active (`workflow_unpublished`); return how many ended."""
    _lock(uow, workspace_id, workflow_id)
    rows.mark_state(uow.tx, workspace_id, workflow_id, state="unpublished", version=None, now=uow.now)
    return end_runs_of_workflow(uow.tx, workspace_id, workflow_id, RunEnd("workflow_unpublished", uow.now, actor))


def _lock(uow: UnitOfWork, workspace_id: int, workflow_id: int) -> rows.Record:
    workflow = rows.lock_workflow(uow.tx, workspace_id, workflow_id)
    if workflow is None:
        raise NotFound("no such workflow")
    return workflow


def stop_run(uow: UnitOfWork, workspace_id: int, contact_id: int, run_id: int, actor: Actor = API) -> bool:
    """Stop one run of the contact by hand; return whether it was active. Raises NotFound for a run that never was."""
    lock_contacts(uow.tx, [(workspace_id, contact_id)])
    known = list_runs(uow.tx, workspace_id, contact_id=contact_id, before_id=run_id + 1, limit=1)
    if not known or known[0].id != run_id:
        raise NotFound("no such run")
    return bool(end_runs(uow.tx, workspace_id, [run_id], RunEnd("manual", uow.now, actor)))


def stop_runs_of_contact(uow: UnitOfWork, workspace_id: int, contact_id: int, actor: Actor = API) -> int:
    """Stop every run of the contact by hand; return how many were active."""
    lock_contacts(uow.tx, [(workspace_id, contact_id)])
    return end_runs_of_contacts(uow.tx, workspace_id, [contact_id], RunEnd("manual", uow.now, actor))


def stop_runs_of_workflow(uow: UnitOfWork, workspace_id: int, workflow_id: int, actor: Actor = API) -> int:
    """Stop every run of the workflow by hand; return how many were active. It stays published."""
    _lock(uow, workspace_id, workflow_id)
    return end_runs_of_workflow(uow.tx, workspace_id, workflow_id, RunEnd("manual", uow.now, actor))
