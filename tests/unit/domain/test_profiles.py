"""Which of a channel's facts become the contact's, and when each of its fields was told."""

# ruff: noqa: N802 - the names carry the lines of the specification

from datetime import UTC, datetime, timedelta

from ingest.domain.events import Sender
from ingest.domain.merges import PROFILE_FIELDS, Snapshot, plan_merge
from ingest.domain.profiles import Profile, first_provenance, merge_facts, read_facts

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
FIRST = read_facts(Sender("1", first_name="Ann", last_name="Lee"))
OTHER = read_facts(Sender("1", first_name="Anna"))


def told(profile: Profile, name: str) -> object:
    return profile.fields.get(name), profile.provenance[name].get("at")


def born() -> Profile:
    return Profile(FIRST.fields, first_provenance(FIRST), NOON, FIRST.hash)


def test_what_the_newest_facts_told_is_as_new_as_they_are() -> None:
    later = merge_facts(born(), FIRST, NOON + timedelta(hours=2))
    assert told(later, "first_name") == ("Ann", None)
    # Between the two messages that said Ann.
    late = merge_facts(later, OTHER, NOON + timedelta(hours=1))
    assert told(late, "first_name") == ("Ann", None)
    assert late.newest_at == NOON + timedelta(hours=2)


def test_newer_facts_leave_the_time_with_what_the_former_ones_told() -> None:
    newer = merge_facts(born(), OTHER, NOON + timedelta(hours=1))
    assert told(newer, "first_name") == ("Anna", None)
    assert told(newer, "last_name") == ("Lee", NOON.timestamp())


def test_late_facts_fill_what_is_empty_with_their_own_time() -> None:
    profile = Profile(OTHER.fields, first_provenance(OTHER), NOON, OTHER.hash)
    late = merge_facts(profile, FIRST, NOON - timedelta(hours=1))
    assert told(late, "last_name") == ("Lee", (NOON - timedelta(hours=1)).timestamp())
    assert told(late, "first_name") == ("Anna", None)


def test_B23_a_value_that_a_merge_takes_over_keeps_the_time_it_was_told_at() -> None:
    def contact(number: int, last_name: str | None, provenance: object, told_at: datetime) -> Snapshot:
        rest = dict.fromkeys((*PROFILE_FIELDS, "conversation_id", "snoozed_until")) | {"status": "closed", "fields": {}}
        at = told_at.isoformat()
        return Snapshot({**rest, "id": number, "last_name": last_name, "provenance": provenance, "profile_at": at})

    kept = contact(1, None, {}, NOON + timedelta(days=1))
    absorbed = contact(2, "Lee", {"last_name": {"source": "channel"}}, NOON)
    plan = plan_merge(kept, absorbed, {}, 7, source="user", at=NOON + timedelta(days=2))
    assert plan.changes["last_name"].after_provenance == {"source": "channel", "at": NOON.timestamp(), "merge_id": 7}
