"""Rules of merge and unmerge: what the kept contact becomes, what stands in the way, and what each gets back.

A merge is a layer on the kept contact: every field it sets carries the merge's id in the field's provenance. Taking the
layer out again gives a field its former value only where that mark is still there, that is, where nobody has changed
the field since.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ingest.domain.contact_keys import email_key, match_key, phone_key
from ingest.domain.profiles import dated

UNDO_SPAN = timedelta(minutes=10)
# What has a value on each side, of which one is kept. The assignee and the date added are the kept contact's anyway.
PROFILE_FIELDS = (
    "first_name",
    "last_name",
    "display_name",
    "phone",
    "email",
    "country_code",
    "language",
    "avatar_url",
    "lifecycle_id",
)
STATUS_RANK = {"closed": 0, "snoozed": 1, "open": 2}

Values = Mapping[str, Any]
Obstacle = Literal["same_contact", "not_found", "blocked", "merged_into", "deleted", "no_shared_key"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A contact as it was: what a merge record keeps of each side, and what the rules work on.

    `row` has the contact's columns by name, times as ISO text with their offset. `tag_ids` and `identity_ids` are ascending.
    A key is {"key", "match_key", "is_primary", "is_verified", "origin_contact_id"}.
    """

    row: Values
    tag_ids: tuple[int, ...] = ()
    identity_ids: tuple[int, ...] = ()
    keys: tuple[Values, ...] = ()

    @property
    def id(self) -> int:
        """The contact's id."""
        return int(self.row["id"])

    def value(self, name: str) -> Any:
        """Return a field's value; custom fields are named "fields.<id>". None where it has none."""
        if name.startswith("fields."):
            return self.row["fields"].get(name.removeprefix("fields."))
        return self.row[name] or None

    def provenance(self, name: str) -> Values | None:
        """Return where a field's value came from, with its time, as it is true of the value on another contact too."""
        told = self.row["provenance"].get(name)
        newest_at = self.row["profile_at"]
        return told and dated(told, datetime.fromisoformat(newest_at) if newest_at else None)

    def field_names(self) -> tuple[str, ...]:
        """Return the names of all its fields, custom ones included."""
        return (*PROFILE_FIELDS, *(f"fields.{each}" for each in self.row["fields"]))


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What a merge made of a field of the kept contact, each with its provenance (None where there was none)."""

    before: Any
    before_provenance: Values | None
    after: Any
    after_provenance: Values

    def as_json(self) -> dict[str, Any]:
        """Return the change as the merge record keeps it."""
        return {
            "before": self.before,
            "before_provenance": self.before_provenance,
            "after": self.after,
            "after_provenance": self.after_provenance,
        }


@dataclass(frozen=True, slots=True)
class ConversationPlan:
    """Which conversation the merged contact goes on with, and which one is closed for it."""

    current_id: int | None
    status: str
    snoozed_until: str | None
    closed_id: int | None


@dataclass(frozen=True, slots=True)
class MergePlan:
    """Everything a merge decides."""

    changes: Mapping[str, FieldChange]
    conversation: ConversationPlan
    added_keys: tuple[Values, ...]
    added_tag_ids: tuple[int, ...]


def obstacles(
    kept: Snapshot | None, absorbed: Snapshot | None, *, needs_shared_key: bool
) -> list[tuple[Obstacle, Any]]:
    """Return every reason against the merge, with what it is about: a contact's id, or that of the contact it went into.

    Empty when nothing stands in the way.
    """
    if kept is None or absorbed is None:
        return [("not_found", None)]
    if kept.id == absorbed.id:
        return [("same_contact", kept.id)]
    found: list[tuple[Obstacle, Any]] = []
    for each in (kept, absorbed):
        if each.row["deletion_job_id"] is not None:
            found.append(("deleted", each.id))
        if each.row["merged_into"] is not None:
            found.append(("merged_into", each.row["merged_into"]))
        if each.row["blocked_at"] is not None:
            found.append(("blocked", each.id))
    if needs_shared_key and not shared_keys(kept, absorbed):
        found.append(("no_shared_key", None))
    return found


def shared_keys(one: Snapshot, other: Snapshot) -> list[str]:
    """Return the match keys that both contacts have, sorted."""
    return sorted({key["match_key"] for key in one.keys} & {key["match_key"] for key in other.keys})


def plan_merge(
    kept: Snapshot, absorbed: Snapshot, chosen: Values, merge_id: int, *, source: str, at: datetime
) -> MergePlan:
    """Return what the merge does. `chosen` holds the values that were picked, by field name; they win over both sides.

    Where nothing was picked, the kept contact's value stays, and an empty one is filled from the other.
    """
    changes = {}
    for name in dict.fromkeys((*kept.field_names(), *absorbed.field_names(), *chosen)):
        before, other = kept.value(name), absorbed.value(name)
        after = chosen.get(name, other if before is None else before)
        if after != before:
            theirs = absorbed.provenance(name) if after == other else None
            origin = theirs or {"source": source, "at": at.timestamp()}
            changes[name] = FieldChange(
                before, kept.row["provenance"].get(name), after, {**origin, "merge_id": merge_id}
            )
    return MergePlan(
        changes,
        plan_conversation(kept, absorbed),
        _added_keys(kept, absorbed, changes),
        tuple(sorted(set(absorbed.tag_ids) - set(kept.tag_ids))),
    )


def _added_keys(kept: Snapshot, absorbed: Snapshot, changes: Mapping[str, FieldChange]) -> tuple[Values, ...]:
    """Return the other's keys, and those of a phone or email that neither had."""
    known = {key["key"] for key in kept.keys}
    added = [key for key in absorbed.keys if key["key"] not in known]
    known |= {key["key"] for key in added}
    picked = [changes[name].after if name in changes else None for name in ("phone", "email")]
    added += [
        {"key": key, "match_key": match_key(key), "is_verified": True, "origin_contact_id": kept.id}
        for key in primary_keys(*picked)
        if key not in known
    ]
    return tuple({**key, "is_primary": False} for key in added)


