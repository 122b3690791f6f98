"""Step `resolve`: who is writing. Identities, aliases, claims, keys, and what a channel may say about a person."""

# ruff: noqa: N802 - the names carry the lessons and lines of the specification

import pytest
from sqlalchemy import Connection

from ingest.jobs.types import DetectDuplicates
from ingest.pipeline.detect import detect_duplicates
from tests import builders
from tests.builders import at
from tests.pipeline_world import Pipeline

pytestmark = pytest.mark.database

BRAZIL = ("+5511987654321", "551187654321")
MEXICO = ("+525512345678", "5215512345678")
ARGENTINA = ("+541123456789", "5491123456789")


def detect(pipeline: Pipeline) -> None:
    """Do the detection that resolving has asked for."""
    rows = pipeline.rows(
        "delete from job where workspace_id = :w and name = 'detect_duplicates' returning args -> 'contact_ids' as ids"
    )
    jobs = [DetectDuplicates(pipeline.workspace_id, tuple(row.ids)) for row in rows]
    if jobs:
        detect_duplicates(pipeline.uow(), jobs)


def suggestions(pipeline: Pipeline) -> list[tuple[str, list[str]]]:
    rows = pipeline.rows(
        "select kind, keys from merge_suggestion where workspace_id = :w and state = 'open' order by id"
    )
    return [(row.kind, row.keys) for row in rows]


def test_A8_the_first_message_makes_a_contact_and_later_ones_find_it(pipeline: Pipeline) -> None:
    pipeline.deliver("telegram", builders.telegram_text(7001, 1))
    first = pipeline.contact_of("telegram", "7001")
    pipeline.deliver("telegram", builders.telegram_text(7001, 2))
    assert pipeline.count("contact") == 1
    assert {message.contact_id for message in pipeline.messages()} == {first.id}
    assert first.source == "channel"


def test_A9_and_A50_the_same_number_on_a_second_channel_is_a_second_contact_and_one_suggestion(
    pipeline: Pipeline,
) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m1"))
    pipeline.deliver("telegram", builders.telegram_shared_phone(7001, 1, "+447700900451"))
    assert pipeline.count("contact") == 2
    detect(pipeline)
    assert suggestions(pipeline) == [("exact", ["tel:+447700900451"])]


def test_A10_A14_and_A17_names_and_language_come_from_the_channel(pipeline: Pipeline) -> None:
    pipeline.deliver("telegram", builders.telegram_text(7001, 1, first_name="Noor", language="ms"))
    contact = pipeline.contact_of("telegram", "7001")
    assert (contact.first_name, contact.display_name, contact.language) == ("Noor", "Noor", "ms")
    assert {name: each["source"] for name, each in contact.provenance.items()} == dict.fromkeys(
        ("first_name", "display_name", "language"), "channel"
    )


