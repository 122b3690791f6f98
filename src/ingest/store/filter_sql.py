"""Filters as SQL over `contact`: a condition that always decides rightly, and terms that every match must have.

Values are bound parameters without exception; what is put into the text are constants of this module.
"""

# ruff: noqa: S608

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ingest.domain.contact_keys import match_key
from ingest.domain.filters import Condition, Group

ESCAPES = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})
IDEOGRAPHS = (("\u2e80", "\ud7ff"), ("\uf900", "\ufaff"))
MIN_TERM = 3
MAX_BRANCHES = 10
# The columns that the search text is made of.
SEARCHED = frozenset({"first_name", "last_name", "email", "phone"})
# The hour of the last message is at least that of any message: an index that bounds the rows to look at.
HOUR = "floor(extract(epoch from {0}) / 3600)::integer"


@dataclass(slots=True)
class Compiled:
    """SQL to put into a WHERE and its parameters. Every match's search text contains each of the `needles`, and every
    match is in one of the `branches`, if there are any: each alone may have an index where their union has none.
    """

    sql: str = "true"
    parameters: dict[str, Any] = field(default_factory=dict)
    needles: list[str] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)


class Compiler:
    """Turns one filter into SQL; numbers its parameters."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self.needles: list[str] = []
        self.branches: list[str] = []

    def bind(self, value: Any) -> str:
        """Return the name under which the value is bound."""
        name = f"f{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def group(self, group: Group, is_required: bool) -> str:
        """Return the group's SQL. `is_required` says that every match must match it."""
        is_choice = is_required and not group.is_all and len(group.parts) > 1
        is_required = is_required and not is_choice
        parts = [
            self.group(part, is_required) if isinstance(part, Group) else self.condition(part, is_required)
            for part in group.parts
        ]
        if is_choice and not self.branches and len(parts) <= MAX_BRANCHES:
            self.branches = parts
        if not parts:
            return "true"
        return "(" + (" and " if group.is_all else " or ").join(parts) + ")"

    def condition(self, condition: Condition, is_required: bool) -> str:
        """Return the condition's SQL. Null means no; it is never negated from outside."""
        if is_required and condition.subject == "text" and condition.target in SEARCHED:
            self.needles += [
                each for each in condition.values if " ".join(each.split()) == each and not negates(condition)
            ]
        return "(" + WRITERS[condition.subject](self, condition) + ")"


def compile_filter(group: Group) -> Compiled:
    """Return the filter as SQL over the table `contact`."""
    compiler = Compiler()
    sql = compiler.group(group, True)
    return Compiled(sql, compiler.parameters, compiler.needles, compiler.branches)


def like(text: str) -> str:
    """Return the pattern that finds the text anywhere, whatever it holds."""
    return f"%{text.translate(ESCAPES)}%"


def is_ideographic(text: str) -> bool:
    """Return whether the text is made of ideographs, each of which is a term of its own."""
    return all(any(low <= letter <= high for low, high in IDEOGRAPHS) for letter in text)


def compile_search(search: str, compiled: Compiled) -> Compiled:
    """Return the compiled filter with a search added: part of a name, phone or email, in any letter case.

    One or two letters find the beginnings of words.
    """
    wanted = " ".join(search.split())
    if not wanted:
        return compiled
    parameters = dict(compiled.parameters)
    if len(wanted) < MIN_TERM and wanted.isalnum() and not is_ideographic(wanted):
        parameters["search"] = f"(^|[^[:alnum:]]){wanted}"
        sql = "contact.search_text ~ lower(:search)"
    else:
        parameters["search"] = like(wanted)
        sql = "contact.search_text like lower(:search)"
    return Compiled(f"({compiled.sql}) and {sql}", parameters, [*compiled.needles, wanted], compiled.branches)


def negates(condition: Condition) -> bool:
    """Return whether the condition holds where the value is not so."""
    return condition.operator in {"isNotEqualTo", "doesNotExist", "hasNoneOf"}


def _negated(condition: Condition) -> str:
    return "not " if negates(condition) else ""


def _is(condition: Condition, sql: str) -> str:
    """Return the comparison, or its opposite, which holds where there is no value too. Only bare comparisons can use an
    index, so a null stays a null where nothing negates it.
    """
    return f"not coalesce({sql}, false)" if negates(condition) else sql


def _text(compiler: Compiler, condition: Condition) -> str:
    column = f"contact.{condition.target}"
    if condition.operator in {"exists", "doesNotExist"}:
        return f"{_negated(condition)}(coalesce({column}, '') <> '')"
    if condition.operator == "contains":
        return f"lower({column}) like lower({compiler.bind(like(condition.values[0]))})"
    if condition.target in {"country_code", "language"}:
        value = condition.values[0]
        value = value.upper() if condition.target == "country_code" else value.lower()
        return _is(condition, f"{column} = {compiler.bind(value)}")
    return _is(condition, f"lower({column}) = lower({compiler.bind(condition.values[0])})")


def _key(compiler: Compiler, condition: Condition) -> str:
    key = condition.values[0]
    return f"""{_negated(condition)}exists (
        select from contact_key
        where contact_key.workspace_id = :workspace_id and contact_key.match_key = {compiler.bind(match_key(key))}
          and contact_key.key = {compiler.bind(key)} and contact_key.is_primary and contact_key.contact_id = contact.id)"""


