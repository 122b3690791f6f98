"""Step `resolve`: what is stored. Messages once, conversations, statuses, edits, unsends, reactions, echoes, consent."""

# ruff: noqa: N802 - the names carry the lessons and lines of the specification

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from ingest.jobs.types import ApplyEffects
from ingest.pipeline.resolve import apply_late_effects
from ingest.store.views.messages import list_messages
from tests import builders
from tests.builders import NOON, at
from tests.pipeline_world import Pipeline

pytestmark = pytest.mark.database

ADA = "447700900451"


def wrote(message_id: str = "m1", text: str = "hello", second: float = 0) -> builders.JSON:
    return builders.whatsapp_text(ADA, message_id, text, at(second))


def echoed(message_id: str = "e1", text: str = "ours", second: float = 0) -> builders.JSON:
    return builders.whatsapp_echo(ADA, message_id, text, at(second))


def only_message(pipeline: Pipeline) -> Any:
    (message,) = pipeline.messages()
    return message


def ada(pipeline: Pipeline) -> Any:
    return pipeline.contact_of("whatsapp_cloud", ADA)


def view(pipeline: Pipeline) -> Any:
    """Return the contact's newest message as the API reads it."""
    return list_messages(pipeline.tx, pipeline.workspace_id, ada(pipeline).id)[0]


# Stored once


def test_T39_and_B71_a_redelivery_is_one_row_and_a_counted_duplicate(pipeline: Pipeline) -> None:
    for _ in range(3):
        pipeline.deliver("whatsapp_cloud", wrote())
    pipeline.deliver("whatsapp_cloud", wrote(), wrote(), accepted_at=NOON + timedelta(days=7))
    assert pipeline.count("message") == 1
    assert pipeline.outcomes() == {("stored", ""): 1, ("duplicate", ""): 4}


def test_M2_the_same_id_with_another_body_leaves_the_first(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote(text="first"))
    pipeline.deliver("whatsapp_cloud", wrote(text="second"))
    assert pipeline.texts() == ["first"]


def test_T82_ids_of_one_second_do_not_collide(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", *(wrote(f"m{number}") for number in range(50)))
    assert pipeline.count("message") == 50


def test_B49_a_message_of_a_deleted_contact_does_not_come_back(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote())
    pipeline.rows(
        "insert into message_fingerprint (workspace_id, channel_id, external_hash, expires_at) "
        "select workspace_id, channel_id, external_hash, now() + interval '14 days' from message "
        "where workspace_id = :w returning 1"
    )
    for table in ("message", "contact_key", "conversation", "identity", "contact"):
        pipeline.rows(f"delete from {table} where workspace_id = :w returning 1")
    pipeline.deliver("whatsapp_cloud", wrote(), wrote("m2", "new"))
    assert pipeline.texts() == ["new"]
    assert pipeline.count("contact") == 1


def test_T41_a_request_of_two_entries_two_changes_and_three_messages_is_twelve_messages(pipeline: Pipeline) -> None:
    def change(entry: int, number: int) -> builders.JSON:
        items = [builders.whatsapp_item(ADA, f"m{entry}.{number}.{index}") for index in range(3)]
        return builders.whatsapp_change({"messages": items})

    body = builders.whatsapp_entries(*([change(entry, 0), change(entry, 1)] for entry in range(2)))
    pipeline.deliver("whatsapp_cloud", body)
    assert pipeline.count("message") == 12


def test_T43_messages_are_read_in_the_order_they_were_sent_whatever_came_first(pipeline: Pipeline) -> None:
    bodies = [wrote(f"m{number}", str(number), number) for number in range(1, 21)]
    for start in (15, 0, 10, 5):
        pipeline.deliver("whatsapp_cloud", *reversed(bodies[start : start + 5]))
    assert pipeline.texts() == [str(number) for number in range(1, 21)]


def test_T43_messages_of_one_moment_are_read_as_they_came(pipeline: Pipeline) -> None:
    items = [builders.whatsapp_item(ADA, f"m{number}", str(number)) for number in range(5)]
    pipeline.deliver("whatsapp_cloud", builders.whatsapp(*items))
    pipeline.deliver("whatsapp_cloud", wrote("m9", "later"), accepted_at=at(1))
    assert pipeline.texts() == ["0", "1", "2", "3", "4", "later"]


# What a text may hold


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        (rb"a\u0000b", "ab"),
        (rb"cut \ud83d", "cut ?"),
        (rb"\ud83d\ude00", "\N{GRINNING FACE}"),
        (rb"\u202eabc", "\u202eabc"),
    ],
    ids=["NUL", "lone surrogate", "pair", "direction"],
)
def test_B1_text_that_no_database_takes_is_stored_clean(pipeline: Pipeline, raw: bytes, stored: str) -> None:
    body = builders.encode(wrote(text="TEXT")).replace(b"TEXT", raw)
    pipeline.deliver("whatsapp_cloud", body)
    assert pipeline.texts() == [stored]


