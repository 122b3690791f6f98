"""Step `resolve`: what is not stored. Blocked people's messages, requests that cannot be read, accounts nobody knows."""

# ruff: noqa: N802 - the names carry the lessons and lines of the specification

from typing import Any

import pytest
from sqlalchemy import text

from ingest.pipeline import administer
from ingest.store.dead_letters import get_dead_letter, replay_dead_letters
from ingest.store.intake import decode_requests
from ingest.store.jobs import claim_jobs
from ingest.store.views.queues import conservation, orphans
from tests import builders
from tests.builders import at
from tests.pipeline_world import SECRETS, Pipeline

pytestmark = pytest.mark.database

ADA = "447700900451"
CANARY = "canary-7f3a"


def wrote(message_id: str = "m1", words: str = "hello", second: float = 0) -> builders.JSON:
    return builders.whatsapp_text(ADA, message_id, words, at(second))


@pytest.fixture
def blocked(pipeline: Pipeline) -> Any:
    """A contact that wrote once and was then blocked."""
    pipeline.deliver("whatsapp_cloud", wrote("before", "before the block"))
    contact = pipeline.contact_of("whatsapp_cloud", ADA)
    pipeline.block(contact.id, at(10))
    return contact


# Blocked


def test_A78_and_B40_of_a_blocked_persons_message_only_that_it_came_is_kept(pipeline: Pipeline, blocked: Any) -> None:
    batch = pipeline.deliver("whatsapp_cloud", wrote("m2", CANARY, 20))
    assert pipeline.texts() == ["before the block"]
    note = pipeline.rows("select contact_id, channel_id, reason from dropped_message where workspace_id = :w")
    assert [tuple(row) for row in note] == [(blocked.id, pipeline.channels["whatsapp_cloud"], "blocked")]
    assert (batch.wrote, batch.opened) == ({}, {})
    assert pipeline.outcomes()["dropped", "blocked"] == 1


def test_B40_nothing_of_a_dropped_body_is_anywhere(pipeline: Pipeline, blocked: Any) -> None:
    item = {
        **builders.whatsapp_item(ADA, f"id-{CANARY}"),
        "type": "document",
        "document": {"id": f"media-{CANARY}", "filename": CANARY, "caption": CANARY},
    }
    pipeline.deliver("whatsapp_cloud", builders.whatsapp(item, names={ADA: CANARY}))
    assert pipeline.count("dropped_message") == 1
    columns = pipeline.rows(
        "select table_name, column_name from information_schema.columns where table_schema = 'public' "
        "and data_type in ('text', 'jsonb')"
    )
    for table, column in columns:
        hits = pipeline.scalar(f"select count(*) from {table} where position(:c in {column}::text) > 0", c=CANARY)
        assert hits == 0, f"{table}.{column}"
    for table, column in (("job", "body"), ("dead_letter", "body"), ("attachment_content", "content")):
        hits = pipeline.scalar(f"select count(*) from {table} where position(:c in {column}) > 0", c=CANARY.encode())
        assert hits == 0, f"{table}.{column}"


def test_B40_a_dropped_message_changes_nothing_on_the_contact_but_its_counter(pipeline: Pipeline, blocked: Any) -> None:
    before = pipeline.contact_of("whatsapp_cloud", ADA)
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m2", "hello", at(20), "New Name"))
    after = pipeline.contact_of("whatsapp_cloud", ADA)
    assert after.dropped_count == 1
    assert (after.last_message_at, after.last_incoming_at, after.status, after.display_name) == (
        before.last_message_at,
        before.last_incoming_at,
        "closed",
        before.display_name,
    )


def test_T62_a_blocked_person_opens_no_conversation(pipeline: Pipeline, blocked: Any) -> None:
    pipeline.deliver("whatsapp_cloud", wrote("m2"))
    assert pipeline.count("conversation", "status <> 'closed'") == 0


def test_a_dropped_message_delivered_again_is_counted_once(pipeline: Pipeline, blocked: Any) -> None:
    pipeline.deliver("whatsapp_cloud", wrote("m2"), wrote("m2"))
    pipeline.deliver("whatsapp_cloud", wrote("m2"))
    assert pipeline.contact_of("whatsapp_cloud", ADA).dropped_count == 1
    assert pipeline.outcomes() == {("stored", ""): 1, ("dropped", "blocked"): 1, ("duplicate", ""): 2}


def test_B44_a_message_stored_before_the_block_stays_also_when_it_is_delivered_again(
    pipeline: Pipeline, blocked: Any
) -> None:
    pipeline.deliver("whatsapp_cloud", wrote("before", "before the block"))
    assert (pipeline.texts(), pipeline.count("dropped_message")) == (["before the block"], 0)