def _status(compiler: Compiler, condition: Condition) -> str:
    is_not = "<>" if condition.operator == "isNotEqualTo" else "="
    exact = f"contact.status {is_not} {compiler.bind(condition.values[0])}"
    if condition.operator == "isEqualTo" and condition.values[0] != "closed":
        # There are few current conversations, and an index of them.
        return f"""{exact} and exists (
            select from conversation where conversation.workspace_id = :workspace_id
              and conversation.contact_id = contact.id and conversation.status <> 'closed')"""
    return exact


def _assignee(compiler: Compiler, condition: Condition) -> str:
    if condition.operator in {"exists", "doesNotExist"}:
        return f"{_negated(condition)}(contact.assignee_id is not null)"
    return _is(condition, f"contact.assignee_id = any({compiler.bind(list(condition.values))})")


TAGGED = """exists (select from contact_tag where contact_tag.workspace_id = :workspace_id
    and contact_tag.contact_id = contact.id{0})"""


def _tag(compiler: Compiler, condition: Condition) -> str:
    if condition.operator in {"exists", "doesNotExist"}:
        return _negated(condition) + TAGGED.format("")
    if condition.operator == "hasAllOf":
        return " and ".join(
            TAGGED.format(f" and contact_tag.tag_id = {compiler.bind(each)}") for each in condition.values
        )
    ids = compiler.bind(list(condition.values))
    return _negated(condition) + TAGGED.format(f" and contact_tag.tag_id = any({ids})")


def _lifecycle(compiler: Compiler, condition: Condition) -> str:
    if condition.operator in {"exists", "doesNotExist"}:
        return f"{_negated(condition)}(contact.lifecycle_id is not null)"
    return _is(condition, f"contact.lifecycle_id = any({compiler.bind(list(condition.values))})")


def _moment(compiler: Compiler, condition: Condition) -> str:
    column = f"contact.{condition.target}"
    if condition.operator in {"exists", "doesNotExist"}:
        return f"{_negated(condition)}({column} is not null)"
    parts = []
    if condition.low is not None:
        low = f"cast({compiler.bind(condition.low)} as timestamptz)"
        parts.append(f"{column} >= {low}")
        if condition.target != "created_at":
            parts.append(f"contact.activity_hour >= {HOUR.format(low)}")
    if condition.high is not None:
        high = f"cast({compiler.bind(condition.high)} as timestamptz)"
        parts.append(f"{column} {'<=' if condition.includes_high else '<'} {high}")
        if condition.target == "last_message_at":
            parts.append(f"contact.activity_hour <= {HOUR.format(high)}")
    return " and ".join(parts)


def _custom(compiler: Compiler, condition: Condition) -> str:
    target = compiler.bind(int(condition.target))
    head = f"""{_negated(condition)}exists (select from contact_field_value as held
        where held.workspace_id = :workspace_id and held.field_id = {target} and held.contact_id = contact.id"""
    return f"{head}{_custom_bound(compiler, condition)})"


def _custom_bound(compiler: Compiler, condition: Condition) -> str:
    bind = compiler.bind
    if condition.operator in {"exists", "doesNotExist"}:
        return ""
    if condition.operator == "contains":
        return f" and held.value_key like lower({bind(like(condition.values[0]))})"
    if condition.operator == "isBetween":
        return f" and held.number_value between {bind(condition.low)} and {bind(condition.high)}"
    if condition.operator == "isTimestampBetween":
        return f" and held.value_key between {bind(condition.low)} and {bind(condition.high)}"
    if condition.operator in BOUNDS:
        column, sign = BOUNDS[condition.operator]
        return f" and held.{column} {sign} {bind(condition.values[0])}"
    values = bind([value[:200] for value in condition.values])
    return f" and held.value_key = any(array(select lower(each) from unnest(cast({values} as text[])) as each))"


BOUNDS = {
    "isGreaterThan": ("number_value", ">"),
    "isLessThan": ("number_value", "<"),
    "isTimestampAfter": ("value_key", ">"),
    "isTimestampBefore": ("value_key", "<"),
}


def _channel(compiler: Compiler, condition: Condition) -> str:
    connected = """exists (select from identity where identity.workspace_id = :workspace_id
        and identity.contact_id = contact.id and identity.removed_at is null{0})"""
    if condition.operator in {"exists", "doesNotExist"}:
        return _negated(condition) + connected.format("")
    if condition.operator == "hasAllOf":
        return " and ".join(
            connected.format(f" and identity.channel_id = {compiler.bind(each)}") for each in condition.values
        )
    ids = compiler.bind(list(condition.values))
    return _negated(condition) + connected.format(f" and identity.channel_id = any({ids})")


def _last_channel(compiler: Compiler, condition: Condition) -> str:
    if condition.operator in {"exists", "doesNotExist"}:
        return f"{_negated(condition)}(contact.last_channel_id is not null)"
    ids = compiler.bind(list(condition.values))
    return _is(condition, f"contact.last_channel_id = any({ids})")


WRITERS: Mapping[str, Callable[[Compiler, Condition], str]] = {
    "text": _text,
    "key": _key,
    "status": _status,
    "assignee": _assignee,
    "tag": _tag,
    "lifecycle": _lifecycle,
    "moment": _moment,
    "custom": _custom,
    "channel": _channel,
    "last_channel": _last_channel,
}
