"""Segments, and how many contacts are active in a month."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
import time_machine

from ingest.domain.forecast import forecast
from ingest.store.active_contacts import count_active

from .space import Space


def by_tag(name: str) -> dict[str, Any]:
    return {"$and": [{"category": "contactTag", "field": None, "operator": "hasAnyOf", "value": [name]}]}


def members(space: Space, segment: dict[str, Any]) -> list[int]:
    return [each["id"] for each in space.call("GET", f"/segment/{segment['id']}/contact/list")["items"]]


def test_a99_a32_a_segment_is_evaluated_on_current_data(space: Space) -> None:
    contact_id = space.contact()
    segment = space.call("POST", "/segment", {"name": "VIPs", "filter": by_tag("vip")})
    assert members(space, segment) == []
    space.call("POST", f"/contact/id:{contact_id}/tag", ["vip"])
    assert members(space, segment) == [contact_id]
    assert space.call("GET", f"/segment/{segment['id']}/count") == {"total": 1}
    space.call("DELETE", f"/contact/id:{contact_id}/tag", ["vip"])
    assert members(space, segment) == []


def test_b83_names_are_unique_and_deleting_is_final(space: Space) -> None:
    segment = space.call("POST", "/segment", {"name": " My  Segment ", "filter": {}})
    assert segment["name"] == "My Segment"
    other = space.call("POST", "/segment", {"name": "Other", "filter": {}})
    space.call("POST", "/segment", {"name": "my segment", "filter": {}}, 409)
    space.call("PUT", f"/segment/{other['id']}", {"name": "MY SEGMENT"}, 409)
    assert space.call("PUT", f"/segment/{other['id']}", {"name": "OTHER", "filter": by_tag("x")})["filter"] == by_tag(
        "x"
    )
    space.call("DELETE", f"/segment/{segment['id']}")
    space.call("GET", f"/segment/{segment['id']}", status=404)
    space.call("DELETE", f"/segment/{segment['id']}", status=404)


def test_b83_a_workspace_comes_with_two_segments_and_may_delete_them(space: Space) -> None:
    names = [each["name"] for each in space.call("GET", "/segment")["items"]]
    assert names == ["New contacts", "Inactive contacts"]
    new, inactive = space.call("GET", "/segment")["items"]
    fresh, old = space.contact(), space.contact()
    space.run(
        """update contact set created_at = now() - interval '8 days', last_message_at = now() - interval '31 days',
           activity_hour = floor(extract(epoch from now() - interval '31 days') / 3600) where id = :id and workspace_id = :w""",
        id=old,
    )
    assert (members(space, new), members(space, inactive)) == ([fresh], [old])
    space.call("DELETE", f"/segment/{new['id']}")
    assert [each["name"] for each in space.call("GET", "/segment")["items"]] == ["Inactive contacts"]


def test_b83_at_most_500_segments(space: Space) -> None:
    space.call("GET", "/segment")
    space.run(
        "insert into segment (workspace_id, name, filter) select :w, 'S' || i, '{}' from generate_series(1, 497) i"
    )
    space.call("POST", "/segment", {"name": "the 500th", "filter": {}})
    assert space.call("POST", "/segment", {"name": "one more", "filter": {}}, 409)["error"] == "too_many_segments"


def test_b38_b83_blocked_contacts_are_in_no_segment(space: Space) -> None:
    contact_id = space.contact()
    segment = space.call("POST", "/segment", {"name": "All", "filter": {}})
    space.run("update contact set blocked_at = now() where id = :id and workspace_id = :w", id=contact_id)
    assert members(space, segment) == []


def test_a91_segments_are_for_owners_and_managers(space: Space) -> None:
    for method, path, body in (("GET", "/segment", None), ("POST", "/segment", {"name": "x", "filter": {}})):
        space.call(method, path, body, 403, space.agent)
        space.call(method, path, body, 200, space.manager)
    space.call("POST", "/segment", {"name": "y", "filter": {"$and": ["x"]}}, 422)


# --- monthly active contacts -----------------------------------------------------------------------------------------


def count(space: Space, cycle: str, contact_id: int, reason: str = "incoming") -> None:
    space.run(
        "insert into active_contact (workspace_id, cycle_start, contact_id, reason) values (:w, :cycle, :id, :reason)",
        cycle=date.fromisoformat(cycle), id=contact_id, reason=reason,
    )  # fmt: skip


def test_b54_creating_editing_and_tagging_make_nobody_active(space: Space) -> None:
    contact_id = space.contact()
    space.call("PUT", f"/contact/id:{contact_id}", {"lastName": "X"})
    space.call("POST", f"/contact/id:{contact_id}/tag", ["x"])
    assert space.call("GET", "/usage/active_contacts")["current"]["counted"] == 0


@time_machine.travel(datetime(2026, 5, 11, tzinfo=UTC), tick=True)
def test_b54_c20_the_running_cycle_is_counted_with_its_reasons_and_a_forecast(space: Space) -> None:
    space.run("""update workspace set settings = settings || '{"active_contact_limit": 10}' where id = :w""")
    ids = [space.contact() for _ in range(8)]
    for contact_id in ids:
        count(space, "2026-05-01", contact_id, "outgoing" if contact_id == ids[0] else "incoming")
    count(space, "2026-04-01", ids[0])
    usage = space.call("GET", "/usage/active_contacts")
    assert usage["current"] == {
        "cycleStart": "2026-05-01", "counted": 8, "distinctAfterMerges": 8, "byReason": {"incoming": 7, "outgoing": 1},
    }  # fmt: skip
    assert (usage["cycleEnd"], usage["limit"], usage["warning"]) == ("2026-06-01", 10, 80)
    assert usage["expected"] in range(24, 26)
    assert [each["cycleStart"] for each in usage["past"]] == ["2026-04-01"]


@time_machine.travel(datetime(2026, 5, 11, tzinfo=UTC), tick=True)
def test_b56_a_merge_lowers_nothing_in_the_running_cycle(space: Space) -> None:
    kept, absorbed = space.contact(), space.contact()
    for contact_id in (kept, absorbed):
        count(space, "2026-05-01", contact_id)
    space.run("update contact set merged_into = :kept where id = :id and workspace_id = :w", kept=kept, id=absorbed)
    current = space.call("GET", "/usage/active_contacts")["current"]
    assert (current["counted"], current["distinctAfterMerges"]) == (2, 1)


def test_b57_a_contact_counts_once_a_cycle_however_often_it_is_counted(space: Space) -> None:
    contact_id = space.contact()
    row = (space.id, date(2026, 5, 1), contact_id, space.channel(), "incoming")
    for _ in range(2):
        with space.tx() as tx:
            count_active(tx, [row, row])
    assert len(space.rows("select 1 from active_contact where workspace_id = :w")) == 1


def test_c20_a_contact_says_why_it_counted(space: Space) -> None:
    contact_id = space.contact()
    count(space, "2026-05-01", contact_id, "dropped")
    found = space.call("GET", f"/contact/id:{contact_id}/active_cycles")
    assert [(each["cycleStart"], each["reason"]) for each in found] == [("2026-05-01", "dropped")]


@pytest.mark.parametrize(
    ("counted", "limit", "expected", "warning"),
    [(0, None, 0, None), (10, 100, 31, None), (80, 100, 248, 80), (95, 100, 294, 95), (7, None, 22, None)],
)
def test_c20_the_forecast_is_a_straight_line(
    counted: int, limit: int | None, expected: int, warning: int | None
) -> None:
    found = forecast(date(2026, 5, 1), counted, datetime(2026, 5, 11, tzinfo=UTC), "UTC", limit)
    assert (found.expected, found.warning, found.cycle_end) == (expected, warning, date(2026, 6, 1))