def test_B7_without_a_name_none_is_written_so_that_a_later_one_takes_over(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m1"))
    assert pipeline.contact_of("whatsapp_cloud", "447700900451").first_name == ""
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m2", sent_at=at(5), name="Ada Test"))
    assert pipeline.contact_of("whatsapp_cloud", "447700900451").first_name == "Ada Test"


def test_A13_A16_and_B11_a_whatsapp_sender_has_its_number_in_e164_and_its_country(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("60123456789", "m1"))
    contact = pipeline.contact_of("whatsapp_cloud", "60123456789")
    assert (contact.phone, contact.phone_valid, contact.country_code) == ("+60123456789", True, "MY")


def test_B9_a_number_without_country_code_is_kept_aside_and_the_message_stored(pipeline: Pipeline) -> None:
    pipeline.deliver("custom", builders.envelope_text("person-1", "m1", phone="012-345 6789"))
    contact = pipeline.contact_of("custom", "person-1")
    assert (contact.phone, pipeline.count("message"), pipeline.count("contact_key")) == (None, 1, 0)
    assert pipeline.scalar("select profile ->> 'raw_phone' from identity where workspace_id = :w") == "012-345 6789"


def test_B10_a_possible_number_of_no_known_range_is_kept_and_flagged(pipeline: Pipeline) -> None:
    pipeline.deliver("custom", builders.envelope_text("person-1", "m1", phone="+15550123456"))
    contact = pipeline.contact_of("custom", "person-1")
    assert (contact.phone, contact.phone_valid) == ("+15550123456", False)


def test_B12_a_number_of_no_country_leaves_the_country_empty(pipeline: Pipeline) -> None:
    pipeline.deliver("custom", builders.envelope_text("person-1", "m1", phone="+80012345678"))
    contact = pipeline.contact_of("custom", "person-1")
    assert (contact.phone, contact.country_code) == ("+80012345678", None)


def test_A22_and_B5_a_phone_learned_later_is_attached_and_detection_runs_again(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m1"))
    pipeline.deliver("telegram", builders.telegram_text(7001, 1))
    detect(pipeline)
    assert suggestions(pipeline) == []
    batch = pipeline.deliver("telegram", builders.telegram_shared_phone(7001, 2, "+447700900451", at(9)))
    assert batch.detect == {pipeline.workspace_id: {pipeline.contact_of("telegram", "7001").id}}
    detect(pipeline)
    assert suggestions(pipeline) == [("exact", ["tel:+447700900451"])]


@pytest.mark.parametrize(
    ("stored", "sender"),
    [
        pytest.param(*BRAZIL, id="T01"),
        pytest.param("+551187654321", "5511987654321", id="T01 the other way"),
        pytest.param(*MEXICO, id="T03"),
        pytest.param("+5215512345678", "525512345678", id="T03 the other way"),
        pytest.param(*ARGENTINA, id="T04"),
        pytest.param("+5491123456789", "541123456789", id="T04 the other way"),
    ],
)
def test_T01_T03_T04_a_national_variant_claims_the_contact_added_by_hand(
    pipeline: Pipeline, stored: str, sender: str
) -> None:
    made = pipeline.make_contact(phone=stored, first_name="Typed")
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text(sender, "m1"))
    contact = pipeline.contact_of("whatsapp_cloud", sender)
    assert (contact.id, contact.phone, contact.first_name, pipeline.count("contact")) == (made, stored, "Typed", 1)
    # Replies go to the sender's id as it was received.
    assert pipeline.scalar("select address from identity where workspace_id = :w") == sender


def test_T03_an_sms_sender_with_a_prefixed_address_claims_likewise(pipeline: Pipeline) -> None:
    made = pipeline.make_contact(phone=MEXICO[0])
    form = builders.twilio_sms(f"+{MEXICO[1]}", "SM1")
    pipeline.resolve(pipeline.request("twilio_sms", form, content_type="application/x-www-form-urlencoded"))
    assert pipeline.scalar("select contact_id from identity where workspace_id = :w") == made


def test_T05_and_T06_of_two_contacts_one_a_variant_the_exact_one_is_used_and_no_key_is_rewritten(
    pipeline: Pipeline,
) -> None:
    variant = pipeline.make_contact(phone="+551187654321")
    exact = pipeline.make_contact(phone="+5511987654321")
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("5511987654321", "m1"))
    assert pipeline.contact_of("whatsapp_cloud", "5511987654321").id == exact
    keys = pipeline.rows("select contact_id, key from contact_key where workspace_id = :w order by contact_id")
    assert [tuple(row) for row in keys] == [(variant, "tel:+551187654321"), (exact, "tel:+5511987654321")]
    detect_duplicates(pipeline.uow(), [DetectDuplicates(pipeline.workspace_id, (variant, exact))])
    assert [kind for kind, _ in suggestions(pipeline)] == ["probable"]


def test_B2_a_contact_that_already_has_a_channel_is_not_claimed(pipeline: Pipeline) -> None:
    form = builders.twilio_sms("+447700900451", "SM1")
    pipeline.resolve(pipeline.request("twilio_sms", form, content_type="application/x-www-form-urlencoded"))
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m1"))
    assert pipeline.count("contact") == 2