def test_T53_a_new_kind_of_message_is_stored_as_unsupported_with_its_name(pipeline: Pipeline) -> None:
    item = {**builders.whatsapp_item(ADA, "m1"), "type": "hologram", "hologram": {"depth": 3}}
    pipeline.deliver("whatsapp_cloud", builders.whatsapp(item))
    message = only_message(pipeline)
    assert (message.kind, message.content["raw_kind"]) == ("unsupported", "hologram")


def test_T58_an_attachment_is_stored_with_its_message_before_anything_is_fetched(pipeline: Pipeline) -> None:
    item = {**builders.whatsapp_item(ADA, "m1"), "type": "image", "image": {"id": "media-1", "mime_type": "image/png"}}
    pipeline.deliver("whatsapp_cloud", builders.whatsapp(item))
    (attachment,) = only_message(pipeline).content["attachments"]
    assert (attachment["media_id"], attachment["state"]) == ("media-1", "pending")


# Late


def test_T54_an_old_message_is_stored_with_its_time_flagged_and_starts_nothing(pipeline: Pipeline) -> None:
    batch = pipeline.deliver("whatsapp_cloud", wrote(), accepted_at=at(86_400))
    message = only_message(pipeline)
    assert (message.sent_at, message.is_late) == (NOON, True)
    assert (batch.wrote, batch.opened) == ({}, {})


@pytest.mark.parametrize(("delay_seconds", "is_late"), [(900, False), (901, True)])
def test_late_means_older_than_fifteen_minutes(pipeline: Pipeline, delay_seconds: int, is_late: bool) -> None:
    pipeline.deliver("whatsapp_cloud", wrote(), accepted_at=at(delay_seconds))
    assert only_message(pipeline).is_late is is_late


# Conversations


def conversations(pipeline: Pipeline) -> list[tuple[str, str]]:
    rows = pipeline.rows("select status, opened_source from conversation where workspace_id = :w order by id")
    return [(row.status, row.opened_source) for row in rows]


def test_B58_the_first_message_opens_a_conversation_and_the_next_is_added_to_it(pipeline: Pipeline) -> None:
    first = pipeline.deliver("whatsapp_cloud", wrote())
    second = pipeline.deliver("whatsapp_cloud", wrote("m2"))
    assert conversations(pipeline) == [("open", "contact")]
    assert {message.conversation_id for message in pipeline.messages()} == {ada(pipeline).conversation_id}
    assert (first.opened, second.opened) == ({pipeline.workspace_id: [ada(pipeline).conversation_id]}, {})