def test_a_blocked_persons_edit_and_reaction_are_dropped_and_its_unsend_is_not(
    pipeline: Pipeline, blocked: Any
) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_edit(ADA, "before", CANARY, at(20)))
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_reaction(ADA, "before", "👍", at(20)))
    assert (pipeline.texts(), pipeline.count("message_effect")) == (["before the block"], 0)
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_unsend(ADA, "before", at(30)))
    assert pipeline.texts() == [""]


def test_A83_after_the_unblock_messages_are_stored_again_and_dropped_ones_are_not(
    pipeline: Pipeline, blocked: Any
) -> None:
    pipeline.deliver("whatsapp_cloud", wrote("m2", "while blocked", 20))
    pipeline.unblock(blocked.id)
    pipeline.deliver("whatsapp_cloud", wrote("m3", "after", 30))
    assert pipeline.texts() == ["before the block", "after"]
    assert pipeline.contact_of("whatsapp_cloud", ADA).status == "open"


def test_B40_a_dropped_message_delivered_again_after_the_unblock_stays_dropped(
    pipeline: Pipeline, blocked: Any
) -> None:
    dropped = wrote("m2", "while blocked", 20)
    pipeline.deliver("whatsapp_cloud", dropped)
    pipeline.unblock(blocked.id)
    pipeline.deliver("whatsapp_cloud", dropped, wrote("m3", "after", 30))
    pipeline.deliver("whatsapp_cloud", dropped)
    assert pipeline.texts() == ["before the block", "after"]
    assert pipeline.outcomes() == {("stored", ""): 2, ("dropped", "blocked"): 1, ("duplicate", ""): 2}


def test_B38_a_block_covers_all_channels_of_the_contact(pipeline: Pipeline, blocked: Any) -> None:
    pipeline.deliver("telegram", builders.telegram_text(7001, 1))
    pipeline.rows(
        "update identity set contact_id = :id where workspace_id = :w and address = '7001' returning 1", id=blocked.id
    )
    pipeline.deliver("telegram", builders.telegram_text(7001, 2))
    assert pipeline.count("dropped_message") == 1


# Where an item belongs


def test_T56_an_app_s_items_go_to_the_channels_of_their_accounts(pipeline: Pipeline) -> None:
    app = administer.add_app(
        pipeline.tx, pipeline.workspace_id, "whatsapp_cloud", "app", {}, SECRETS["whatsapp_cloud"], pipeline.sealer
    )
    for account in ("111", "222"):
        pipeline.add_channel("whatsapp_cloud", f"number {account}", app.id, phone_number_id=account)
    changes = [
        builders.whatsapp_change({"messages": [builders.whatsapp_item(ADA, f"m{account}")]}, account)
        for account in ("111", "222", "333")
    ]
    body = builders.whatsapp_entries(changes)
    pipeline.resolve(pipeline.request("", body, app_id=app.id))
    found = {(message.external_id, message.channel_id) for message in pipeline.messages()}
    assert found == {("m111", pipeline.channels["number 111"]), ("m222", pipeline.channels["number 222"])}
    assert [letter.reason for letter in pipeline.dead_letters()] == ["unknown_account"]


def test_T56_an_unknown_account_is_never_put_into_the_urls_channel(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp(builders.whatsapp_item(ADA, "m1"), account="999"), wrote("m2"))
    assert [message.external_id for message in pipeline.messages()] == ["m2"]
    assert [letter.reason for letter in pipeline.dead_letters()] == ["unknown_account"]


def test_T56_a_parked_request_is_stored_when_it_is_replayed_after_its_channel_was_connected(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp(builders.whatsapp_item(ADA, "m1"), account="999"))
    channel_id = pipeline.add_channel("whatsapp_cloud", "second number", phone_number_id="999")
    (letter,) = pipeline.dead_letters()
    assert replay_dead_letters(pipeline.tx, [letter.id]) == {letter.id: "resolve"}
    assert replay_dead_letters(pipeline.tx, [letter.id]) == {}
    body = pipeline.scalar("select body from job where workspace_id = :w and name = 'resolve_requests'")
    pipeline.resolve(*decode_requests(bytes(body)))
    assert [message.channel_id for message in pipeline.messages()] == [channel_id]


def test_T80_a_channel_that_needs_attention_still_takes_messages(pipeline: Pipeline) -> None:
    pipeline.channel("whatsapp_cloud")
    pipeline.rows("update channel set state = 'error' where workspace_id = :w returning 1")
    pipeline.deliver("whatsapp_cloud", wrote())
    assert pipeline.count("message") == 1