def test_B2_two_candidates_are_not_chosen_between(pipeline: Pipeline) -> None:
    pipeline.make_contact(phone="+447700900451")
    pipeline.make_contact(phone="+447700900451")
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m1"))
    assert pipeline.count("contact") == 3


def test_B2_an_address_that_is_no_number_claims_nobody(pipeline: Pipeline) -> None:
    pipeline.make_contact(phone="+447700900451")
    pipeline.deliver("telegram", builders.telegram_shared_phone(7001, 1, "+447700900451"))
    assert pipeline.count("contact") == 2


def test_B39_a_claimed_contact_that_is_blocked_is_linked_and_its_message_dropped(pipeline: Pipeline) -> None:
    blocked = pipeline.make_contact(phone="+447700900451")
    pipeline.block(blocked)
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m1"))
    assert pipeline.contact_of("whatsapp_cloud", "447700900451").id == blocked
    assert (pipeline.count("message"), pipeline.count("dropped_message")) == (0, 1)


def test_B39_a_blocked_persons_number_on_another_channel_is_a_new_contact(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m1"))
    pipeline.block(pipeline.contact_of("whatsapp_cloud", "447700900451").id)
    form = builders.twilio_sms("+447700900451", "SM1")
    pipeline.resolve(pipeline.request("twilio_sms", form, content_type="application/x-www-form-urlencoded"))
    assert (pipeline.count("contact"), pipeline.count("message")) == (2, 2)
    detect(pipeline)
    assert suggestions(pipeline) == []


def test_T70_a_blocked_number_in_another_variant_on_the_same_channel_is_dropped(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("5511987654321", "m1"))
    pipeline.block(pipeline.contact_of("whatsapp_cloud", "5511987654321").id)
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("551187654321", "m2"))
    assert (pipeline.count("contact"), pipeline.texts(), pipeline.count("dropped_message")) == (1, ["hello"], 1)


def test_T07_and_B4_a_whatsapp_user_without_a_phone_is_a_contact_without_one(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_scoped_text("GB.1001", "m1"))
    contact = pipeline.contact_of("whatsapp_cloud", "GB.1001")
    assert (contact.phone, pipeline.count("message"), pipeline.count("contact_key")) == (None, 1, 0)


def test_B4_a_second_known_address_of_one_person_is_attached(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_scoped_text("GB.1001", "m1"))
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_scoped_text("GB.1001", "m2", digits="447700900451"))
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m3"))
    assert (pipeline.count("contact"), pipeline.count("identity"), pipeline.count("message")) == (1, 2, 3)
    assert pipeline.contact_of("whatsapp_cloud", "447700900451").phone == "+447700900451"


def test_B4_two_new_senders_with_one_alias_in_one_batch_are_one_person_as_in_two(pipeline: Pipeline) -> None:
    first = builders.whatsapp_scoped_text("GB.1000000000001", "m1", "447700900451")
    second = builders.whatsapp_scoped_text("GB.1000000000002", "m2", "447700900451")
    pipeline.deliver("whatsapp_cloud", first, second)
    assert pipeline.count("contact") == 1
    assert len({message.contact_id for message in pipeline.messages()}) == 1
    addresses = pipeline.rows("select address from identity where workspace_id = :w")
    assert {row.address for row in addresses} == {"GB.1000000000001", "GB.1000000000002", "447700900451"}


def test_T09_and_B4_addresses_of_two_contacts_in_one_event_are_suggested_and_not_joined(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_scoped_text("GB.1001", "m1"))
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m2"))
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_scoped_text("GB.1001", "m3", digits="447700900451"))
    assert (pipeline.count("contact"), pipeline.count("message")) == (2, 3)
    by_scope = pipeline.contact_of("whatsapp_cloud", "GB.1001")
    assert pipeline.contact_of("whatsapp_cloud", "447700900451").id != by_scope.id
    detect(pipeline)
    assert "identity" in [kind for kind, _ in suggestions(pipeline)]