def test_B58_a_message_after_the_close_opens_another(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote())
    pipeline.rows("update conversation set status = 'closed' where workspace_id = :w returning 1")
    pipeline.rows("update contact set status = 'closed' where workspace_id = :w returning 1")
    batch = pipeline.deliver("whatsapp_cloud", wrote("m2"))
    assert conversations(pipeline) == [("closed", "contact"), ("open", "contact")]
    assert batch.opened == {pipeline.workspace_id: [ada(pipeline).conversation_id]}
    assert ada(pipeline).status == "open"


def test_B58_a_message_wakes_a_snoozed_conversation_and_is_no_opening(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote())
    pipeline.rows("update conversation set status = 'snoozed' where workspace_id = :w returning 1")
    pipeline.rows("update contact set status = 'snoozed', snoozed_until = now() where workspace_id = :w returning 1")
    batch = pipeline.deliver("whatsapp_cloud", wrote("m2"))
    assert (conversations(pipeline), batch.opened) == ([("open", "contact")], {})
    assert (ada(pipeline).status, ada(pipeline).snoozed_until) == ("open", None)
    events = pipeline.rows("select kind, source from contact_event where workspace_id = :w")
    assert [tuple(row) for row in events] == [("conversation.unsnoozed", "contact")]


def test_B8_an_album_in_one_batch_is_one_conversation(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", *(wrote(f"m{number}") for number in range(5)))
    assert conversations(pipeline) == [("open", "contact")]


def test_A45_and_B74_last_message_and_channel_are_those_of_the_newest_message(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote("m2", second=20))
    pipeline.deliver("whatsapp_cloud", echoed("e1", second=30))
    pipeline.deliver("whatsapp_cloud", wrote("m1", second=10))
    contact = ada(pipeline)
    assert (contact.last_message_at, contact.last_incoming_at) == (at(30), at(20))
    assert contact.last_channel_id == pipeline.channels["whatsapp_cloud"]


# Echoes


def test_T48_and_B60_what_was_typed_in_the_phone_is_outgoing_on_the_recipients_contact(pipeline: Pipeline) -> None:
    batch = pipeline.deliver("whatsapp_cloud", echoed())
    message = only_message(pipeline)
    assert (message.traffic, message.source, message.contact_id) == ("outgoing", "echo", ada(pipeline).id)
    assert (batch.wrote, batch.opened) == ({}, {})
    assert conversations(pipeline) == [("open", "echo")]
    assert pipeline.count("active_contact", "reason = 'outgoing'") == 1


def test_B58_the_contacts_first_word_in_a_conversation_that_an_echo_began_opens_it(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote("m1"))
    pipeline.rows("update conversation set status = 'closed' where workspace_id = :w returning 1")
    pipeline.rows("update contact set status = 'closed' where workspace_id = :w returning 1")
    pipeline.deliver("whatsapp_cloud", echoed())
    assert conversations(pipeline)[1:] == [("open", "echo")]
    batch = pipeline.deliver("whatsapp_cloud", wrote("m2"))
    assert conversations(pipeline)[1:] == [("open", "contact")]
    assert batch.opened == {pipeline.workspace_id: [ada(pipeline).conversation_id]}


def test_T47_our_own_message_coming_back_is_no_second_row(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", echoed())
    pipeline.deliver("whatsapp_cloud", echoed())
    assert pipeline.count("message") == 1


def test_T47_our_own_address_makes_no_contact(pipeline: Pipeline) -> None:
    own = builders.messenger_item(builders.PAGE_ID, NOON, {"message": {"mid": "m1", "text": "to myself"}})
    pipeline.deliver("messenger", builders.messenger(own))
    assert (pipeline.count("contact"), pipeline.count("message")) == (0, 0)
    assert pipeline.outcomes() == {("ignored", "own_event"): 1}


# Statuses


def test_T46_a_status_before_its_message_waits_and_is_applied(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_status(ADA, "e1", "read", at(9)))
    assert pipeline.count("message_effect", "message_id is null") == 1
    pipeline.deliver("whatsapp_cloud", echoed("e1"))
    assert only_message(pipeline).status == "read"
    assert pipeline.count("message_effect", "message_id is null") == 0


def test_T46_a_status_for_a_message_nobody_knows_makes_no_contact_and_no_error(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_status(ADA, "unknown", "read"))
    assert (pipeline.count("contact"), pipeline.dead_letters()) == (0, [])
    left = pipeline.scalar("select expires_at - now() from message_effect where workspace_id = :w")
    assert left == timedelta(hours=24)


@pytest.mark.parametrize("order", [("read", "delivered", "sent"), ("delivered", "read", "failed"), ("sent", "read")])
def test_statuses_never_go_backwards(pipeline: Pipeline, order: tuple[str, ...]) -> None:
    pipeline.deliver("whatsapp_cloud", echoed("e1"))
    for status in order:
        pipeline.deliver("whatsapp_cloud", builders.whatsapp_status(ADA, "e1", status))
    assert only_message(pipeline).status == "read"


def test_a_watermark_moves_all_earlier_messages_to_this_person_and_no_later_ones(pipeline: Pipeline) -> None:
    sent = [builders.messenger_echo("61", f"e{second}", str(second), at(second)) for second in (1, 2, 3)]
    other = builders.messenger_echo("62", "other", "other", at(1))
    pipeline.deliver("messenger", sent[0], other)
    pipeline.deliver("messenger", builders.messenger_read("61", at(2)))
    pipeline.deliver("messenger", *sent[1:])
    found = {message.text: message.status for message in pipeline.messages()}
    assert found == {"1": "read", "2": "read", "3": "sent", "other": "sent"}


# Edits, unsends, reactions


@pytest.mark.parametrize("edits_first", [True, False])
def test_T44_of_two_edits_the_later_one_wins_also_before_the_message(pipeline: Pipeline, edits_first: bool) -> None:
    edits = [builders.whatsapp_edit(ADA, "m1", "newest", at(20)), builders.whatsapp_edit(ADA, "m1", "older", at(10))]
    order = [*edits, wrote()] if edits_first else [wrote(), *edits]
    for body in order:
        pipeline.deliver("whatsapp_cloud", body)
    message = only_message(pipeline)
    assert (message.text, message.edited_at, message.content["original_text"]) == ("newest", at(20), "hello")


@pytest.mark.parametrize("unsent_first", [True, False])
def test_T52_and_T44_an_unsent_message_keeps_its_row_and_loses_its_words(
    pipeline: Pipeline, unsent_first: bool
) -> None:
    order = [
        wrote(),
        builders.whatsapp_edit(ADA, "m1", "secret edit", at(5)),
        builders.whatsapp_unsend(ADA, "m1", at(9)),
    ]
    for body in reversed(order) if unsent_first else order:
        pipeline.deliver("whatsapp_cloud", body)
    message = only_message(pipeline)
    assert (message.text, message.content, message.deleted_at) == ("", {"deleted": True}, at(9))
    words = pipeline.rows("select value, content from message_effect where workspace_id = :w and kind = 'edit'")
    assert [tuple(row) for row in words] == [("", None)]


def test_T52_an_unsend_takes_carried_files_along(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote())
    message = only_message(pipeline)
    pipeline.rows(
        "insert into attachment_content (workspace_id, message_id, position, content) values (:w, :id, 0, 'x') returning 1",
        id=message.id,
    )
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_unsend(ADA, "m1", at(9)))
    assert pipeline.count("attachment_content") == 0


@pytest.mark.parametrize("reaction_first", [True, False])
def test_T51_and_T44_a_reaction_belongs_to_its_message_and_is_none(pipeline: Pipeline, reaction_first: bool) -> None:
    order = [wrote(), builders.whatsapp_reaction(ADA, "m1", "👍", at(5))]
    for body in reversed(order) if reaction_first else order:
        pipeline.deliver("whatsapp_cloud", body)
    assert pipeline.count("message") == 1
    assert [(each["kind"], each["value"]) for each in view(pipeline).effects] == [("reaction", "👍")]


def test_T51_a_reaction_opens_no_conversation_and_makes_nobody_active(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_reaction(ADA, "m1", "👍"))
    for table in ("contact", "conversation", "message", "active_contact"):
        assert pipeline.count(table) == 0


def test_T51_taking_a_reaction_off_clears_it(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote())
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_reaction(ADA, "m1", "", at(9)))
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_reaction(ADA, "m1", "👍", at(5)))
    (message,) = pipeline.state()["messages"].values()
    assert message["reactions"] == {ADA: ""}