def primary_keys(phone: str | None, email: str | None) -> list[str]:
    """Return the keys of a contact's phone and email, of those it has."""
    return [*([phone_key(phone)] if phone else []), *([email_key(email.lower())] if email else [])]


def plan_conversation(kept: Snapshot, absorbed: Snapshot) -> ConversationPlan:
    """Return which conversation goes on: the open one before a snoozed one before a closed one; the kept contact's on a tie."""
    mine, theirs = kept.row, absorbed.row
    if theirs["conversation_id"] is None:
        return ConversationPlan(mine["conversation_id"], mine["status"], mine["snoozed_until"], None)
    if mine["conversation_id"] is not None and STATUS_RANK[mine["status"]] >= STATUS_RANK[theirs["status"]]:
        closed_id = theirs["conversation_id"] if theirs["status"] != "closed" else None
        return ConversationPlan(mine["conversation_id"], mine["status"], mine["snoozed_until"], closed_id)
    closed_id = mine["conversation_id"] if mine["status"] != "closed" else None
    return ConversationPlan(theirs["conversation_id"], theirs["status"], theirs["snoozed_until"], closed_id)


def withdraw(changes: Mapping[str, Values], now: Snapshot, merge_id: int) -> dict[str, tuple[Any, Values | None]]:
    """Return the fields that get their former value back when a merge is taken out, with value and provenance.

    A field that somebody changed since, or that another merge has set, keeps what it has.
    """
    return {
        name: (change["before"], change["before_provenance"])
        for name, change in changes.items()
        if now.value(name) == change["after"] and (now.row["provenance"].get(name) or {}).get("merge_id") == merge_id
    }


def reach_through(
    changes: Mapping[str, Values], withdrawn: Mapping[str, Values], merge_id: int
) -> dict[str, Any] | None:
    """Return a later merge's changes without those former values that the withdrawn merge had put there.

    Whoever takes the later merge out then gets what was there before both. None when nothing is different.
    """
    revised = dict(changes)
    for name, change in changes.items():
        under = withdrawn.get(name)
        if under is not None and (change["before_provenance"] or {}).get("merge_id") == merge_id:
            revised[name] = {
                **change,
                "before": under["before"],
                "before_provenance": under["before_provenance"],
            }
    return revised if revised != changes else None


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge that has happened, now or, for a repeated request, before."""

    merge_id: int
    kept_id: int
    absorbed_id: int
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Support:
    """Keys and tags that other merges still hold up on the kept contact, by merge id, oldest merge first."""

    keys: Mapping[str, int] = field(default_factory=dict)
    tag_ids: Mapping[int, int] = field(default_factory=dict)


def remaining_support(others: Iterable[tuple[int, Snapshot, Mapping[str, Values]]]) -> Support:
    """Return which of the other merges still brings which key and tag: what it holds up stays when another goes.

    Of each, its absorbed contact and its changes. A merge whose phone or email was picked holds up the key of it.
    """
    keys: dict[str, int] = {}
    tag_ids: dict[int, int] = {}
    for merge_id, absorbed, changes in others:
        for key in (*(each["key"] for each in absorbed.keys), *_changed_keys(changes, "after")):
            keys.setdefault(key, merge_id)
        for tag_id in absorbed.tag_ids:
            tag_ids.setdefault(tag_id, merge_id)
    return Support(keys, tag_ids)


def covered_keys(changes: Mapping[str, Values]) -> list[str]:
    """Return the keys of the phone and email that a merge has covered with others: they come back when it goes."""
    return _changed_keys(changes, "before")


def _changed_keys(changes: Mapping[str, Values], side: str) -> list[str]:
    return primary_keys(*(changes[name][side] if name in changes else None for name in ("phone", "email")))


def may_undo(merged_at: datetime, now: datetime, *, is_own: bool, has_news: bool) -> bool:
    """Return whether a merge can still be undone as if it had not been: by whoever did it, soon, with nothing new since."""
    return is_own and not has_news and now - merged_at <= UNDO_SPAN
