"""Workflows: kept in versions, published, started and stopped; and the runs of contacts."""

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from ingest.domain.access import sees_contact
from ingest.domain.refusals import Conflict, NotFound
from ingest.jobs.act_types import StartRuns
from ingest.pipeline.react import start_workflow
from ingest.pipeline.workflows import (
    change_workflow,
    create_workflow,
    publish_workflow,
    stop_run,
    stop_runs_of_contact,
    stop_runs_of_workflow,
    unpublish_workflow,
)
from ingest.store.workflow_runs import list_runs
from ingest.store.workflows import Record, find_workflow, list_workflows
from ingest.web.api.access import Call
from ingest.web.api.finding import IdentifierPath, find_contact
from ingest.web.api.merges import actor_of
from ingest.web.api.paging import BIGGEST, Page, PageQuery, Paging, make_page
from ingest.web.api.requests import Id, RequestShape
from ingest.web.api.routes import endpoint, make_router
from ingest.web.api.shapes import Shape, seconds

router = make_router("Workflow")

WorkflowId = Annotated[int, Path(ge=1, lt=BIGGEST)]
RunId = Annotated[int, Path(ge=1, lt=BIGGEST)]
State = Annotated[str | None, Query(pattern="^(active|ended)$", description="active or ended; absent: all.")]
MAX_START = 1000


class NewWorkflow(RequestShape):
    """A workflow to keep."""

    name: str
    definition: dict[str, Any] = Field(description='{"trigger": {"kind"}, "steps": [{"id", "kind"}], ...}')


class WorkflowVersionBody(RequestShape):
    """A new version of a workflow."""

    definition: dict[str, Any]


class WorkflowShape(Shape):
    """A workflow with its latest definition. Times are unix seconds."""

    id: int
    name: str
    state: str = Field(description="draft, published or unpublished.")
    version: int
    published_version: int | None
    active_run_count: int
    definition: dict[str, Any]
    created_at: int
    updated_at: int


def _read(row: Record) -> WorkflowShape:
    return WorkflowShape(
        id=row.id,
        name=row.name,
        state=row.state,
        version=row.version,
        published_version=row.published_version,
        active_run_count=row.active_run_count,
        definition=row.definition,
        created_at=seconds(row.created_at) or 0,
        updated_at=seconds(row.updated_at) or 0,
    )


def _get(call: Call, workflow_id: int) -> Record:
    row = find_workflow(call.tx, call.workspace_id, workflow_id)
    if row is None:
        raise NotFound("Workflow not found", word="workflow_not_found", field="id")
    return row


@endpoint(router, "POST", "/workflow", "workflow.edit", own=True)
def add_workflow(call: Call, body: NewWorkflow) -> WorkflowShape:
    """Keep a new workflow as a draft. It starts nothing until it is published."""
    workflow_id = create_workflow(call.uow, call.workspace_id, body.name, body.definition, actor_of(call))
    call.audit("workflow.create", workflow_id=workflow_id)
    return _read(_get(call, workflow_id))


@endpoint(router, "GET", "/workflow/list", "workflow.read", own=True)
def list_all_workflows(call: Call) -> list[WorkflowShape]:
    """Return the workspace's workflows, oldest first; at most 100."""
    return [_read(row) for row in list_workflows(call.tx, call.workspace_id)]


@endpoint(router, "GET", "/workflow/{workflow_id}", "workflow.read", own=True)
def read_workflow(call: Call, workflow_id: WorkflowId) -> WorkflowShape:
    """Return a workflow."""
    return _read(_get(call, workflow_id))


@endpoint(router, "PUT", "/workflow/{workflow_id}", "workflow.edit", own=True)
def add_workflow_version(call: Call, workflow_id: WorkflowId, body: WorkflowVersionBody) -> WorkflowShape:
    """Keep a new version. Active runs keep to theirs; new ones take it once it is published."""
    _get(call, workflow_id)
    version = change_workflow(call.uow, call.workspace_id, workflow_id, body.definition, actor_of(call))
    call.audit("workflow.change", workflow_id=workflow_id, version=version)
    return _read(_get(call, workflow_id))


@endpoint(router, "POST", "/workflow/{workflow_id}/publish", "workflow.edit", own=True)
def publish(call: Call, workflow_id: WorkflowId) -> WorkflowShape:
    """Have new runs take the latest version."""
    _get(call, workflow_id)
    version = publish_workflow(call.uow, call.workspace_id, workflow_id)
    call.audit("workflow.publish", workflow_id=workflow_id, version=version)
    return _read(_get(call, workflow_id))