def test_T44_effects_that_missed_their_message_in_another_transaction_are_applied_later(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_edit(ADA, "m1", "edited", at(9)))
    job = pipeline.rows("select args, due_at, key from job where workspace_id = :w and name = 'apply_effects'")[0]
    assert job.due_at - pipeline.now >= timedelta(seconds=3)
    pipeline.deliver("whatsapp_cloud", wrote())
    # As if the message had been stored by a transaction that did not see the edit.
    pipeline.rows("update message_effect set message_id = null where workspace_id = :w returning 1")
    pipeline.rows("update message set text = 'hello' where workspace_id = :w returning 1")
    late = ApplyEffects(pipeline.workspace_id, tuple(job.args["channel_ids"]))
    assert apply_late_effects(pipeline.uow(), late) == 1
    assert pipeline.texts() == ["edited"]


def test_T44_every_channel_and_every_moment_has_its_own_second_look(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_edit(ADA, "m1", "edited", at(9)))
    pipeline.deliver("telegram", builders.telegram_edit(7001, 1, "edited", NOON, at(9)))
    pipeline.sleep(3)
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_edit(ADA, "m2", "edited", at(9)))
    jobs = pipeline.rows(
        "select args, due_at from job where workspace_id = :w and name = 'apply_effects' order by due_at"
    )
    ids = pipeline.channels
    assert [job.args["channel_ids"] for job in jobs] == [
        [ids["whatsapp_cloud"]],
        [ids["telegram"]],
        [ids["whatsapp_cloud"]],
    ]
    assert all(job.due_at >= pipeline.now for job in jobs)


