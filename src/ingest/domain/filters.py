"""Filters over contacts: conditions and groups of them, read from what clients send and checked.

`{"$and": [...]}` or `{"$or": [...]}`; a condition may itself be such a group. A condition has `category`, `field`,
`operator` and `value`. What comes out is data that `store.filter_sql` turns into SQL; nothing of a client's text is in it
but as a value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from ingest.domain.contact_keys import email_key, normalise_email, normalise_phone, phone_key
from ingest.domain.fields import FieldDefinition, find_definition, read_value
from ingest.domain.moments import Span, read_duration, read_span
from ingest.domain.refusals import Invalid

MAX_CONDITIONS = 50
MAX_DEPTH = 5
MAX_VALUES = 100
MAX_TEXT = 255
FIELD = "filter"

Operator = Literal[
    "isEqualTo", "isNotEqualTo", "exists", "doesNotExist", "contains", "isGreaterThan", "isLessThan", "isBetween",
    "isTimestampAfter", "isTimestampBefore", "isTimestampBetween", "hasAnyOf", "hasAllOf", "hasNoneOf",
]  # fmt: skip
EQUAL = frozenset({"isEqualTo", "isNotEqualTo"})
EXISTS = frozenset({"exists", "doesNotExist"})
ANY = frozenset({"hasAnyOf", "hasNoneOf"})
TIMES = frozenset({"isTimestampAfter", "isTimestampBefore", "isTimestampBetween"})
NUMBERS = frozenset({"isGreaterThan", "isLessThan", "isBetween"})

TEXT_COLUMNS = {
    "firstname": "first_name",
    "lastname": "last_name",
    "email": "email",
    "phone": "phone",
    "language": "language",
    "countrycode": "country_code",
}
TIME_COLUMNS = {
    "created_at": "created_at",
    "createdat": "created_at",
    "lastmessagetime": "last_message_at",
    "lastinteractiontime": "last_message_at",
    "lastmessage": "last_message_at",
    "lastincomingmessagetime": "last_incoming_at",
    "lastincomingmessage": "last_incoming_at",
}
STATUSES = {"open": "open", "close": "closed", "closed": "closed", "snoozed": "snoozed"}


@dataclass(frozen=True, slots=True)
class Condition:
    """One checked condition: `subject` says what about (see `SUBJECTS`), `target` the column or custom field.

    `values` are texts or ids; `low` and `high` bound numbers and moments, `low` included, `high` as `includes_high` says.
    """

    subject: str
    operator: str
    target: str = ""
    values: tuple[Any, ...] = ()
    low: Any = None
    high: Any = None
    includes_high: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions and groups that must all hold, or of which one must."""

    is_all: bool
    parts: tuple["Group | Condition", ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What a filter is read against: the asker's time zone, the time now, the workspace's fields and channels."""

    zone: ZoneInfo
    now: datetime
    definitions: Sequence[FieldDefinition] = ()
    # By lower-case name; channels by their id as text too.
    channels: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)


SUBJECTS = ("text", "key", "status", "assignee", "tag", "lifecycle", "moment", "custom", "channel", "last_channel")


def read_filter(given: Any, context: Context) -> Group:
    """Return the checked filter; an empty one matches everybody. Raises Invalid saying which condition is wrong."""
    counter = [0]
    group = _read_group(given, context, 1, counter)
    if counter[0] > MAX_CONDITIONS:
        raise Invalid(f"at most {MAX_CONDITIONS} conditions", field=FIELD)
    return group


def _read_group(given: Any, context: Context, depth: int, counter: list[int]) -> Group:
    if not isinstance(given, Mapping) or not set(given) <= {"$and", "$or"}:
        raise Invalid('a filter is {"$and": [...]} or {"$or": [...]}', field=FIELD)
    if depth > MAX_DEPTH:
        raise Invalid(f"groups nest at most {MAX_DEPTH} deep", field=FIELD)
    sides = []
    for name in ("$and", "$or"):
        parts = given.get(name)
        if parts is None:
            continue
        if not isinstance(parts, list):
            raise Invalid(f"{name} takes a list of conditions", field=FIELD)
        read = tuple(_read_part(part, context, depth, counter) for part in parts)
        if read:
            sides.append(Group(name == "$and", read))
    if len(sides) == 1:
        return sides[0]
    return Group(True, tuple(sides))


def _read_part(given: Any, context: Context, depth: int, counter: list[int]) -> Group | Condition:
    if isinstance(given, Mapping) and ("$and" in given or "$or" in given):
        return _read_group(given, context, depth + 1, counter)
    counter[0] += 1
    if not isinstance(given, Mapping):
        raise Invalid("a condition has category, field, operator and value", field=FIELD)
    return read_condition(given, context)


def named_in(given: Any) -> set[str]:
    """Return every text that stands as a value in a filter, well-formed or not: what may be the name of something."""
    if isinstance(given, str):
        return {given.strip()}
    parts: Sequence[Any] = ()
    if isinstance(given, Mapping):
        parts = [value for key, value in given.items() if key in {"$and", "$or", "value"}]
    elif isinstance(given, list):
        parts = given
    return set().union(*(named_in(part) for part in parts))


def read_condition(given: Mapping[str, Any], context: Context) -> Condition:
    """Return one checked condition. Raises Invalid."""
    category, name = _fold(given.get("category")), given.get("field")
    operator, value = given.get("operator"), given.get("value")
    if not isinstance(operator, str):
        raise Invalid("a condition needs an operator", field=f"{FIELD}.operator")
    if category == "contactfield":
        return _read_contact_field(str(name or ""), operator, value, context)
    reader = CATEGORIES.get(category)
    if reader is None:
        raise Invalid(f"no category {str(given.get('category'))[:50]!r}", field=f"{FIELD}.category")
    return reader(operator, value, context, str(name or ""))


def _fold(value: Any) -> str:
    return str(value or "").strip().lower()


def _read_contact_field(name: str, operator: str, value: Any, context: Context) -> Condition:
    folded = _fold(name)
    if folded in TEXT_COLUMNS:
        return _text(TEXT_COLUMNS[folded], operator, value)
    if folded in TIME_COLUMNS:
        return _moment(operator, value, context, TIME_COLUMNS[folded])
    for known, reader in FIELDS.items():
        if folded == known:
            return reader(operator, value, context, name)
    if not folded:
        raise Invalid("a contact field needs its name", field=f"{FIELD}.field")
    return _custom(operator, value, context, name)


def _check(operator: str, allowed: frozenset[str], name: str) -> None:
    if operator not in allowed:
        told = ", ".join(sorted(allowed))
        raise Invalid(f"{name[:50]} does not take {operator[:50]!r}: use {told}", field=f"{FIELD}.operator")


def _one(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str | int | float) or isinstance(value, bool) or not 0 < len(str(value)) <= MAX_TEXT:
        raise Invalid(f"one text of 1 to {MAX_TEXT} characters", field=f"{FIELD}.value")
    return str(value)


def _many(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MAX_VALUES:
        raise Invalid(f"1 to {MAX_VALUES} values", field=f"{FIELD}.value")
    return tuple(_one(each) for each in values)


def _text(column: str, operator: str, value: Any) -> Condition:
    _check(operator, EQUAL | EXISTS | {"contains"}, column)
    if operator in EXISTS:
        return Condition("text", operator, column)
    text = _one(value)
    if operator != "contains" and column in {"email", "phone"}:
        return Condition("key", operator, column, (_key(column, text),))
    return Condition("text", operator, column, (text,))


def _key(column: str, text: str) -> str:
    """Return the contact key to look for; what is no phone or email is nobody's key."""
    if column == "phone":
        phone = normalise_phone("".join(text.split()), international=True)
        return phone_key(phone.e164) if phone is not None else phone_key("")
    email = normalise_email(text)
    return email_key(email.key) if email is not None else email_key("")


def _status(operator: str, value: Any, _context: Context, name: str) -> Condition:
    _check(operator, EQUAL, name)
    status = STATUSES.get(_one(value).lower())
    if status is None:
        raise Invalid("open, closed or snoozed", field=f"{FIELD}.value")
    return Condition("status", operator, values=(status,))


def _assignee(operator: str, value: Any, _context: Context, name: str) -> Condition:
    _check(operator, EQUAL | EXISTS | ANY, name)
    return Condition("assignee", operator, values=() if operator in EXISTS else _ids(value))


def _ids(value: Any) -> tuple[int, ...]:
    found = _many(value)
    if not all(each.isascii() and each.isdigit() and len(each) <= 15 for each in found):
        raise Invalid("ids are whole numbers", field=f"{FIELD}.value")
    return tuple(int(each) for each in found)


def _tags(operator: str, value: Any, context: Context, _name: str) -> Condition:
    _check(operator, ANY | EXISTS | {"hasAllOf"}, "contactTag")
    return Condition("tag", operator, values=() if operator in EXISTS else _known(value, context.tags))


def _lifecycle(operator: str, value: Any, context: Context, _name: str) -> Condition:
    _check(operator, EQUAL | EXISTS | ANY, "lifecycle")
    return Condition("lifecycle", operator, values=() if operator in EXISTS else _known(value, context.stages))


def _known(value: Any, ids: Mapping[str, int]) -> tuple[int, ...]:
    """Return the ids of what is named; what the workspace does not have is nobody's, which id 0 says."""
    return tuple(ids.get(_fold(each), 0) for each in _many(value))


def _channels(subject: str, operators: frozenset[str]) -> Callable[[str, Any, Context, str], Condition]:
    def read(operator: str, value: Any, context: Context, _name: str) -> Condition:
        _check(operator, operators, subject)
        if operator in EXISTS:
            return Condition(subject, operator)
        return Condition(subject, operator, values=_known(value, context.channels))

    return read


def _moment(operator: str, value: Any, context: Context, column: str) -> Condition:
    _check(operator, TIMES | EXISTS, column)
    if operator in EXISTS:
        return Condition("moment", operator, column)
    if operator == "isTimestampBetween":
        low, high = _bounds(value)
        span = Span(read_span(low, context.zone).start, read_span(high, context.zone).end)
        return Condition("moment", operator, column, low=span.start, high=span.end, includes_high=False)
    span = read_span(_one(value), context.zone)
    if operator == "isTimestampAfter":
        return Condition("moment", operator, column, low=span.end)
    return Condition("moment", operator, column, high=span.start, includes_high=False)


def _bounds(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, Mapping) or value.get("from") is None or value.get("to") is None:
        raise Invalid('{"from": ..., "to": ...}', field=f"{FIELD}.value")
    return value["from"], value["to"]


def _time_since(operator: str, value: Any, context: Context, name: str) -> Condition:
    _check(operator, NUMBERS | EXISTS, "timeSince")
    column = TIME_COLUMNS.get(_fold(name) or "lastincomingmessage")
    if column is None:
        raise Invalid("createdAt, lastMessage or lastIncomingMessage", field=f"{FIELD}.field")
    if operator in EXISTS:
        return Condition("moment", operator, column)
    if operator == "isBetween":
        low, high = (read_duration(each) for each in _bounds(value))
        return Condition("moment", operator, column, low=context.now - high, high=context.now - low)
    ago = context.now - read_duration(value)
    if operator == "isLessThan":
        return Condition("moment", operator, column, low=ago)
    return Condition("moment", operator, column, high=ago, includes_high=False)


def _custom(operator: str, value: Any, context: Context, name: str) -> Condition:
    try:
        definition = find_definition(name, context.definitions)
    except Invalid:
        raise Invalid(f"no contact field {name[:100]!r}", field=f"{FIELD}.field") from None
    _check(operator, CUSTOM_OPERATORS[definition.data_type] | EXISTS, name)
    target = str(definition.id)
    if operator in EXISTS:
        return Condition("custom", operator, target)
    if definition.data_type in {"date", "time"}:
        return _custom_time(operator, value, context, definition)
    if operator in NUMBERS:
        return _custom_number(operator, value, target)
    if operator == "contains":
        return Condition("custom", operator, target, (_one(value),))
    given = value if isinstance(value, list) else [value]
    if not 1 <= len(given) <= MAX_VALUES:
        raise Invalid(f"1 to {MAX_VALUES} values", field=f"{FIELD}.value")
    return Condition("custom", operator, target, tuple(_stored(each, definition) for each in given))


def _stored(value: Any, definition: FieldDefinition) -> str:
    if not isinstance(value, str | int | float | bool):
        raise Invalid("a text, a number, true or false", field=f"{FIELD}.value")
    stored = read_value(value, definition, f"{FIELD}.value")
    if stored is None:
        raise Invalid("a value", field=f"{FIELD}.value")
    return stored


def _number(value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e15:
        raise Invalid("a number", field=f"{FIELD}.value")
    return number


def _custom_number(operator: str, value: Any, target: str) -> Condition:
    if operator == "isBetween":
        low, high = (_number(each) for each in _bounds(value))
        return Condition("custom", operator, target, low=low, high=high)
    return Condition("custom", operator, target, (_number(value),))


def _custom_time(operator: str, value: Any, context: Context, definition: FieldDefinition) -> Condition:
    """Read a bound on a date or a time, both of which are stored so that they sort as text."""
    target = str(definition.id)
    if operator == "isTimestampBetween":
        low, high = (_calendar(each, context, definition) for each in _bounds(value))
        return Condition("custom", operator, target, low=low, high=high)
    bound = _calendar(_one(value), context, definition)
    return Condition("custom", operator, target, (bound,))


def _calendar(value: Any, context: Context, definition: FieldDefinition) -> str:
    if definition.data_type == "time":
        return _stored(value, definition)
    return read_span(value, context.zone, f"{FIELD}.value").start.astimezone(context.zone).date().isoformat()


FieldReader = Callable[[str, Any, Context, str], Condition]
FIELDS: Mapping[str, FieldReader] = {
    "status": _status,
    "assigneeuserid": _assignee,
    "assignee": _assignee,
    "tags": _tags,
    "lifecycle": _lifecycle,
}
CATEGORIES: Mapping[str, FieldReader] = {
    "contacttag": _tags,
    "lifecycle": _lifecycle,
    "channel": _channels("channel", ANY | EXISTS | {"hasAllOf"}),
    "lastinteractedchannel": _channels("last_channel", ANY | EQUAL | EXISTS),
    "timesince": _time_since,
    "timesincelastincomingmessage": lambda operator, value, context, _name: _time_since(operator, value, context, ""),
}
CUSTOM_OPERATORS: Mapping[str, frozenset[str]] = {
    "text": EQUAL | {"contains"},
    "email": EQUAL | {"contains"},
    "url": EQUAL | {"contains"},
    "number": EQUAL | NUMBERS,
    "date": EQUAL | TIMES,
    "time": EQUAL | TIMES,
    "checkbox": frozenset({"isEqualTo", "isNotEqualTo"}),
    "list": EQUAL | ANY,
}
