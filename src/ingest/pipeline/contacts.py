"""Contacts changed by people and programs: created, edited, assigned, moved through the lifecycle.

Called by the API and by imports. Whoever changes a contact locks it first; a changed phone or email has duplicates looked
for after the commit. Creating by hand or import starts no automation; editing may.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ingest.domain.access import Principal
from ingest.domain.contact_keys import EMAIL_SCHEME, PHONE_SCHEME
from ingest.domain.fields import FieldChanges
from ingest.domain.profiles import DERIVED
from ingest.domain.refusals import NotFound
from ingest.jobs.act_types import ReactToFields
from ingest.jobs.types import DetectDuplicates
from ingest.store import contact_edits as rows
from ingest.store.contact_edits import ContactEdit, EditedContact, NewEvent
from ingest.store.contacts import LockedContact, lock_contacts
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.workflow_interest import list_interested


@dataclass(frozen=True, slots=True)
class Editor:
    """Who changes contacts: for which workspace, by which way, and which user where there is one."""

    workspace_id: int
    source: str
    user_id: int | None = None

    @classmethod
    def of(cls, principal: Principal) -> "Editor":
        """Return the editor that a principal is."""
        return cls(principal.workspace_id, principal.source, principal.user_id)


def lock_live(uow: UnitOfWork, workspace_id: int, contact_id: int) -> LockedContact:
    """Lock the contact and return it. Raises NotFound for one that was merged away or deleted meanwhile."""
    return lock_all_live(uow, workspace_id, [contact_id])[contact_id]


def lock_all_live(uow: UnitOfWork, workspace_id: int, ids: Collection[int]) -> dict[int, LockedContact]:
    """Lock the contacts and return them by id. Raises NotFound, with the ids, unless all are live."""
    found = lock_contacts(uow.tx, [(workspace_id, each) for each in set(ids)])
    missing = sorted(each for each in set(ids) if each not in found or not found[each].is_live)
    if missing:
        raise NotFound("Contact not found", word="contact_not_found", details={"contactIds": missing[:100]})
    return found


def create_contacts(uow: UnitOfWork, editor: Editor, new: Sequence[FieldChanges]) -> list[int]:
    """Make a contact of each set of values and return their ids, in order. Starts no automation."""
    if not new:
        return []
    ids = rows.reserve_contact_ids(uow.tx, len(new))
    edits = [_new_edit(contact_id, each, editor, uow) for contact_id, each in zip(ids, new, strict=True)]
    rows.add_edited_contacts(uow.tx, editor.workspace_id, edits, editor.source, uow.now)
    keys = [
        (contact_id, key.key, key.match_key)
        for contact_id, each in zip(ids, new, strict=True)
        for key in each.contact_keys()
    ]
    rows.replace_keys(uow.tx, editor.workspace_id, [], keys)
    _tell(uow, editor, "contact.created", [NewEvent(contact_id) for contact_id in ids])
    _detect(uow, editor.workspace_id, {contact_id for contact_id, _, _ in keys})
    return ids


def _new_edit(contact_id: int, changes: FieldChanges, editor: Editor, uow: UnitOfWork) -> ContactEdit:
    columns = {name: value for name, value in changes.columns.items() if value}
    provenance = _provenance(changes, editor.source, uow)
    if changes.phone is not None and changes.phone.country_code and "country_code" not in columns:
        columns["country_code"] = changes.phone.country_code
        provenance["country_code"] = _fact(DERIVED, uow)
    fields = {str(field_id): value for field_id, value in changes.custom.items() if value is not None}
    return ContactEdit(contact_id, columns, fields, provenance, changes.phone.is_valid if changes.phone else None)


def update_contact(uow: UnitOfWork, editor: Editor, contact_id: int, changes: FieldChanges) -> bool:
    """Change one contact; see `update_contacts`. Raises NotFound."""
    lock_live(uow, editor.workspace_id, contact_id)
    return bool(update_contacts(uow, editor, {contact_id: changes}, starts_automation=True))


def update_contacts(
    uow: UnitOfWork, editor: Editor, changes: Mapping[int, FieldChanges], *, starts_automation: bool
) -> set[int]:
    """Change contacts, which are locked; return the ids of those that were different before.

    A phone or email that another contact has is taken: it gives a suggestion, not an error.
    """
    current = rows.get_edited(uow.tx, editor.workspace_id, list(changes))
    real = {
        contact_id: narrowed
        for contact_id, each in changes.items()
        if contact_id in current and (narrowed := _narrow(current[contact_id], each))
    }
    edits = [_edit(current[contact_id], each, editor, uow) for contact_id, each in real.items()]
    rows.change_contacts(uow.tx, editor.workspace_id, edits, uow.now)
    _replace_keys(uow, editor.workspace_id, real)
    names = {contact_id: _names(each) for contact_id, each in real.items()}
    _tell(uow, editor, "contact.updated", [NewEvent(key, {"fields": list(each)}) for key, each in names.items()])
    if starts_automation and real and list_interested(uow.tx, [editor.workspace_id]):
        fields = tuple(sorted({name for each in names.values() for name in each}))
        uow.add_job(ReactToFields(editor.workspace_id, fields, tuple(real)))
    return set(real)


def _narrow(current: EditedContact, changes: FieldChanges) -> FieldChanges:
    """Return the changes that change something."""
    columns = {name: value for name, value in changes.columns.items() if value != current.columns[name]}
    custom = {key: value for key, value in changes.custom.items() if value != current.fields.get(str(key))}
    return replace(changes, columns=columns, custom=custom)


def _edit(current: EditedContact, changes: FieldChanges, editor: Editor, uow: UnitOfWork) -> ContactEdit:
    columns, provenance = dict(changes.columns), _provenance(changes, editor.source, uow)
    is_derived = current.provenance.get("country_code", {}).get("source") == DERIVED
    if "phone" in columns and "country_code" not in columns and (is_derived or not current.columns["country_code"]):
        columns["country_code"] = changes.phone.country_code if changes.phone else None
        provenance["country_code"] = _fact(DERIVED, uow)
    given = {str(key): value for key, value in changes.custom.items()}
    fields = {key: value for key, value in {**current.fields, **given}.items() if value is not None}
    return ContactEdit(current.id, columns, fields, provenance, changes.phone.is_valid if changes.phone else None)


def _replace_keys(uow: UnitOfWork, workspace_id: int, changes: Mapping[int, FieldChanges]) -> None:
    schemes = {"phone": PHONE_SCHEME, "email": EMAIL_SCHEME}
    changed = [
        (contact_id, scheme)
        for contact_id, each in changes.items()
        for name, scheme in schemes.items()
        if name in each.columns
    ]
    gone = set(changed)
    keys = [
        (contact_id, key.key, key.match_key)
        for contact_id, each in changes.items()
        for key in each.contact_keys()
        if (contact_id, key.key.partition(":")[0] + ":") in gone
    ]
    rows.replace_keys(uow.tx, workspace_id, changed, keys)
    _detect(uow, workspace_id, {contact_id for contact_id, _ in changed})


def _names(changes: FieldChanges) -> tuple[str, ...]:
    return (*changes.columns, *(f"fields.{key}" for key in changes.custom))


def _provenance(changes: FieldChanges, source: str, uow: UnitOfWork) -> dict[str, Any]:
    return {name: _fact(source, uow) for name in _names(changes)}


def _fact(source: str, uow: UnitOfWork) -> dict[str, Any]:
    return {"source": source, "at": uow.now.timestamp()}


def _tell(uow: UnitOfWork, editor: Editor, kind: str, events: Sequence[NewEvent]) -> None:
    rows.add_contact_events(
        uow.tx, editor.workspace_id, kind, events, source=editor.source, actor_id=editor.user_id, now=uow.now
    )


def _detect(uow: UnitOfWork, workspace_id: int, ids: Collection[int]) -> None:
    if ids:
        uow.add_job(DetectDuplicates(workspace_id, tuple(sorted(ids))))


def assign_contacts(uow: UnitOfWork, editor: Editor, ids: Collection[int], user_id: int | None) -> list[int]:
    """Assign the contacts to the user, or to nobody; return the ids of those that changed. Raises NotFound."""
    lock_all_live(uow, editor.workspace_id, ids)
    changed = rows.set_assignee(uow.tx, editor.workspace_id, sorted(set(ids)), user_id, uow.now)
    _tell(uow, editor, "contact.assignee_changed", [NewEvent(each, {"user_id": user_id}) for each in changed])
    return changed


def move_through_lifecycle(uow: UnitOfWork, editor: Editor, contact_id: int, stage_id: int | None) -> bool:
    """Put the contact into the stage, or into none; return whether it was in another. Raises NotFound."""
    lock_live(uow, editor.workspace_id, contact_id)
    changed = rows.set_lifecycle(uow.tx, editor.workspace_id, contact_id, stage_id, uow.now)
    if changed:
        _tell(uow, editor, "contact.lifecycle_changed", [NewEvent(contact_id, {"stage_id": stage_id})])
    return changed