# Consent


def test_opting_out_is_a_state_of_the_address_and_messages_are_still_stored(pipeline: Pipeline) -> None:
    pipeline.deliver("telegram", builders.telegram_text(7001, 1))
    batch = pipeline.deliver("telegram", builders.telegram_membership(7001, 1, "kicked", at(5)))
    contact = pipeline.contact_of("telegram", "7001")
    assert batch.opted_out == {pipeline.workspace_id: {contact.id}}
    assert pipeline.scalar("select opted_out_at from identity where workspace_id = :w") == at(5)
    pipeline.deliver("telegram", builders.telegram_text(7001, 2))
    assert (pipeline.count("message"), contact.blocked_at) == (2, None)


def test_the_later_of_opting_out_and_in_counts_whichever_comes_first(pipeline: Pipeline) -> None:
    pipeline.deliver("telegram", builders.telegram_membership(7001, 2, "member", at(9)))
    batch = pipeline.deliver("telegram", builders.telegram_membership(7001, 1, "kicked", at(5)))
    assert batch.opted_out == {}


# Monthly active contacts


def active(pipeline: Pipeline) -> list[tuple[date, str]]:
    rows = pipeline.rows("select cycle_start, reason from active_contact where workspace_id = :w order by cycle_start")
    return [(row.cycle_start, row.reason) for row in rows]


def test_B54_a_contact_counts_once_a_cycle_at_its_first_message(pipeline: Pipeline) -> None:
    pipeline.make_contact(first_name="Silent")
    for number, day in enumerate((3, 9, 28)):
        moment = datetime(2026, 3, day, tzinfo=UTC)
        body = builders.whatsapp_text(ADA, f"m{number}", sent_at=moment)
        pipeline.deliver("whatsapp_cloud", body, accepted_at=moment)
    assert active(pipeline) == [(date(2026, 3, 1), "incoming")]