def test_M9_requests_of_a_channel_that_is_gone_are_set_aside(pipeline: Pipeline) -> None:
    request = pipeline.request("telegram", builders.telegram_text(7001, 1))
    pipeline.rows("delete from channel where workspace_id = :w returning 1")
    pipeline.resolve(request)
    (letter,) = pipeline.dead_letters()
    assert (letter.reason, letter.state) == ("unknown_channel", "open")


# What cannot be read


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"object": "whatsapp_business_account"}', b"null", b"\x00"],
    ids=["empty", "cut", "not UTF-8", "deep", "no frame", "null", "NUL"],
)
def test_P1_an_unreadable_request_is_kept_with_its_bytes_and_its_neighbours_are_stored(
    pipeline: Pipeline, raw: bytes
) -> None:
    broken = pipeline.request("whatsapp_cloud", raw)
    pipeline.resolve(
        pipeline.request("whatsapp_cloud", wrote("m1")), broken, pipeline.request("whatsapp_cloud", wrote("m2"))
    )
    assert pipeline.count("message") == 2
    (row,) = pipeline.dead_letters()
    letter = get_dead_letter(pipeline.tx, row.id)
    assert letter is not None
    assert letter.reason.startswith("bad_payload")
    assert letter.body is not None
    assert [request.body for request in decode_requests(bytes(letter.body))] == [raw]
    assert str(letter.trace_id).replace("-", "") == broken.trace_id.hex()


def test_P1_of_a_partly_unreadable_request_the_readable_items_are_stored_and_the_whole_is_kept(
    pipeline: Pipeline,
) -> None:
    items = [builders.whatsapp_item(ADA, "m1"), {"type": "text"}, {"id": "m3"}, builders.whatsapp_item(ADA, "m4")]
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_entries([builders.whatsapp_change({"messages": items})]))
    assert [message.external_id for message in pipeline.messages()] == ["m1", "m4"]
    (letter,) = pipeline.dead_letters()
    assert letter.reason == "unreadable_item"
    assert pipeline.outcomes() == {("stored", ""): 2, ("dead", "unreadable_item"): 2}


def test_an_adapters_mistake_sets_the_request_aside_without_its_text(pipeline: Pipeline, monkeypatch: Any) -> None:
    from dataclasses import replace

    from ingest.channels import registry
    from ingest.pipeline.resolve import reading

    def fail(_hook: object) -> list[Any]:
        raise LookupError(CANARY)

    broken = replace(registry.get_adapter("telegram"), parse=fail)
    known = registry.get_adapter
    monkeypatch.setattr(reading, "get_adapter", lambda code: broken if code == "telegram" else known(code))
    pipeline.resolve(
        pipeline.request("telegram", builders.telegram_text(7001, 1)), pipeline.request("whatsapp_cloud", wrote())
    )
    assert pipeline.count("message") == 1
    assert [letter.reason for letter in pipeline.dead_letters()] == ["adapter_failed: LookupError"]


def test_a_request_with_nothing_in_it_is_accounted_for(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", builders.whatsapp_entries())
    assert sum(pipeline.outcomes().values()) == 1


# The account


def test_every_outcome_is_in_the_account_and_a_waiting_request_too(pipeline: Pipeline, blocked: Any) -> None:
    bodies = [wrote("m2"), wrote("m2"), {}, builders.whatsapp_status(ADA, "e1", "read")]
    pipeline.deliver("whatsapp_cloud", *bodies)
    pipeline.deliver("telegram", builders.telegram_group_text(1))
    account = conservation(pipeline.tx, pipeline.workspace_id)
    assert account.resolved == 6
    assert account.items == {
        "stored": {"": 1, "status": 1},
        "dropped": {"blocked": 1},
        "duplicate": {"": 1},
        "ignored": {"group": 1},
        "dead": {"bad_payload": 1},
    }


def test_orphans_are_found(pipeline: Pipeline) -> None:
    pipeline.deliver("whatsapp_cloud", wrote())
    assert not any(orphans(pipeline.tx).values())
    pipeline.tx.execute(text("set local session_replication_role = replica"))
    pipeline.rows("delete from contact where workspace_id = :w returning 1")
    found = orphans(pipeline.tx)
    assert found["message_without_contact"] == found["identity_without_contact"] == 1


def test_jobs_carry_ids_only(pipeline: Pipeline) -> None:
    pipeline.deliver("custom", builders.envelope_text("person-1", CANARY, CANARY, phone="+447700900451", name=CANARY))
    claimed = claim_jobs(pipeline.tx, "detect", 100, 20)
    assert [sorted(job.args) for job in claimed.jobs if job.workspace_id == pipeline.workspace_id] == [["contact_ids"]]
    jobs = str(pipeline.rows("select args, key from job where workspace_id = :w"))
    assert CANARY not in jobs
    assert "4477009" not in jobs
