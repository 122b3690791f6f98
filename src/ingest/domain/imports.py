"""Imports of contacts: what the columns of a file mean, and what is to become of each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ingest.domain.contact_keys import EMAIL_SCHEME, PHONE_SCHEME
from ingest.domain.csv_cells import Form, read_list
from ingest.domain.fields import STANDARD, FieldChanges, FieldDefinition, find_definition, read_changes
from ingest.domain.refusals import Invalid

Mode = Literal["add_only", "update_only", "add_and_update", "add_all"]
IdentifierField = Literal["id", "phone", "email"]
MODES: tuple[str, ...] = get_args(Mode)

SPECIAL = frozenset({"id", "tags", "assignee", "lifecycle"})
IGNORED = ""
MAX_ROW_TAGS = 20
# What people call the columns, beside the API's names: letters only, lower-case.
ALIASES = {
    "contactid": "id", "firstname": "firstName", "name": "firstName", "lastname": "lastName", "surname": "lastName",
    "phone": "phone", "phonenumber": "phone", "mobile": "phone", "email": "email", "emailaddress": "email",
    "country": "countryCode", "countrycode": "countryCode", "language": "language", "profilepic": "profilePic",
    "picture": "profilePic", "tag": "tags", "tags": "tags", "assignee": "assignee", "assigneeemail": "assignee",
    "lifecycle": "lifecycle", "id": "id",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import. `columns` names the field of each column, "" for none; custom fields by `field:<id>`."""

    mode: Mode
    identifier: IdentifierField | None
    columns: tuple[str, ...]
    overwrites: bool = True
    form: Form = "spreadsheet"
    tags: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the options as they are stored."""
        return {
            "mode": self.mode,
            "identifier": self.identifier,
            "columns": list(self.columns),
            "overwrites": self.overwrites,
            "form": self.form,
            "tags": list(self.tags),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "ImportOptions":
        """Return stored options."""
        return cls(
            given["mode"],
            given["identifier"],
            tuple(given["columns"]),
            given["overwrites"],
            given["form"],
            tuple(given["tags"]),
        )


def read_columns(
    header: Sequence[str], mapping: Mapping[str, str] | None, definitions: Sequence[FieldDefinition]
) -> tuple[str, ...]:
    """Return the field of each column: as mapped, or without a mapping by what the columns are called.

    Raises Invalid for a mapped column that the file lacks, an unknown field, or a field mapped twice.
    """
    if mapping is None:
        columns = [_guess(name, definitions) for name in header]
    else:
        missing = [name for name in mapping if name not in header]
        if missing:
            raise Invalid(f"the file has no column {missing[0][:100]!r}", field="mapping")
        columns = [_field(mapping.get(name) or IGNORED, definitions) for name in header]
    named = [each for each in columns if each]
    twice = sorted({each for each in named if named.count(each) > 1})
    if twice:
        raise Invalid(f"{twice[0]} is mapped twice", field="mapping")
    if not named:
        raise Invalid("no column is mapped to a field", field="mapping")
    return tuple(columns)


def _guess(name: str, definitions: Sequence[FieldDefinition]) -> str:
    folded = "".join(letter for letter in name.lower() if letter.isalpha())
    if folded in ALIASES:
        return ALIASES[folded]
    try:
        return f"field:{find_definition(name, definitions).id}"
    except Invalid:
        return IGNORED


def _field(name: str, definitions: Sequence[FieldDefinition]) -> str:
    if name == IGNORED or name in STANDARD or name in SPECIAL:
        return name
    try:
        return f"field:{find_definition(name, definitions).id}"
    except Invalid:
        raise Invalid(f"there is no field {name[:100]!r}", field="mapping") from None


def check_options(options: ImportOptions) -> None:
    """Raise Invalid when the columns lack what the mode needs."""
    if options.mode == "add_all":
        if options.identifier == "id" or "id" in options.columns:
            raise Invalid("a new contact has no id yet", field="mapping")
    elif options.identifier is None:
        raise Invalid("which column identifies a contact: id, phone or email", field="identifier")
    elif options.identifier not in options.columns:
        raise Invalid(f"no column is mapped to {options.identifier}", field="mapping")
    if options.mode == "add_only" and options.identifier == "id":
        raise Invalid("a new contact has no id yet", field="identifier")
    if options.mode != "update_only" and options.identifier != "id" and "firstName" not in options.columns:
        raise Invalid("new contacts need a first name: map a column to firstName", field="mapping")


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A checked row. `key` is the contact key that identifies it, `contact_id` the id that does; neither in add_all."""

    number: int
    changes: FieldChanges
    key: str = ""
    contact_id: int = 0
    tags: tuple[str, ...] = ()
    assignee: str = ""
    lifecycle: str = ""


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of a row: created, updated, unchanged, skipped or failed; the last two with the field and reason."""

    number: int
    outcome: str
    contact_id: int = 0
    field: str = ""
    reason: str = ""

    def as_json(self) -> list[Any]:
        """Return the outcome as the report keeps it."""
        return [self.number, self.outcome, self.contact_id or None, self.field or None, self.reason or None]


def read_row(
    number: int, cells: Sequence[str], options: ImportOptions, definitions: Sequence[FieldDefinition]
) -> ImportRow:
    """Return the checked row. Empty cells say nothing. Raises Invalid naming the field that cannot be."""
    given: dict[str, str] = {}
    for name, cell in zip(options.columns, cells, strict=False):
        if name and cell.strip():
            given[name] = cell.strip()
    by_id = {str(each.id): each.slug for each in definitions}
    custom = {
        by_id[name.removeprefix("field:")]: value
        for name, value in given.items()
        if name.startswith("field:") and name.removeprefix("field:") in by_id
    }
    changes = read_changes({name: value for name, value in given.items() if name in STANDARD}, custom, definitions)
    tags = read_list(given.get("tags", ""))
    if len(tags) > MAX_ROW_TAGS or any(len(tag) > 255 for tag in tags):
        raise Invalid(f"at most {MAX_ROW_TAGS} tags of 255 characters", field="tags")
    key, contact_id = _identify(given, changes, options)
    return ImportRow(
        number,
        changes,
        key,
        contact_id,
        (*tags, *options.tags),
        given.get("assignee", ""),
        given.get("lifecycle", ""),
    )


def _identify(given: Mapping[str, str], changes: FieldChanges, options: ImportOptions) -> tuple[str, int]:
    if options.mode == "add_all" or options.identifier is None:
        return "", 0
    value = given.get(options.identifier)
    if not value:
        raise Invalid("the row has no identifier", field=options.identifier)
    if options.identifier == "id":
        if not (value.isascii() and value.isdigit()) or len(value) > 15:
            raise Invalid("a whole number", field="id")
        return "", int(value)
    scheme = PHONE_SCHEME if options.identifier == "phone" else EMAIL_SCHEME
    found = [key.key for key in changes.contact_keys() if key.key.startswith(scheme)]
    if not found:
        raise Invalid("a placeholder that identifies nobody", field=options.identifier)
    return found[0], 0


def combine(first: FieldChanges, second: FieldChanges) -> FieldChanges:
    """Return both changes, the second after the first."""
    return FieldChanges(
        {**first.columns, **second.columns},
        {**first.custom, **second.custom},
        second.phone or first.phone,
        second.email or first.email,
    )


def only_empty(changes: FieldChanges, columns: Mapping[str, Any], fields: Mapping[str, Any]) -> FieldChanges:
    """Return the changes of what has no value yet: existing values are not overwritten."""
    return replace(
        changes,
        columns={name: value for name, value in changes.columns.items() if not columns.get(name)},
        custom={key: value for key, value in changes.custom.items() if not fields.get(str(key))},
    )


@dataclass(slots=True)
class Plan:
    """What a batch will do: contacts to make, changes of existing ones, and what became of rows so far."""

    new: list[FieldChanges] = field(default_factory=list)
    # The rows behind each new contact; the first one makes it.
    new_rows: list[list[ImportRow]] = field(default_factory=list)
    changes: dict[int, FieldChanges] = field(default_factory=dict)
    changed_rows: dict[int, list[ImportRow]] = field(default_factory=dict)
    outcomes: list[RowOutcome] = field(default_factory=list)


def plan_rows(rows: Sequence[ImportRow], options: ImportOptions, found: Mapping[str | int, Sequence[int]]) -> Plan:
    """Return what to do with the rows, in their order. `found` has the live contacts of each key and id."""
    plan = Plan()
    made: dict[str, int] = {}
    for row in rows:
        ids = found.get(row.key or row.contact_id, ()) if options.mode != "add_all" else ()
        if len(ids) > 1:
            _fail(plan, row, options, "ambiguous: several contacts have it")
        elif ids:
            _plan_existing(plan, row, ids[0], options)
        elif row.key and row.key in made:
            _plan_repeat(plan, row, made[row.key], options)
        elif options.mode == "update_only" or (row.contact_id and not ids):
            _fail(plan, row, options, "no contact has it")
        elif not row.changes.columns.get("first_name"):
            plan.outcomes.append(RowOutcome(row.number, "failed", 0, "firstName", "a new contact needs a first name"))
        else:
            made[row.key] = len(plan.new)
            plan.new.append(row.changes)
            plan.new_rows.append([row])
    return plan


def _fail(plan: Plan, row: ImportRow, options: ImportOptions, reason: str) -> None:
    plan.outcomes.append(RowOutcome(row.number, "failed", 0, options.identifier or "", reason))


def _plan_existing(plan: Plan, row: ImportRow, contact_id: int, options: ImportOptions) -> None:
    if options.mode == "add_only":
        plan.outcomes.append(RowOutcome(row.number, "skipped", contact_id, options.identifier or "", "exists"))
        return
    plan.changes[contact_id] = combine(plan.changes.get(contact_id, FieldChanges()), row.changes)
    plan.changed_rows.setdefault(contact_id, []).append(row)


def _plan_repeat(plan: Plan, row: ImportRow, place: int, options: ImportOptions) -> None:
    if options.mode == "add_only":
        plan.outcomes.append(RowOutcome(row.number, "skipped", 0, options.identifier or "", "repeats a row above"))
        return
    plan.new[place] = combine(plan.new[place], row.changes)
    plan.new_rows[place].append(row)