@endpoint(router, "POST", "/workflow/{workflow_id}/unpublish", "workflow.edit", own=True)
def unpublish(call: Call, workflow_id: WorkflowId) -> WorkflowShape:
    """Start no more runs, and end those that are active."""
    _get(call, workflow_id)
    ended = unpublish_workflow(call.uow, call.workspace_id, workflow_id, actor_of(call))
    call.audit("workflow.unpublish", workflow_id=workflow_id, ended=ended)
    return _read(_get(call, workflow_id))


class StartBody(RequestShape):
    """For whom."""

    contact_ids: list[Id] = Field(min_length=1, max_length=MAX_START)


class CountShape(Shape):
    """How many runs."""

    run_count: int


@endpoint(router, "POST", "/workflow/{workflow_id}/start", "workflow.run", own=True)
def start_by_hand(call: Call, workflow_id: WorkflowId, body: StartBody) -> CountShape:
    """Start a published workflow for the contacts. Those in it already, blocked or gone are left out."""
    if _get(call, workflow_id).state != "published":
        raise Conflict("the workflow is not published", word="not_published")
    for contact_id in body.contact_ids if not sees_contact(call.principal, None, None) else ():
        find_contact(call, f"id:{contact_id}")
    job = StartRuns(call.workspace_id, workflow_id, tuple(body.contact_ids), call.principal.user_id or 0)
    return CountShape(run_count=start_workflow(call.uow, job))


@endpoint(router, "POST", "/workflow/{workflow_id}/stop", "workflow.edit", own=True)
def stop_workflow(call: Call, workflow_id: WorkflowId) -> CountShape:
    """Stop every active run of the workflow. It stays published."""
    _get(call, workflow_id)
    stopped = stop_runs_of_workflow(call.uow, call.workspace_id, workflow_id, actor_of(call))
    call.audit("workflow.stop", workflow_id=workflow_id, stopped=stopped)
    return CountShape(run_count=stopped)


class RunShape(Shape):
    """A contact's pass through a workflow. Times are unix seconds."""

    id: int
    workflow_id: int
    workflow_name: str
    version: int
    contact_id: int
    state: str
    step_id: str
    waits_for: str | None
    wake_at: int | None
    started_at: int
    ended_at: int | None
    reason: str | None


def _read_run(row: Record) -> RunShape:
    return RunShape(
        id=row.id,
        workflow_id=row.workflow_id,
        workflow_name=row.name,
        version=row.version,
        contact_id=row.contact_id,
        state=row.state,
        step_id=row.step_id,
        waits_for=row.waits_for,
        wake_at=seconds(row.wake_at),
        started_at=seconds(row.started_at) or 0,
        ended_at=seconds(row.ended_at),
        reason=row.reason,
    )


def _runs(
    call: Call, page: PageQuery, state: str | None, *, contact_id: int | None = None, workflow_id: int | None = None
) -> Page[RunShape]:
    rows = list_runs(
        call.tx,
        call.workspace_id,
        contact_id=contact_id,
        workflow_id=workflow_id,
        state=state,
        before_id=abs(page.cursor) or None,
        limit=page.limit + 1,
    )
    answer = make_page(call, page, rows, lambda row: row.id, _read_run)
    # Runs are read from the newest on only.
    answer.pagination.previous = None
    return answer


@endpoint(router, "GET", "/workflow/{workflow_id}/run/list", "contact.list", own=True)
def list_runs_of_workflow(call: Call, workflow_id: WorkflowId, page: Paging, state: State = None) -> Page[RunShape]:
    """Return the workflow's runs, newest first."""
    return _runs(call, page, state, workflow_id=_get(call, workflow_id).id)


@endpoint(router, "GET", "/contact/{identifier}/run/list", "contact.read", own=True)
def list_runs_of_contact(call: Call, identifier: IdentifierPath, page: Paging, state: State = None) -> Page[RunShape]:
    """Return the contact's runs, newest first."""
    return _runs(call, page, state, contact_id=find_contact(call, identifier).id)


@endpoint(router, "POST", "/contact/{identifier}/run/{run_id}/stop", "workflow.run", own=True)
def stop_run_of_contact(call: Call, identifier: IdentifierPath, run_id: RunId) -> CountShape:
    """Stop one run of the contact. One that has ended is left as it is."""
    contact = find_contact(call, identifier)
    stopped = stop_run(call.uow, call.workspace_id, contact.id, run_id, actor_of(call))
    return CountShape(run_count=int(stopped))


@endpoint(router, "POST", "/contact/{identifier}/run/stop", "workflow.run", own=True)
def stop_all_runs_of_contact(call: Call, identifier: IdentifierPath) -> CountShape:
    """Stop every run of the contact."""
    contact = find_contact(call, identifier)
    return CountShape(run_count=stop_runs_of_contact(call.uow, call.workspace_id, contact.id, actor_of(call)))