def test_B54_cycles_begin_on_the_workspaces_day_in_its_time_zone(pipeline: Pipeline) -> None:
    pipeline.rows("update workspace set cycle_day = 15, time_zone = 'Asia/Kuala_Lumpur' where id = :w returning 1")
    # 16:30 UTC on the 14th is already the 15th there.
    for number, hour in enumerate((15, 16)):
        moment = datetime(2026, 3, 14, hour, 30, tzinfo=UTC)
        body = builders.whatsapp_text(ADA, f"m{number}", sent_at=moment)
        pipeline.deliver("whatsapp_cloud", body, accepted_at=moment)
    assert active(pipeline) == [(date(2026, 2, 15), "incoming"), (date(2026, 3, 15), "incoming")]


def test_B55_and_A81_dropped_messages_count_in_the_cycle_of_the_block_and_not_in_the_next(pipeline: Pipeline) -> None:
    def write(message_id: str, month: int, day: int) -> None:
        moment = datetime(2026, month, day, 12, tzinfo=UTC)
        body = builders.whatsapp_text(ADA, message_id, sent_at=moment)
        pipeline.deliver("whatsapp_cloud", body, accepted_at=moment)

    write("april", 4, 20)
    pipeline.block(ada(pipeline).id, datetime(2026, 5, 10, tzinfo=UTC))
    write("may", 5, 20)
    write("june", 6, 2)
    assert active(pipeline) == [(date(2026, 4, 1), "incoming"), (date(2026, 5, 1), "dropped")]


def test_B55_of_two_blocks_the_latest_decides(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote())
    contact_id = ada(pipeline).id
    pipeline.block(contact_id, datetime(2026, 5, 10, tzinfo=UTC))
    pipeline.unblock(contact_id)
    pipeline.block(contact_id, datetime(2026, 6, 1, tzinfo=UTC))
    moment = datetime(2026, 6, 2, tzinfo=UTC)
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "june", sent_at=moment), accepted_at=moment)
    assert (date(2026, 6, 1), "dropped") in active(pipeline)


# A bounded number of statements


def count_statements(pipeline: Pipeline, bodies: list[builders.JSON]) -> int:
    statements: list[str] = []

    def note(_connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    requests = [pipeline.request("whatsapp_cloud", body) for body in bodies]
    event.listen(pipeline.tx, "before_cursor_execute", note)
    try:
        pipeline.resolve(*requests)
    finally:
        event.remove(pipeline.tx, "before_cursor_execute", note)
    return len(statements)


def busy_bodies(count: int, run: str) -> list[builders.JSON]:
    """Return requests of many people: first messages, further ones, echoes, edits, statuses, reactions, consent."""
    made: list[builders.JSON] = []
    for number in range(count // 5):
        person = f"44770{run}{number:05d}"
        made += [
            builders.whatsapp_text(person, f"m{run}.{number}", name=f"Name {number}"),
            builders.whatsapp_echo(person, f"e{run}.{number}"),
            builders.whatsapp_edit(person, f"m{run}.{number}", "edited", at(5)),
            builders.whatsapp_status(person, f"e{run}.{number}", "read"),
            builders.whatsapp_preference(person, "stop"),
        ]
    return made


def test_a_batch_of_500_takes_as_many_statements_as_one_of_10(pipeline: Pipeline) -> None:
    pipeline.channel("whatsapp_cloud")
    # Once beforehand, so that the resolver's memory of channels and workspaces is warm for both.
    count_statements(pipeline, busy_bodies(5, "9000"))
    assert count_statements(pipeline, busy_bodies(10, "9001")) == count_statements(pipeline, busy_bodies(500, "9002"))