def test_T12_equal_sender_ids_on_two_channels_are_two_people(pipeline: Pipeline) -> None:
    pipeline.add_channel("telegram", "first bot")
    pipeline.add_channel("telegram", "second bot")
    pipeline.deliver("first bot", builders.telegram_text(7001, 1))
    pipeline.deliver("second bot", builders.telegram_text(7001, 1))
    assert (pipeline.count("contact"), pipeline.count("identity"), pipeline.count("message")) == (2, 2, 2)


def test_T13_equal_phone_email_and_sender_in_two_workspaces_never_meet(tx: Connection) -> None:
    ours, theirs = Pipeline(tx), Pipeline(tx)
    body = builders.envelope_text("person-1", "m1", phone="+447700900451", email="ada@example.com")
    theirs.make_contact(phone="+447700900452")
    ours.resolver = theirs.resolver
    ours.resolve(ours.request("custom", body), theirs.request("custom", body))
    ours.deliver("whatsapp_cloud", builders.whatsapp_text("447700900452", "m2"))
    assert (ours.count("contact"), theirs.count("contact")) == (2, 2)
    detect(ours)
    detect(theirs)
    assert suggestions(ours) == suggestions(theirs) == []


@pytest.mark.parametrize("spelled", ["John@ACME.example", " john@acme.example ", "JOHN@acme.EXAMPLE"])
def test_T14_and_B13_letter_case_does_not_make_another_email(pipeline: Pipeline, spelled: str) -> None:
    pipeline.deliver("custom", builders.envelope_text("person-1", "m1", email=spelled))
    assert pipeline.contact_of("custom", "person-1").email == spelled.strip()
    assert pipeline.scalar("select key from contact_key where workspace_id = :w") == "mailto:john@acme.example"


@pytest.mark.parametrize("junk", ["null", "undefined", "0000000", "private number", "no-reply@example.com"])
def test_T17_junk_is_never_a_key(pipeline: Pipeline, junk: str) -> None:
    pipeline.deliver("custom", builders.envelope_text("person-1", "m1", phone=junk, email=junk))
    assert (pipeline.count("message"), pipeline.count("contact_key")) == (1, 0)


@pytest.mark.parametrize("junk", ["null", "[object Object]", "anonymous", "0"])
def test_T17_a_junk_sender_is_set_aside_and_makes_no_shared_contact(pipeline: Pipeline, junk: str) -> None:
    pipeline.deliver("custom", builders.envelope_text(junk, "m1"), builders.envelope_text("person-1", "m2"))
    assert (pipeline.count("contact"), pipeline.count("message")) == (1, 1)
    assert len(pipeline.dead_letters()) == 1


def test_T24_and_B6_a_channel_never_overwrites_what_a_person_typed(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m1", name="From Channel"))
    pipeline.rows(
        """update contact set first_name = 'Typed', provenance = provenance || '{"first_name": {"source": "user"}}'
           where workspace_id = :w returning 1"""
    )
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text("447700900451", "m2", sent_at=at(9), name="New Name"))
    contact = pipeline.contact_of("whatsapp_cloud", "447700900451")
    assert (contact.first_name, contact.display_name) == ("Typed", "New Name")


def test_T24_the_newest_name_of_the_channel_counts_whenever_it_arrives(pipeline: Pipeline) -> None:
    for message_id, second, name in (("m1", 1, "First"), ("m3", 30, "Third"), ("m2", 20, "Second"), ("m0", 0, "Zero")):
        pipeline.deliver(
            "whatsapp_cloud", builders.whatsapp_text("447700900451", message_id, sent_at=at(second), name=name)
        )
    assert pipeline.contact_of("whatsapp_cloud", "447700900451").display_name == "Third"


