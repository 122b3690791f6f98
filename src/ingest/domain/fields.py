"""What may be written into a contact's fields: standard ones by name, custom ones by their type.

Every value comes out as the text that is stored, or None for "clear it". Custom values are text for every type: `true`,
`42`, `2026-06-30`, `09:30`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol
from urllib.parse import urlsplit

from ingest.domain.contact_keys import ContactKey, Email, Phone, contact_keys, normalise_email, normalise_phone
from ingest.domain.refusals import Invalid

MAX_NAME = 255
MAX_URL = 2048
MAX_VALUE = 1024
TWO_LETTERS = re.compile(r"[A-Za-z]{2}")
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?")
PUNCTUATION = re.compile(r"[\s().\-]+")
TRUE = frozenset({"true", "yes", "1"})
FALSE = frozenset({"false", "no", "0"})
DATA_TYPES = ("text", "list", "checkbox", "email", "number", "url", "date", "time")

# The names of the API, and the columns that hold them.
STANDARD = {
    "firstName": "first_name",
    "lastName": "last_name",
    "phone": "phone",
    "email": "email",
    "countryCode": "country_code",
    "language": "language",
    "profilePic": "avatar_url",
}
DEFAULT_ORDER = ("firstName", "lastName", "countryCode", "language", "email", "phone", "assignee", "status")


class FieldDefinition(Protocol):
    """What a value is checked against: a custom field of the workspace."""

    @property
    def id(self) -> int:
        """Its id."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def slug(self) -> str:
        """What programs call it."""

    @property
    def data_type(self) -> str:
        """What it holds."""

    @property
    def allowed_values(self) -> list[str] | None:
        """What a list may hold."""


@dataclass(frozen=True, slots=True)
class FieldChanges:
    """Checked changes: columns by name and custom values by field id. What is absent stays as it is."""

    columns: Mapping[str, str | None] = field(default_factory=dict)
    custom: Mapping[int, str | None] = field(default_factory=dict)
    phone: Phone | None = None
    email: Email | None = None

    def __bool__(self) -> bool:
        return bool(self.columns or self.custom)

    def contact_keys(self) -> tuple[ContactKey, ...]:
        """Return the keys that the changed phone and email give."""
        return contact_keys(self.phone, self.email)


def read_changes(
    given: Mapping[str, Any], custom: Mapping[str, Any], definitions: Sequence[FieldDefinition] | None = None
) -> FieldChanges:
    """Return the checked changes. `given` has the API's names, `custom` values by slug, name or id of the field.

    Raises Invalid naming the field that cannot be.
    """
    columns: dict[str, str | None] = {}
    phone = email = None
    for name, value in given.items():
        if name not in STANDARD:
            continue
        if name == "phone" and value is not None:
            phone = read_phone(value)
            columns["phone"] = phone.e164
        elif name == "email" and value is not None:
            email = read_email(value)
            columns["email"] = email.address
        else:
            columns[STANDARD[name]] = _read_standard(name, value)
    return FieldChanges(columns, read_custom(custom, definitions or []), phone, email)


def read_phone(value: Any, field_name: str = "phone") -> Phone:
    """Return the number. Raises Invalid for one without its country code."""
    spelled = PUNCTUATION.sub("", str(value))
    phone = normalise_phone(spelled) if spelled.startswith(("+", "00", "＋")) else None
    if phone is None:
        raise Invalid("a phone needs its country code, such as +60123456789", field=field_name)
    return phone


def read_email(value: Any, field_name: str = "email") -> Email:
    """Return the address. Raises Invalid for a text that is none."""
    email = normalise_email(str(value))
    if email is None:
        raise Invalid("not an email address", field=field_name)
    return email


def _read_standard(name: str, value: Any) -> str | None:
    if value is None:
        # The first name is never null: unknown is "".
        return "" if name == "firstName" else None
    text = str(value).strip()
    if name in {"countryCode", "language"}:
        if not TWO_LETTERS.fullmatch(text):
            raise Invalid("two letters", field=name)
        return text.upper() if name == "countryCode" else text.lower()
    if name == "profilePic":
        return _read_url(text, name)
    if len(text) > MAX_NAME:
        raise Invalid(f"at most {MAX_NAME} characters", field=name)
    return text


def _read_url(text: str, name: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc or len(text) > MAX_URL or any(map(str.isspace, text)):
        raise Invalid("an http or https URL", field=name)
    return text


def read_custom(values: Mapping[str, Any], definitions: Sequence[FieldDefinition]) -> dict[int, str | None]:
    """Return the values by field id, as stored. Raises Invalid for an unknown field or a value not of its type."""
    return {
        definition.id: read_value(value, definition, f"custom_fields.{name}")
        for name, value in values.items()
        for definition in (find_definition(name, definitions),)
    }


def find_definition(name: str, definitions: Sequence[FieldDefinition]) -> FieldDefinition:
    """Return the field of that slug, else of that name, else of that id. Raises Invalid."""
    wanted = name.strip().lower()
    for attribute in ("slug", "name", "id"):
        for definition in definitions:
            if str(getattr(definition, attribute)).lower() == wanted:
                return definition
    raise Invalid(f"there is no custom field {name[:100]!r}", field="custom_fields", word="unknown_field")


def read_value(value: Any, definition: FieldDefinition, name: str) -> str | None:
    """Return the value as the text that is stored, None for clearing. Raises Invalid for one not of the field's type."""
    if value is None:
        return None
    text = ("true" if value else "false") if isinstance(value, bool) else str(value).strip()
    if text == "":
        return None
    if len(text) > MAX_VALUE:
        raise Invalid(f"at most {MAX_VALUE} characters", field=name)
    if definition.data_type == "list":
        return _read_choice(text, definition, name)
    return READERS[definition.data_type](text, name)


def _read_choice(text: str, definition: FieldDefinition, name: str) -> str:
    for allowed in definition.allowed_values or []:
        if allowed.lower() == text.lower():
            return allowed
    raise Invalid("not one of the field's values", field=name)


def _read_checkbox(text: str, name: str) -> str:
    if text.lower() in TRUE:
        return "true"
    if text.lower() in FALSE:
        return "false"
    raise Invalid("true or false", field=name)


def _read_number(text: str, name: str) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise Invalid("a number", field=name) from None
    if not number.is_finite() or abs(number) >= Decimal("1e15"):
        raise Invalid("a number of at most 15 digits", field=name)
    plain = f"{number:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _read_date(text: str, name: str) -> str:
    try:
        found = date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        found = None
    if found is None:
        raise Invalid("a date as YYYY-MM-DD", field=name)
    return found.isoformat()


def _read_time(text: str, name: str) -> str:
    if not TIME.fullmatch(text):
        raise Invalid("a time as HH:MM", field=name)
    return text[:5]


READERS: Mapping[str, Callable[[str, str], str]] = {
    "text": lambda text, _name: text,
    "checkbox": _read_checkbox,
    "number": _read_number,
    "email": lambda text, name: read_email(text, name).address,
    "url": _read_url,
    "date": _read_date,
    "time": _read_time,
}
