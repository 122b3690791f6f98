"""Step `transfer`, exports: all contacts that match a filter, written to a file batch by batch, beyond any window.

Contacts go by id, so one that is made meanwhile comes at the end and none comes twice.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.domain.access import Principal
from ingest.domain.csv_cells import Form, write_list, write_rows
from ingest.domain.exports import header
from ingest.domain.refusals import Invalid
from ingest.jobs.transfer_types import ExportBatch
from ingest.pipeline.contact_queries import FilterGiven, make_query
from ingest.store import transfers
from ingest.store.contact_lists import count_contacts, list_contact_ids
from ingest.store.custom_fields import CustomField, list_custom_fields
from ingest.store.transfers import PartKey
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.views.contacts import ContactView, list_contacts
from ingest.store.wall import name_workspace

BATCH_ROWS = 1000
LINK_DAYS = 7
MAX_SELECTED = 100
EXPORT = "export"


def export_selected(uow: UnitOfWork, workspace_id: int, ids: Sequence[int], form: Form) -> str:
    """Return the CSV of at most 100 contacts, at once, in the order of the ids. Raises Invalid for more."""
    if len(set(ids)) > MAX_SELECTED:
        raise Invalid(f"at most {MAX_SELECTED} contacts", field="contactIds")
    definitions = list_custom_fields(uow.tx, workspace_id)
    contacts = list_contacts(uow.tx, workspace_id, list(dict.fromkeys(ids)))
    return write_rows([header(definitions), *_rows(contacts, definitions)], form)


def _rows(contacts: Sequence[ContactView], definitions: Sequence[CustomField]) -> list[list[str]]:
    return [_row(each, definitions) for each in contacts]


def _row(contact: ContactView, definitions: Sequence[CustomField]) -> list[str]:
    """Return the contact's cells, in the order of `domain.exports.COLUMNS`."""
    return [
        str(contact.id),
        contact.first_name,
        contact.last_name or "",
        contact.phone or "",
        contact.email or "",
        contact.country_code or "",
        contact.language or "",
        contact.avatar_url or "",
        write_list(contact.tags),
        contact.assignee["email"] if contact.assignee else "",
        contact.lifecycle or "",
        contact.status,
        "yes" if contact.blocked_at is not None else "no",
        write_list([each["name"] for each in contact.channels]),
        _moment(contact.created_at),
        _moment(contact.last_message_at),
        *(contact.fields.get(str(each.id), "") for each in definitions),
    ]


def _moment(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at is not None else ""


def accept_export(uow: UnitOfWork, principal: Principal, given: FilterGiven, form: Form) -> int:
    """Add an export of all contacts that match, and its first batch's job; return the transfer's id. Raises Invalid."""
    query = make_query(uow, principal.workspace_id, given)
    transfer_id = transfers.add_transfer(
        uow.tx,
        principal.workspace_id,
        EXPORT,
        {"filter": given.as_json(), "form": form},
        source=principal.source,
        user_id=principal.user_id,
        token_id=principal.token_id,
        now=uow.now,
        expires_at=uow.now + timedelta(days=LINK_DAYS),
    )
    total = count_contacts(uow.tx, principal.workspace_id, query)
    transfers.set_total(uow.tx, principal.workspace_id, transfer_id, total)
    uow.add_job(ExportBatch(principal.workspace_id, transfer_id))
    return transfer_id


def export_batch(uow: UnitOfWork, job: ExportBatch) -> int:
    """Write the next batch and add the job of the one after it; return how many contacts it had. Safe to run twice."""
    transfer = transfers.lock_transfer(uow.tx, job.workspace_id, job.transfer_id)
    key = PartKey(job.workspace_id, job.transfer_id, job.position)
    if transfer is None or transfer.is_over or transfers.find_content(uow.tx, key) is not None:
        return 0
    name_workspace(uow.tx, job.workspace_id)
    query = make_query(uow, job.workspace_id, FilterGiven.from_json(transfer.options["filter"]))
    ids = list_contact_ids(uow.tx, job.workspace_id, query, cursor=job.after_contact_id, limit=BATCH_ROWS)
    content = _content(uow, job, ids, transfer.options)
    transfers.add_part(uow.tx, key, len(ids), content.encode())
    is_over = len(ids) < BATCH_ROWS
    transfers.mark_progress(
        uow.tx,
        transfer,
        job.workspace_id,
        done=len(ids),
        counts={"exported": len(ids)},
        is_over=is_over,
        now=uow.now,
    )
    if not is_over:
        uow.add_job(ExportBatch(job.workspace_id, job.transfer_id, job.position + 1, ids[-1]))
    return len(ids)


def _content(uow: UnitOfWork, job: ExportBatch, ids: Sequence[int], options: Mapping[str, Any]) -> str:
    definitions = list_custom_fields(uow.tx, job.workspace_id)
    rows = _rows(list_contacts(uow.tx, job.workspace_id, ids), definitions)
    head = [] if job.position else [header(definitions)]
    return write_rows([*head, *rows], options["form"])