def test_P6_a_newest_name_repeated_and_an_older_one_in_the_same_batch_leave_the_newest(pipeline: Pipeline) -> None:
    def named(message_id: str, second: int, name: str) -> builders.JSON:
        return builders.whatsapp_text("447700900451", message_id, sent_at=at(second), name=name)

    pipeline.deliver("whatsapp_cloud", named("m1", 1, "Newest"))
    pipeline.deliver("whatsapp_cloud", named("m3", 30, "Newest"), named("m2", 20, "Between"))
    pipeline.deliver("whatsapp_cloud", named("m4", 25, "Older"))
    assert pipeline.contact_of("whatsapp_cloud", "447700900451").display_name == "Newest"


def test_P6_a_field_that_the_newest_facts_lack_is_that_of_the_newest_that_have_it(pipeline: Pipeline) -> None:
    def told(message_id: str, second: int, **facts: str) -> builders.JSON:
        return builders.envelope_text("person-1", message_id, sent_at=at(second), **facts)

    for body in (told("m2", 20, name="Newest"), told("m0", 0, language="fr"), told("m1", 10, language="en")):
        pipeline.deliver("custom", body)
    contact = pipeline.contact_of("custom", "person-1")
    assert (contact.display_name, contact.language) == ("Newest", "en")


def test_T25_and_T50_a_group_is_ignored_and_counted_and_its_id_is_nobodys_phone(pipeline: Pipeline) -> None:
    group = {**builders.whatsapp_item("447700900451", "m1"), "group_id": "120363000000000000"}
    pipeline.deliver("telegram", builders.telegram_group_text(1))
    pipeline.deliver("whatsapp_cloud", builders.whatsapp(group))
    assert (pipeline.count("contact"), pipeline.count("message")) == (0, 0)
    assert pipeline.outcomes() == {("ignored", "group"): 2}


def test_T10_a_contact_without_keys_is_found_by_its_name(pipeline: Pipeline) -> None:
    pipeline.deliver("telegram", builders.telegram_text(7001, 1, first_name="Keyless"))
    assert pipeline.scalar("select count(*) from contact where workspace_id = :w and first_name = 'Keyless'") == 1


def test_B75_and_T21_a_removed_address_is_free_and_the_next_message_makes_a_new_contact(pipeline: Pipeline) -> None:
    pipeline.deliver("telegram", builders.telegram_text(7001, 1))
    former = pipeline.contact_of("telegram", "7001").id
    pipeline.rows("delete from identity where workspace_id = :w returning 1")
    # The worker still remembers the identity, which is only a hint.
    pipeline.deliver("telegram", builders.telegram_text(7001, 2))
    assert pipeline.contact_of("telegram", "7001").id != former
    assert [message.contact_id == former for message in pipeline.messages()] == [True, False]


def test_B1_and_B27_a_message_for_an_absorbed_contact_lands_on_its_survivor(pipeline: Pipeline) -> None:
    pipeline.deliver("telegram", builders.telegram_text(7001, 1))
    absorbed = pipeline.contact_of("telegram", "7001").id
    survivor = pipeline.make_contact(first_name="Survivor")
    pipeline.rows(
        "update contact set merged_into = :to where workspace_id = :w and id = :id returning 1",
        to=survivor,
        id=absorbed,
    )
    pipeline.rows("update identity set contact_id = :to where workspace_id = :w returning 1", to=survivor)
    pipeline.deliver("telegram", builders.telegram_text(7001, 2, sent_at=at(5)))
    assert [message.contact_id for message in pipeline.messages()] == [absorbed, survivor]


def test_A20_a_pre_chat_form_gives_keys_with_the_first_message(pipeline: Pipeline) -> None:
    body = {
        "v": 1,
        "sid": "visitor-1",
        "events": [
            {"id": "f1", "type": "form", "form": {"fields": {"name": "Fay", "email": "fay@example.com"}}},
            {"id": "m1", "type": "message", "message": {"text": "hello"}},
        ],
    }
    pipeline.deliver("webchat", body)
    contact = pipeline.contact_of("webchat", "visitor-1")
    assert (contact.first_name, contact.email, pipeline.count("contact_key")) == ("Fay", "fay@example.com", 1)
    assert pipeline.scalar("select is_verified from contact_key where workspace_id = :w") is False
