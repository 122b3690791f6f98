"""One contact over the API: created, read, changed, tagged, assigned, its conversation, its channels."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from ingest.jobs.contact_types import EndSnooze
from ingest.pipeline.contacts_conversations import end_snooze

from .conftest import MakeSpace
from .space import ROOT, Space

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


# --- creating and reading --------------------------------------------------------------------------------------------


def test_b79_a_created_contact_is_readable_at_once(space: Space) -> None:
    made = space.call(
        "POST", "/contact/phone:+60123456789", {"firstName": "Ann", "lastName": "Lee", "email": "Ann@Example.com"}
    )
    assert made == {"code": 200, "message": "Contact added successfully!", "contactId": made["contactId"]}
    shown = space.call("GET", "/contact/email:ann@example.com")
    assert (shown["id"], shown["firstName"], shown["email"]) == (made["contactId"], "Ann", "Ann@Example.com")
    assert shown["phone"] == "+60123456789"


def test_a24_a_contact_created_by_hand_starts_no_automation_and_is_assigned_to_nobody(space: Space) -> None:
    space.run("insert into workflow (workspace_id, name, state) values (:w, 'W', 'published')")
    contact = space.get(space.contact())
    assert contact["assignee"] is None
    assert contact["status"] == "closed"
    assert space.rows("select name from job where workspace_id = :w and queue = 'react'") == []


def test_a16_b9_a_phone_without_country_code_is_refused_naming_the_field(space: Space) -> None:
    body = space.call("POST", "/contact/email:a@example.com", {"firstName": "A", "phone": "0123456789"}, 400)
    assert body["field"] == "phone"


@pytest.mark.parametrize("spelled", ["+60 12-345 6789", "+60(12)3456789", "0060123456789", "+60123456789"])
def test_b9_any_spelling_with_a_country_code_is_stored_as_e164(space: Space, spelled: str) -> None:
    space.call("POST", "/contact/email:a@example.com", {"firstName": "A", "phone": spelled})
    assert space.call("GET", "/contact/email:a@example.com")["phone"] == "+60123456789"


def test_b10_a_possible_number_of_no_known_range_is_stored_and_flagged(space: Space) -> None:
    shown = space.get(space.contact(phone="+15550001234"))
    assert shown["phone"] == "+15550001234"
    assert shown["phoneIsValid"] is False


def test_b12_the_country_is_derived_from_the_phone_and_follows_it(space: Space) -> None:
    contact_id = space.contact(phone="+60123456789")
    assert space.get(contact_id)["countryCode"] == "MY"
    assert space.get(contact_id)["provenance"]["country_code"] == "derived"
    space.call("PUT", f"/contact/id:{contact_id}", {"phone": "+6591234567"})
    assert space.get(contact_id)["countryCode"] == "SG"


def test_b12_a_country_set_by_hand_does_not_follow_the_phone(space: Space) -> None:
    contact_id = space.contact(phone="+60123456789", countryCode="de")
    space.call("PUT", f"/contact/id:{contact_id}", {"phone": "+6591234567"})
    assert space.get(contact_id)["countryCode"] == "DE"


def test_b12_a_number_of_no_country_leaves_the_country_empty(space: Space) -> None:
    assert space.get(space.contact(phone="+80012345678"))["countryCode"] is None


def test_b13_emails_are_compared_without_letter_case_and_shown_as_spelled(space: Space) -> None:
    space.call("POST", "/contact/email: Ann.Lee+x@Example.COM ", {"firstName": "A"})
    assert space.call("GET", "/contact/email:ann.lee+x@example.com")["email"] == "Ann.Lee+x@Example.COM"
    space.call("GET", "/contact/email:annlee@example.com", status=404)


def test_b14_national_variants_are_not_the_same_identifier(space: Space) -> None:
    space.contact(phone="+5511987654321")
    space.call("GET", "/contact/phone:+551187654321", status=404)


def test_b15_creating_under_an_identifier_that_exists_is_409(space: Space) -> None:
    contact_id = space.contact(phone="+60123456789")
    body = space.call("POST", "/contact/phone:60123456789", {"firstName": "B"}, 409)
    assert body["details"]["contactIds"] == [contact_id]


def test_a48_b15_changing_to_a_key_of_another_contact_is_allowed_and_looked_at(space: Space) -> None:
    space.contact(phone="+60123456789")
    other = space.contact()
    space.call("PUT", f"/contact/id:{other}", {"phone": "+60123456789"})
    assert other in [each for job in space.jobs("detect_duplicates") for each in job["contact_ids"]]


def test_b16_an_identifier_of_several_contacts_is_409_with_their_ids_for_reads_too(space: Space) -> None:
    one, other = space.contact(phone="+60123456789"), space.contact()
    space.call("PUT", f"/contact/id:{other}", {"phone": "+60123456789"})
    for method, body in (("GET", None), ("PUT", {"firstName": "X"}), ("POST", None)):
        path = "/contact/phone:+60123456789" + ("/comment" if method == "POST" else "")
        told = space.call(method, path, {"text": "x"} if method == "POST" else body, 409)
        assert (told["error"], told["details"]["contactIds"]) == ("ambiguous_identifier", [one, other])


@pytest.mark.parametrize(
    "wrong", ["x", "id:", "id:abc", "id:-1", "name:x", "phone:abc", "email:x", "id:99999999999999999"]
)
def test_b76_an_identifier_that_is_none_is_400(space: Space, wrong: str) -> None:
    assert space.call("GET", f"/contact/{wrong}", status=400)["field"] == "identifier"


@pytest.mark.parametrize(
    "spelled",
    [
        "phone:+60123456789",
        "phone:60123456789",
        "phone%3A%2B60123456789",
        "email:phone:+60123456789",
        "phone:+60 12 345-6789",
    ],
)
def test_b76_identifiers_are_read_as_clients_spell_them(space: Space, spelled: str) -> None:
    contact_id = space.contact(phone="+60123456789")
    assert space.owner.get(f"{ROOT}/contact/{spelled}").json()["id"] == contact_id


def test_a_plus_in_an_email_identifier_is_a_plus(space: Space) -> None:
    space.call("POST", "/contact/email:a+b@example.com", {"firstName": "A"})
    assert space.owner.get(f"{ROOT}/contact/email:a+b@example.com").json()["email"] == "a+b@example.com"


def test_b76_create_or_update_changes_what_is_there_and_makes_what_is_not(space: Space) -> None:
    made = space.call("POST", "/contact/create_or_update/phone:+60123456789", {"lastName": "Lee"})
    again = space.call("POST", "/contact/create_or_update/phone:+60123456789", {"firstName": "Ann"})
    assert made == again
    shown = space.get(made["contactId"])
    assert (shown["firstName"], shown["lastName"]) == ("Ann", "Lee")
    space.call("POST", "/contact/create_or_update/id:9007199254740000", {"firstName": "A"}, 404)


def test_b6_absent_leaves_alone_null_clears_and_empty_text_says_nothing(space: Space) -> None:
    contact_id = space.contact(lastName="Lee", language="EN")
    space.call("PUT", f"/contact/id:{contact_id}", {"lastName": "", "custom_fields": []})
    assert space.get(contact_id)["lastName"] == "Lee"
    space.call("PUT", f"/contact/id:{contact_id}", {"lastName": None, "firstName": None})
    shown = space.get(contact_id)
    assert (shown["lastName"], shown["firstName"], shown["language"]) == (None, "", "en")


def test_an_update_without_a_body_changes_nothing(space: Space) -> None:
    contact_id = space.contact()
    assert space.owner.put(f"{ROOT}/contact/id:{contact_id}").json() == {"contactId": contact_id}


def test_b6_provenance_says_where_a_value_came_from(space: Space) -> None:
    contact_id = space.contact()
    assert space.get(contact_id)["provenance"]["first_name"] == "api"


def test_a12_b7_the_name_falls_back_to_phone_email_and_id(space: Space) -> None:
    contact_id = space.contact(phone="+60123456789", email="a@example.com")
    space.call("PUT", f"/contact/id:{contact_id}", {"firstName": None})
    assert space.get(contact_id)["shownName"] == "+60123456789"
    space.call("PUT", f"/contact/id:{contact_id}", {"phone": None})
    assert space.get(contact_id)["shownName"] == "a@example.com"
    space.call("PUT", f"/contact/id:{contact_id}", {"email": None})
    shown = space.get(contact_id)
    assert shown["shownName"] == f"Contact {contact_id}"
    assert shown["firstName"] == ""


def test_a11_a_contact_without_a_picture_has_a_generated_avatar(space: Space) -> None:
    avatar = space.get(space.contact(firstName="Ann", lastName="Lee"))["avatar"]
    assert (avatar["url"], avatar["initials"]) == (None, "AL")
    assert avatar["color"].startswith("#")


def test_a18_b29_the_id_of_an_absorbed_contact_leads_to_the_kept_one(space: Space) -> None:
    kept, absorbed, first = space.contact(), space.contact(), space.contact()
    space.run("update contact set merged_into = :kept where id = :id and workspace_id = :w", kept=kept, id=absorbed)
    space.run("update contact set merged_into = :kept where id = :id and workspace_id = :w", kept=absorbed, id=first)
    assert space.get(first)["id"] == kept
    assert space.get(absorbed)["mergedFrom"] == [absorbed]


def test_a_contact_that_is_being_deleted_is_gone(space: Space) -> None:
    contact_id = space.contact()
    space.run("update contact set deletion_job_id = 1 where id = :id and workspace_id = :w", id=contact_id)
    space.call("GET", f"/contact/id:{contact_id}", status=404)


def test_a46_date_added_is_when_the_contact_was_created_here(space: Space) -> None:
    before = int(datetime.now(UTC).timestamp())
    assert abs(space.get(space.contact())["created_at"] - before) <= 2


# --- fields and tags -------------------------------------------------------------------------------------------------


def make_field(space: Space, name: str, kind: str, **more: object) -> int:
    return int(space.call("POST", "/space/custom_field", {"name": name, "dataType": kind, **more})["id"])


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        ("text", " gold ", "gold"), ("number", 42, "42"), ("number", "1.50", "1.5"), ("checkbox", True, "true"),
        ("checkbox", "false", "false"), ("date", "2026-06-30", "2026-06-30"), ("time", "09:30", "09:30"),
        ("email", "a@example.com", "a@example.com"), ("url", "https://example.com/x", "https://example.com/x"),
        ("list", "b", "B"),
    ],
)  # fmt: skip
def test_a26_a_custom_field_keeps_a_value_of_its_type_as_text(
    space: Space, kind: str, given: object, stored: str
) -> None:
    make_field(space, "Field One", kind, allowedValues=["A", "B"])
    contact_id = space.contact(custom_fields=[{"name": "field_one", "value": given}])
    assert space.get(contact_id)["custom_fields"] == [{"name": "field_one", "value": stored}]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("number", "x"),
        ("checkbox", "maybe"),
        ("date", "30.06.2026"),
        ("time", "25:00"),
        ("email", "x"),
        ("url", "x"),
        ("list", "C"),
    ],
)
def test_a26_a_value_of_another_type_is_refused_naming_the_field(space: Space, kind: str, wrong: str) -> None:
    make_field(space, "Field", kind, allowedValues=["A", "B"])
    body = space.call(
        "PUT", f"/contact/id:{space.contact()}", {"custom_fields": [{"name": "field", "value": wrong}]}, 400
    )
    assert body["field"] == "custom_fields.field"


def test_a26_a_custom_field_is_found_by_slug_name_or_id_and_only_named_ones_change(space: Space) -> None:
    number = make_field(space, "Loyalty Level", "text", slug="level")
    make_field(space, "Other", "text")
    contact_id = space.contact(custom_fields=[{"name": "other", "value": "stays"}])
    for name in ("level", "Loyalty Level", str(number)):
        space.call("PUT", f"/contact/id:{contact_id}", {"custom_fields": [{"name": name, "value": name}]})
        shown = {each["name"]: each["value"] for each in space.get(contact_id)["custom_fields"]}
        assert shown == {"level": name, "other": "stays"}
    space.call("PUT", f"/contact/id:{contact_id}", {"custom_fields": [{"name": "nope", "value": "x"}]}, 400)


def test_a26_the_order_of_fields_can_be_configured(space: Space) -> None:
    one, two = make_field(space, "One", "text"), make_field(space, "Two", "text")
    order = space.call("GET", "/space/field_order")
    assert order["custom"] == [one, two]
    space.call("PUT", "/space/field_order", {"custom": [two, one], "standard": order["standard"][::-1]})
    assert space.call("GET", "/space/field_order") == {"standard": order["standard"][::-1], "custom": [two, one]}
    assert [each["name"] for each in space.get(space.contact())["custom_fields"]] == ["two", "one"]
    space.call("PUT", "/space/field_order", {"custom": [one]}, 422)


def test_a25_standard_fields_are_editable_but_for_profile_and_status(space: Space) -> None:
    contact_id = space.contact()
    given = {
        "firstName": "B",
        "lastName": "C",
        "countryCode": "SG",
        "language": "ms",
        "email": "b@example.com",
        "phone": "+6591234567",
    }
    space.call("PUT", f"/contact/id:{contact_id}", {**given, "status": "open", "isBlocked": True})
    shown = space.get(contact_id)
    assert {name: shown[name] for name in given} == given
    assert (shown["status"], shown["isBlocked"]) == ("closed", False)


def test_a30_an_unknown_tag_is_made_and_names_compare_without_letter_case(space: Space) -> None:
    contact_id = space.contact()
    space.call("POST", f"/contact/id:{contact_id}/tag", ["VIP", "vip", "New one"])
    assert sorted(space.get(contact_id)["tags"]) == ["New one", "VIP"]
    assert [each["name"] for each in space.call("GET", "/space/tag")["items"]] == ["New one", "VIP"]


def test_a31_removing_a_tag_from_a_contact_keeps_it_in_the_workspace(space: Space) -> None:
    contact_id = space.contact()
    space.call("POST", f"/contact/id:{contact_id}/tag", ["vip"])
    space.call("DELETE", f"/contact/id:{contact_id}/tag", ["VIP", "never there"])
    assert space.get(contact_id)["tags"] == []
    assert [each["name"] for each in space.call("GET", "/space/tag")["items"]] == ["vip"]


def test_a32_a_tag_that_comes_or_goes_is_news_for_workflows_and_segments(space: Space) -> None:
    space.run("insert into workflow (workspace_id, name, state) values (:w, 'W', 'published')")
    contact_id = space.contact()
    for method in ("POST", "POST", "DELETE"):
        space.call(method, f"/contact/id:{contact_id}/tag", ["vip"])
    assert [(job["action"], job["contact_ids"]) for job in space.jobs("react_to_tags")] == [
        ("add", [contact_id]), ("remove", [contact_id]),
    ]  # fmt: skip


@pytest.mark.parametrize("body", [[], ["x"] * 11, [""], ["x" * 256], {"tags": ["x"]}, "x", [1]])
def test_b76_one_to_ten_tags_of_one_to_255_characters_else_nothing_changes(space: Space, body: object) -> None:
    contact_id = space.contact()
    space.call("POST", f"/contact/id:{contact_id}/tag", body, 400)
    assert space.get(contact_id)["tags"] == []


def test_a34_bulk_tagging_takes_100_contacts_and_101_are_refused_with_nothing_tagged(space: Space) -> None:
    space.run("insert into contact (workspace_id, source) select :w, 'api' from generate_series(1, 101)")
    ids = [row[0] for row in space.rows("select id from contact where workspace_id = :w order by id")]
    space.call("POST", "/contact/bulk/tag", {"contactIds": ids, "tags": ["x"]}, 422)
    assert space.rows("select 1 from contact_tag where workspace_id = :w") == []
    assert space.call("POST", "/contact/bulk/tag", {"contactIds": ids[:100], "tags": ["x"]})["changed"] == 100


def test_a34_bulk_tagging_with_an_unknown_contact_tags_nobody(make_space: MakeSpace) -> None:
    space, other = make_space(), make_space()
    mine, foreign = space.contact(), other.contact()
    space.call("POST", "/contact/bulk/tag", {"contactIds": [mine, foreign], "tags": ["x"]}, 404)
    assert space.get(mine)["tags"] == []


def test_tags_of_the_workspace_are_made_changed_and_removed(space: Space) -> None:
    made = space.call("POST", "/space/tag", {"name": "vip", "colorCode": "tag-red", "emoji": "*"})
    assert (made["code"], made["name"], made["colorCode"]) == (200, "vip", "tag-red")
    space.call("POST", "/space/tag", {"name": "VIP"}, 409)
    assert space.call("PUT", "/space/tag", {"currentName": "vip", "name": "top"})["name"] == "top"
    space.call("PUT", "/space/tag", {"currentName": "vip", "name": "x"}, 404)
    contact_id = space.contact()
    space.call("POST", f"/contact/id:{contact_id}/tag", ["top"])
    space.call("DELETE", "/space/tag", {"name": "TOP"})
    assert space.get(contact_id)["tags"] == []


def test_a28_the_assignee_is_one_user_or_none(space: Space) -> None:
    user_id = space.user(email="uma@example.com")
    contact_id = space.contact()
    path = f"/contact/id:{contact_id}/conversation/assignee"
    for given in (user_id, str(user_id), "UMA@example.com"):
        space.call("POST", path, {"assignee": None})
        assert space.get(contact_id)["assignee"] is None
        space.call("POST", path, {"assignee": given})
        assert space.get(contact_id)["assignee"]["id"] == user_id
    for unknown in (user_id + 1000, "nobody@example.com", "x"):
        space.call("POST", path, {"assignee": unknown}, 404)


def test_the_lifecycle_is_a_stage_or_none_and_cleared_in_both_ways(space: Space) -> None:
    space.call("POST", "/space/lifecycle", {"name": "Hot Lead"})
    contact_id = space.contact()
    path = f"/contact/id:{contact_id}/lifecycle/update"
    for clear in (b'{"name": null}', b"null"):
        space.call("POST", path, {"name": "hot lead"})
        assert space.get(contact_id)["lifecycle"] == "Hot Lead"
        answer = space.owner.post(f"{ROOT}{path}", content=clear, headers={"Content-Type": "application/json"})
        assert answer.json()["code"] == 200
        assert space.get(contact_id)["lifecycle"] is None
    space.call("POST", path, {"name": "nope"}, 400)


def test_a_comment_mentions_users_in_both_spellings(space: Space) -> None:
    one, two = space.user(), space.user()
    contact_id = space.contact()
    text = f"hello {{{{@user.{one}}}}} and ${two}$ and ${two + 1000}$"
    made = space.call("POST", f"/contact/id:{contact_id}/comment", {"text": text})
    assert (made["contactId"], made["text"], made["mentionedUserIds"]) == (contact_id, text, [one, two])
    assert [each["id"] for each in space.call("GET", f"/contact/id:{contact_id}/comment/list")["items"]] == [made["id"]]
    space.call("POST", f"/contact/id:{contact_id}/comment", {"text": "x" * 1001}, 400)


# --- conversations ---------------------------------------------------------------------------------------------------


def set_status(space: Space, contact_id: int, status: str, expected: int = 200, **more: object) -> dict[str, object]:
    answer: dict[str, object] = space.call(
        "POST", f"/contact/id:{contact_id}/conversation/status", {"status": status, **more}, expected
    )
    return answer


def events(space: Space, contact_id: int) -> list[str]:
    rows = space.rows(
        "select kind from contact_event where workspace_id = :w and contact_id = :id order by id", id=contact_id
    )
    return [row[0] for row in rows if row[0].startswith("conversation.")]


def test_a44_the_status_goes_open_snoozed_closed_and_blocked_is_shown_over_it(space: Space) -> None:
    contact_id = space.contact()
    set_status(space, contact_id, "open")
    assert space.get(contact_id)["status"] == "open"
    set_status(space, contact_id, "snoozed", snoozedUntil=4_000_000_000)
    assert space.get(contact_id)["status"] == "snoozed"
    set_status(space, contact_id, "close")
    assert space.get(contact_id)["status"] == "closed"
    space.run("update contact set blocked_at = now() where id = :id and workspace_id = :w", id=contact_id)
    shown = space.get(contact_id)
    assert (shown["status"], shown["shownStatus"], shown["isBlocked"]) == ("closed", "blocked", True)


def test_b59_closing_takes_a_category_and_a_summary_and_records_its_source(space: Space) -> None:
    space.call("POST", "/space/closing_notes", {"category": "Solved"})
    contact_id = space.contact()
    set_status(space, contact_id, "open")
    set_status(space, contact_id, "close", 400, category="Unknown")
    set_status(space, contact_id, "closed", category="solved", summary="done")
    rows = space.rows(
        "select category, summary, opened_source, closed_source from conversation where workspace_id = :w"
    )
    assert [tuple(row) for row in rows] == [("Solved", "done", "api", "api")]
    set_status(space, contact_id, "close", 400, summary="x" * 513)


def test_setting_what_is_already_so_is_no_event(space: Space) -> None:
    contact_id = space.contact()
    set_status(space, contact_id, "close")
    set_status(space, contact_id, "open", category="", summary="")
    set_status(space, contact_id, "open")
    assert events(space, contact_id) == ["conversation.opened"]


def test_b58_a_snoozed_conversation_comes_back_to_open_when_its_time_has_come(space: Space) -> None:
    contact_id = space.contact()
    set_status(space, contact_id, "open")
    until = int(datetime.now(UTC).timestamp()) + 3600
    set_status(space, contact_id, "snoozed", snoozedUntil=until)
    assert space.jobs("end_snooze") == [{"contact_id": contact_id}]
    with space.uow() as uow:
        assert not end_snooze(uow, EndSnooze(space.id, contact_id))
    with time_machine.travel(until + 1, tick=False), space.uow() as uow:
        assert end_snooze(uow, EndSnooze(space.id, contact_id))
        assert not end_snooze(uow, EndSnooze(space.id, contact_id))
    assert space.get(contact_id)["status"] == "open"
    assert events(space, contact_id)[-1] == "conversation.unsnoozed"


def test_b58_a_longer_snooze_makes_the_first_timer_void(space: Space) -> None:
    contact_id = space.contact()
    set_status(space, contact_id, "open")
    soon = int(datetime.now(UTC).timestamp()) + 60
    set_status(space, contact_id, "snoozed", snoozedUntil=soon)
    set_status(space, contact_id, "snoozed", snoozedUntil=soon + 3600)
    with time_machine.travel(soon + 1, tick=False), space.uow() as uow:
        assert not end_snooze(uow, EndSnooze(space.id, contact_id))
    assert space.get(contact_id)["status"] == "snoozed"


def test_snoozing_wants_a_future_moment_and_an_open_conversation(space: Space) -> None:
    contact_id = space.contact()
    set_status(space, contact_id, "snoozed", 409, snoozedUntil=4_000_000_000)
    set_status(space, contact_id, "open")
    set_status(space, contact_id, "snoozed", 400)
    set_status(space, contact_id, "snoozed", 400, snoozedUntil=1)


def test_b41_a_blocked_contact_can_be_neither_opened_nor_closed(space: Space) -> None:
    contact_id = space.contact()
    space.run("update contact set blocked_at = now() where id = :id and workspace_id = :w", id=contact_id)
    assert set_status(space, contact_id, "open", 409)["error"] == "contact_blocked"
    set_status(space, contact_id, "close", 409)


# --- messages and channels -------------------------------------------------------------------------------------------


def test_messages_come_newest_first_by_provider_time_and_each_once_over_pages(space: Space) -> None:
    contact_id, channel_id = space.contact(), space.channel()
    later = space.message(contact_id, channel_id, AT + timedelta(seconds=9))
    same = [space.message(contact_id, channel_id, AT, sequence=number) for number in range(5)]
    early = space.message(contact_id, channel_id, AT - timedelta(days=1))
    url: str | None = f"/api/v2/contact/id:{contact_id}/message/list?limit=2"
    seen: list[int] = []
    while url:
        page = space.owner.get(url.removeprefix("https://api.example")).json()
        seen += [each["messageId"] for each in page["items"]]
        url = page["pagination"]["next"]
        assert url is None or url.startswith("https://api.example/api/v2/contact/")
    assert seen == [later, *reversed(same), early]


def test_a_page_before_is_reached_by_the_previous_url(space: Space) -> None:
    contact_id, channel_id = space.contact(), space.channel()
    ids = [space.message(contact_id, channel_id, AT + timedelta(seconds=number)) for number in range(6)][::-1]
    first = space.owner.get(f"{ROOT}/contact/id:{contact_id}/message/list?limit=2").json()
    second = space.owner.get(first["pagination"]["next"]).json()
    back = space.owner.get(second["pagination"]["previous"]).json()
    assert [each["messageId"] for each in second["items"]] == ids[2:4]
    assert [each["messageId"] for each in back["items"]] == ids[:2]
    assert back["pagination"]["previous"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=-1", "cursorId=x", "cursorId=99999999999999999999"])
def test_a_page_that_cannot_be_is_400(space: Space, query: str) -> None:
    space.call("GET", f"/contact/id:{space.contact()}/message/list?{query}", status=400)


def test_a_limit_above_100_is_cut_and_an_empty_cursor_is_the_start(space: Space) -> None:
    space.call("GET", f"/contact/id:{space.contact()}/message/list?limit=5000&cursorId=")


@pytest.mark.parametrize(
    ("kind", "content", "shown"),
    [
        ("text", None, {"type": "text"}),
        (
            "image",
            {"attachments": [{"kind": "image", "url": "https://x.example/a.png", "name": "a.png"}]},
            {"type": "attachment"},
        ),
        ("voice", {"attachments": [{"kind": "voice", "media_id": "1"}]}, {"type": "attachment", "kind": "voice"}),
        ("location", {"location": {"latitude": 1.5, "longitude": 2.5}}, {"type": "location", "latitude": 1.5}),
        ("story", None, {"type": "story_reply"}),
        ("order", None, {"type": "whatsapp_order"}),
        ("interactive", {"payload": "x"}, {"type": "whatsapp_interactive", "payload": "x"}),
        ("email", {"subject": "Hi"}, {"type": "email", "subject": "Hi"}),
        ("unsupported", {"raw_kind": "poll"}, {"type": "unsupported", "rawKind": "poll"}),
        ("contact", {"contacts": [{"name": "Bob"}]}, {"type": "unsupported", "kind": "contact"}),
    ],
)
def test_b70_every_stored_kind_is_shown_in_the_words_of_the_contract(
    space: Space, kind: str, content: dict[str, object] | None, shown: dict[str, object]
) -> None:
    contact_id, channel_id = space.contact(), space.channel()
    number = space.message(contact_id, channel_id, AT, kind=kind, content=content)
    found = space.call("GET", f"/contact/id:{contact_id}/message/{number}")
    assert {name: found["message"].get(name) for name in shown} == shown
    assert (found["traffic"], found["status"], found["sender"]["source"]) == ("incoming", [], "contact")
    assert found["timestamp"] == int(AT.timestamp())


def test_a_message_of_another_contact_is_not_found(space: Space) -> None:
    one, other, channel_id = space.contact(), space.contact(), space.channel()
    number = space.message(one, channel_id)
    space.call("GET", f"/contact/id:{other}/message/{number}", status=404)


def test_a35_a36_a38_a40_every_channel_is_active_inactive_or_unavailable(space: Space) -> None:
    contact_id = space.contact(phone="+60123456789")
    telegram, sms, mail = space.channel("telegram"), space.channel("twilio_sms"), space.channel("email_mailgun")
    space.connect(contact_id, telegram, AT)
    shown = {each["id"]: each for each in space.call("GET", f"/contact/id:{contact_id}/channels/all")["items"]}
    assert {number: each["kind"] for number, each in shown.items()} == {
        telegram: "active",
        sms: "inactive",
        mail: "unavailable",
    }
    assert shown[telegram]["created_at"] == int(AT.timestamp())
    connected = space.call("GET", f"/contact/id:{contact_id}/channels")["items"]
    assert [each["id"] for each in connected] == [telegram]


def test_a38_b69_a_custom_channel_whose_ids_are_numbers_may_be_started_by_a_user(space: Space) -> None:
    contact_id, nobody = space.contact(phone="+60123456789"), space.contact_without_phone()
    numbers, others = space.channel("custom", name="Numbers"), space.channel("custom", name="Others")
    space.run("""update channel set settings = '{"contact_ids": "phone"}' where id = :id""", id=numbers)

    def kinds(of: int) -> dict[int, str]:
        shown = space.call("GET", f"/contact/id:{of}/channels/all")["items"]
        return {each["id"]: each["kind"] for each in shown}

    assert kinds(contact_id) == {numbers: "inactive", others: "unavailable"}
    assert kinds(nobody) == {numbers: "unavailable", others: "unavailable"}


def test_a37_an_active_facebook_channel_links_to_the_conversation(space: Space) -> None:
    contact_id, page = space.contact(), space.channel("messenger", account="1234")
    space.connect(contact_id, page)
    assert "1234" in space.call("GET", f"/contact/id:{contact_id}/channels")["items"][0]["conversationUrl"]


def test_a41_a42_b75_a_removed_channel_leaves_its_history_and_frees_the_address(space: Space) -> None:
    contact_id, channel_id = space.contact(phone="+60123456789"), space.channel()
    space.connect(contact_id, channel_id)
    number = space.message(contact_id, channel_id)
    space.call("DELETE", f"/contact/id:{contact_id}/channels/{channel_id}", status=403, client=space.agent)
    space.call("DELETE", f"/contact/id:{contact_id}/channels/{channel_id}", client=space.manager)
    assert space.call("GET", f"/contact/id:{contact_id}/channels")["items"] == []
    assert space.call("GET", f"/contact/id:{contact_id}/message/{number}")["messageId"] == number
    assert space.rows("select 1 from identity where workspace_id = :w") == []
    assert space.get(contact_id)["phone"] == "+60123456789"
    space.call("DELETE", f"/contact/id:{contact_id}/channels/{channel_id}", status=404)


def test_a95_b74_icons_show_the_last_interacted_channel_first_then_the_oldest(space: Space) -> None:
    contact_id = space.contact()
    channels = [space.channel(name=f"C{number}") for number in range(4)]
    for number, channel_id in enumerate(channels):
        space.connect(contact_id, channel_id, AT + timedelta(days=number))
    space.run(
        "update contact set last_channel_id = :last where id = :id and workspace_id = :w",
        last=channels[2],
        id=contact_id,
    )
    shown = space.get(contact_id)["channels"]
    assert [each["id"] for each in shown] == [channels[2], channels[0], channels[1], channels[3]]
    assert shown[1]["connectedAt"] == int(AT.timestamp())


def test_a45_last_message_is_the_newest_sent_or_received(space: Space) -> None:
    contact_id = space.contact()
    space.run("update contact set last_message_at = :at where id = :id and workspace_id = :w", at=AT, id=contact_id)
    assert space.get(contact_id)["lastMessageTime"] == int(AT.timestamp())


# --- the workspace ---------------------------------------------------------------------------------------------------


def test_users_are_listed_without_the_invited(space: Space) -> None:
    user_id = space.user("manager", ["restrict_data_export"])
    space.run(
        "insert into workspace_user (workspace_id, email, role, is_invited) values (:w, 'i@example.com', 'agent', true)"
    )
    assert [each["id"] for each in space.call("GET", "/space/user")["items"]] == [user_id]
    shown = space.call("GET", f"/space/user/{user_id}")
    assert (shown["role"], shown["team"], shown["restrictions"]) == ("manager", None, ["restrict_data_export"])


def test_allowed_values_are_an_array_but_an_object_for_n8n(space: Space) -> None:
    number = make_field(space, "Size", "list", allowedValues=["S", "L"])
    assert space.call("GET", f"/space/custom_field/{number}")["allowedValues"] == ["S", "L"]
    n8n = space.client("owner", **{"User-Agent": "n8n"})
    assert space.call("GET", f"/space/custom_field/{number}", client=n8n)["allowedValues"] == {"listValues": ["S", "L"]}


def test_custom_fields_keep_names_and_slugs_apart(space: Space) -> None:
    assert (
        space.call("POST", "/space/custom_field", {"name": "My Field!", "dataType": "text", "allowedValues": []})[
            "slug"
        ]
        == "my_field"
    )
    space.call("POST", "/space/custom_field", {"name": "my field!", "dataType": "text"}, 409)
    space.call("POST", "/space/custom_field", {"name": "L", "dataType": "list"}, 400)
    space.call("POST", "/space/custom_field", {"name": "X", "dataType": "colour"}, 400)


def test_a43_after_a_merge_the_channels_of_both_are_there(space: Space) -> None:
    kept, absorbed = space.contact(), space.contact()
    channels = [space.channel("telegram"), space.channel("line")]
    space.connect(kept, channels[0])
    space.connect(absorbed, channels[1])
    space.call("POST", "/contact/merge", {"contactIds": [kept, absorbed]})
    shown = space.call("GET", f"/contact/id:{absorbed}/channels")["items"]
    assert sorted(each["id"] for each in shown) == sorted(channels)
