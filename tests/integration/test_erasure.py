"""Erasure: what else names a deleted contact goes too, what waits from it is not brought back, and the proof sees it all."""

# ruff: noqa: N802 - the names carry the lines of the specification

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from ingest.domain.blocks import erased_hash
from ingest.domain.needles import Salts, read_needles
from ingest.jobs.act_types import PurgeDeletion
from ingest.pipeline import sweep as sweeping
from ingest.pipeline.delete import DeletionRequest, PurgeTerms, accept_deletion, cancel_deletion, purge_deletion
from ingest.pipeline.resolve import Resolver
from ingest.pipeline.upkeep import trim_dead_letters
from ingest.store import leftovers
from ingest.store.deletions import find_deletion
from ingest.store.erasure import COLUMNS, find_remains
from ingest.store.erasure_files import find_in_files
from ingest.store.intake import RawRequest, encode_requests
from tests import builders
from tests.acts_world import World
from tests.builders import at
from tests.pipeline_world import SEALER, Pipeline

PHONE, OTHER = "+60123456789", "+60198765432"
ADA, BEN = "447700900451", "447700900452"
SALT = b"salt of the installation"


@pytest.fixture
def world(tx: Connection) -> World:
    return World(tx)


@pytest.fixture
def salted(pipeline: Pipeline) -> Pipeline:
    pipeline.resolver = Resolver(SEALER, salts=[b"newer", SALT])
    return pipeline


def delete(world: World, *ids: int, **more: Any) -> int:
    return accept_deletion(world.uow(), DeletionRequest(world.workspace_id, ids, **more)).deletion_job_id


def purge(world: World, job_id: int, steps: int = 200) -> int:
    """Work the deletion off and return how many steps that took."""
    for step in range(1, steps + 1):
        if purge_deletion(world.uow(), PurgeDeletion(world.workspace_id, job_id)) != "running":
            return step
    raise AssertionError("the deletion does not end")


def add_transfer(world: World, kind: str, content: bytes, options: dict[str, Any], state: str = "completed") -> int:
    transfer_id = world.scalar(
        "insert into transfer (workspace_id, kind, state, options, source, file_name) "
        "values (:workspace_id, :kind, :state, cast(:options as jsonb), 'user', 'list of +60123456789.csv') returning id",
        kind=kind,
        state=state,
        options=json.dumps(options),
    )
    world.run(
        "insert into transfer_part (workspace_id, transfer_id, position, row_count, content) "
        "values (:workspace_id, :id, 0, 2, :content)",
        id=transfer_id,
        content=content,
    )
    return int(transfer_id)


# --- what names a contact beside others ------------------------------------------------------------------------------


def test_P11_a_finished_export_loses_the_contacts_rows_and_keeps_all_others(world: World) -> None:
    gone, stays = world.make_contact(phone=PHONE), world.make_contact(phone=OTHER)
    content = f"id,firstName,phone\r\n{gone},Ada,+60123456789\r\n{stays},Eve,{OTHER}\r\n".encode()
    add_transfer(world, "export", content, {"form": "machine", "filter": {}})
    purge(world, delete(world, gone))
    kept = bytes(world.scalar("select content from transfer_part"))
    assert kept.decode() == f"id,firstName,phone\r\n{stays},Eve,{OTHER}\r\n"
    assert world.scalar("select file_name from transfer") == ""


def test_P11_rows_of_an_import_that_never_ended_are_emptied_in_their_place(world: World) -> None:
    gone = world.make_contact(phone=PHONE)
    rows = [["Ada", "+60 12-345 6789"], ["Eve", OTHER]]
    add_transfer(world, "import", json.dumps(rows).encode(), {"columns": ["firstName", "phone"]}, "running")
    purge(world, delete(world, gone))
    assert json.loads(bytes(world.scalar("select content from transfer_part"))) == [["", ""], ["Eve", OTHER]]


def test_P11_a_saved_filter_that_names_the_contact_no_longer_does(world: World) -> None:
    gone = world.make_contact(phone=PHONE)
    world.make_contact(phone=OTHER)
    conditions = [
        {"category": "contactField", "field": "phone", "operator": "isEqualTo", "value": each}
        for each in (PHONE, OTHER)
    ]
    world.run(
        "insert into segment (workspace_id, name, filter, search) "
        "values (:workspace_id, 'Only +60123456789', cast(:filter as jsonb), '012-345 6789')",
        filter=json.dumps({"$or": conditions}),
    )
    job_id = delete(world, gone)
    purge(world, job_id)
    (segment,) = world.rows("select id, name, filter, search from segment")
    assert (segment.name, segment.search) == (f"Segment {segment.id}", "erased")
    assert [each["value"] for each in segment.filter["$or"]] == ["erased", OTHER]
    assert find_deletion(world.tx, world.workspace_id, job_id).row_counts["segment"] == 1


def test_P11_kept_answers_about_the_contact_are_refusals_from_then_on(world: World) -> None:
    gone, stays = world.make_contact(phone=PHONE), world.make_contact(phone=OTHER)
    answers = {
        "1:mentions": b'{"email": "x", "phone": "+60123456789"}',
        "1:about": b'{"id": "%d", "firstName": "Ada"}' % gone,
        "1:other": b'{"id": "%d", "firstName": "Eve"}' % stays,
        "1:create +60123456789": b"{}",
    }
    for key, body in answers.items():
        world.run(
            "insert into idempotency_key (workspace_id, key, fingerprint, status, body) "
            "values (:workspace_id, :key, '', 200, :body)",
            key=key,
            body=body,
        )
    purge(world, delete(world, gone))
    kept = {
        row.key: (row.status, bytes(row.body)) for row in world.rows("select key, status, body from idempotency_key")
    }
    refusal = (sweeping.ERASED_STATUS, sweeping.ERASED_ANSWER)
    assert kept == {"1:mentions": refusal, "1:about": refusal, "1:other": (200, answers["1:other"])}


def test_P11_free_words_of_acts_and_keys_of_deletions_that_name_it_are_erased(world: World) -> None:
    gone, other = world.make_contact(phone=PHONE), world.make_contact()
    world.run(
        "insert into bulk_act (workspace_id, kind, params, contact_ids) "
        "values (:workspace_id, 'block', cast(:params as jsonb), '{1}')",
        params=json.dumps({"reason": "calls from 0123456789 all day", "until": None}),
    )
    purge(world, delete(world, other, idempotency_key="erase +60123456789"))
    purge(world, delete(world, gone))
    assert world.scalar("select params from bulk_act") == {"reason": "erased", "until": None}
    assert world.scalar("select count(*) from deletion_job where idempotency_key is not null") == 0


def test_P11_a_shared_key_that_nobody_holds_any_more_goes(world: World) -> None:
    gone, stays = world.make_contact(phone=PHONE), world.make_contact(phone=OTHER)
    for key in (PHONE, OTHER):
        world.run(
            "insert into shared_key (workspace_id, match_key, contact_count) values (:workspace_id, :key, 11)",
            key=f"tel:{key}",
        )
    purge(world, delete(world, gone))
    assert [row.match_key for row in world.rows("select match_key from shared_key")] == [f"tel:{OTHER}"]
    assert world.contact(stays).phone == OTHER


def test_a_sweep_reads_a_bounded_piece_at_a_time_and_goes_on_where_it_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "STEP_BYTES", 2_000)
    monkeypatch.setattr(leftovers, "PAGE_BYTES", 1_000)
    read: list[int] = []
    known = leftovers.list_letters

    def list_letters(tx: Connection, workspace_id: int, after_id: int) -> list[tuple[int, bytes]]:
        letters = known(tx, workspace_id, after_id)
        read.extend(letter_id for letter_id, _ in letters)
        return letters

    monkeypatch.setattr(leftovers, "list_letters", list_letters)
    gone = world.make_contact(phone=PHONE)
    for number in range(20):
        body = (f"{PHONE} " if number % 10 == 9 else "somebody ") + "x" * 500
        world.run(
            "insert into dead_letter (workspace_id, queue, name, reason, body) "
            "values (:workspace_id, 'resolve', 'x', 'odd', convert_to(:body, 'UTF8'))",
            body=body,
        )
    steps = purge(world, delete(world, gone))
    assert steps > 5
    assert len(read) == len(set(read)) == 20
    assert world.scalar("select count(*) from dead_letter where reason = 'erased' and body is null") == 2
    assert world.scalar("select count(*) from dead_letter where body is not null") == 18


def test_one_pass_serves_many_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.store.deletions.BATCH_CONTACTS", 1)
    monkeypatch.setattr(sweeping, "PASS_BATCHES", 4)
    passes = 0
    known = leftovers.list_segments

    def list_segments(tx: Connection, workspace_id: int) -> Any:
        nonlocal passes
        passes += 1
        return known(tx, workspace_id)

    monkeypatch.setattr(leftovers, "list_segments", list_segments)
    purge(world, delete(world, *(world.make_contact() for _ in range(8))))
    assert passes == 2
    assert world.scalar("select count(*) from tombstone") == 8


# --- what waits while its contact is deleted -------------------------------------------------------------------------


def delete_ada(pipeline: Pipeline, at_seconds: float) -> int:
    pipeline.now = at(at_seconds)
    contact = pipeline.contact_of("whatsapp_cloud", ADA)
    request = DeletionRequest(pipeline.workspace_id, [contact.id], salt=SALT)
    return accept_deletion(pipeline.uow(), request).deletion_job_id


@pytest.mark.parametrize("is_purged", [False, True])
def test_P11_what_was_accepted_before_the_deletion_is_not_brought_back_by_a_job_that_waited(
    salted: Pipeline, is_purged: bool
) -> None:
    salted.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "first", at(0)))
    job_id = delete_ada(salted, 10)
    if is_purged:
        while purge_deletion(salted.uow(), PurgeDeletion(salted.workspace_id, job_id), PurgeTerms(SALT)) == "running":
            pass
    waited = [
        builders.whatsapp_text(ADA, "m2", "canary", at(9)),
        builders.whatsapp_edit(ADA, "m1", "canary"),
        builders.whatsapp_text(BEN, "m3", "of another", at(9)),
    ]
    salted.deliver("whatsapp_cloud", *waited, accepted_at=at(9.9))
    assert salted.outcomes()["dropped", "erased"] == 2
    assert salted.contact_of("whatsapp_cloud", ADA) is None
    assert "canary" not in salted.texts()
    assert salted.count("message_effect") == 0
    assert salted.texts()[-1] == "of another"


def test_B49_what_is_accepted_after_the_deletion_makes_a_new_contact(salted: Pipeline) -> None:
    salted.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "first", at(0)))
    old = salted.contact_of("whatsapp_cloud", ADA).id
    delete_ada(salted, 10)
    before = salted.request("whatsapp_cloud", builders.whatsapp_text(ADA, "m2", "too early", at(9)), at(9))
    after = salted.request("whatsapp_cloud", builders.whatsapp_text(ADA, "m3", "hello again", at(11)), at(11))
    salted.resolve(after, before)
    assert salted.contact_of("whatsapp_cloud", ADA).id != old
    assert salted.texts()[-1] == "hello again"
    assert "too early" not in salted.texts()


def test_B53_a_deletion_that_was_cancelled_keeps_nothing_out(salted: Pipeline) -> None:
    salted.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "first", at(0)))
    salted.now = at(10)
    contact = salted.contact_of("whatsapp_cloud", ADA)
    request = DeletionRequest(salted.workspace_id, [contact.id], salt=SALT, grace=timedelta(hours=1))
    job_id = accept_deletion(salted.uow(), request).deletion_job_id
    salted.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m2", "too early", at(9)), accepted_at=at(9))
    assert salted.count("erased_address") == 1
    cancel_deletion(salted.uow(), salted.workspace_id, job_id)
    salted.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m3", "second", at(9)), accepted_at=at(9))
    assert salted.texts() == ["first", "second"]
    assert salted.contact_of("whatsapp_cloud", ADA).id == contact.id
    assert salted.count("erased_address") == 0


def test_what_is_kept_of_an_address_is_a_salted_hash_for_fourteen_days(salted: Pipeline) -> None:
    salted.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "first", at(0)))
    job = PurgeDeletion(salted.workspace_id, delete_ada(salted, 10))
    salted.now = at(600)
    while purge_deletion(salted.uow(), job, PurgeTerms(SALT)) == "running":
        pass
    channel_id = salted.channel("whatsapp_cloud")
    found = {bytes(row.address_hash): row.expires_at - at(10) for row in salted.rows("select * from erased_address")}
    assert found[erased_hash(SALT, channel_id, ADA)] == timedelta(days=14)


def test_P7_a_deletion_waits_for_requests_that_were_accepted_before_it_and_sweeps_what_became_of_them(
    salted: Pipeline,
) -> None:
    salted.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "first", at(0)))
    request = salted.request("whatsapp_cloud", {"object": "whatsapp_business_account", "from": ADA}, at(9))
    add_waiting(salted, request)
    job = PurgeDeletion(salted.workspace_id, delete_ada(salted, 10))
    for _ in range(5):
        salted.sleep(1)
        assert purge_deletion(salted.uow(), job) == "running"
    assert salted.count("tombstone") == 0
    # Their rows need not wait: there are no messages any more.
    assert salted.texts() == []
    salted.rows("delete from job where body is not null and workspace_id = :w returning 1")
    salted.resolve(request)
    assert len(salted.dead_letters()) == 1
    while purge_deletion(salted.uow(), job) == "running":
        pass
    assert (salted.dead_letters()[0].reason, salted.dead_letters()[0].body) == ("erased", None)
    assert find_remains(salted.tx, read_needles([ADA])) == []


def add_waiting(pipeline: Pipeline, request: RawRequest) -> None:
    pipeline.rows(
        "insert into job (workspace_id, queue, name, body, created_at) "
        "values (:w, 'resolve', 'resolve_requests', :body, :at) returning 1",
        body=encode_requests([request]),
        at=request.accepted_at,
    )


# --- the proof -------------------------------------------------------------------------------------------------------


def test_P11_every_column_of_every_table_is_searched_also_those_that_come_tomorrow(tx: Connection) -> None:
    tx.execute(text("create schema elsewhere"))
    tx.execute(text("create type mood as enum ('odd', 'canary-value')"))
    columns = {
        "a_text": ("text", "'a canary-value'"),
        "a_varchar": ("varchar(50)", "'CANARY-Value'"),
        "a_char": ("char(20)", "'canary-value'"),
        "a_json": ("json", """'{"deep": ["canary-value"]}'"""),
        "a_jsonb": ("jsonb", """'{"canary-value": 1}'"""),
        "a_bytea": ("bytea", "'\\x00ff'::bytea || 'canary-value'::bytea"),
        "an_array": ("text[]", "'{x,canary-value}'"),
        "a_uuid": ("uuid", f"'{hashlib.md5(b'canary-value').hexdigest()}'"),
        "an_enum": ("mood", "'canary-value'"),
        "a_made_one": ("text generated always as (upper(a_text)) stored", "default"),
    }
    for table in ("tomorrow", "elsewhere.tomorrow"):
        given = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
        tx.execute(text(f"create table {table} (id bigint, {given})"))
        values = ", ".join(value for _, value in columns.values())
        tx.execute(text(f"insert into {table} values (1, {values}), (2, {values}), (3, {values})"))
        tx.execute(text(f"insert into {table} (id, a_text) values (4, 'something else')"))
    found = find_remains(tx, read_needles(["nothing at all", "canary-value"]))
    assert {each.place: (each.count, each.needles) for each in found} == {
        f"{table}.{name}": (3, (2,)) for table in ("tomorrow", "elsewhere.tomorrow") for name in columns
    }


def test_P11_no_column_that_can_hold_a_text_is_left_out(tx: Connection) -> None:
    searched = {(row.table, name) for row in tx.execute(COLUMNS) for name in row.columns}
    others = tx.execute(
        text("select table_name, column_name, data_type from information_schema.columns where table_schema = 'public'")
    )
    left_out = {row.data_type for row in others if (row.table_name, row.column_name) not in searched}
    assert left_out == {
        *("bigint", "integer", "smallint", "double precision", "boolean", "date", "timestamp with time zone")
    }


def test_P11_samples_of_the_planner_are_searched_too(world: World) -> None:
    world.make_contact(first_name="canary-value")
    world.make_contact(first_name="canary-value")
    world.tx.execute(text("analyze contact"))
    places = {each.place for each in find_remains(world.tx, read_needles(["canary-value"]))}
    assert {"contact.first_name", "pg_stats.contact.first_name"} <= places


def test_hashes_of_ours_are_found_for_what_they_are(salted: Pipeline) -> None:
    salted.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "first", at(0)))
    job_id = delete_ada(salted, 10)
    while purge_deletion(salted.uow(), PurgeDeletion(salted.workspace_id, job_id), PurgeTerms(SALT)) == "running":
        pass
    assert find_remains(salted.tx, read_needles([ADA])) == []
    with_salts = read_needles([ADA], Salts([SALT], [salted.channel("whatsapp_cloud")]))
    assert [each.place for each in find_remains(salted.tx, with_salts)] == ["erased_address.address_hash"]


def test_files_are_searched_across_the_borders_of_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.store.erasure_files.PIECE_BYTES", 1024)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "log").write_bytes(b"x" * 1018 + b"canary-value" + b"x" * 5000)
    (tmp_path / "clean").write_bytes(b"x" * 9000)
    found = find_in_files([tmp_path], read_needles(["canary-value"]))
    assert [(each.place, each.needles) for each in found] == [(str(tmp_path / "below" / "log"), (1,))]


# --- dead letters ----------------------------------------------------------------------------------------------------


def test_dead_letters_go_after_their_time_whatever_became_of_them(world: World) -> None:
    for state, days in (("open", 31), ("replayed", 31), ("discarded", 31), ("open", 29)):
        world.run(
            "insert into dead_letter (workspace_id, queue, name, reason, state, created_at) "
            "values (:workspace_id, 'resolve', 'x', 'odd', :state, :at)",
            state=state,
            at=world.now - timedelta(days=days),
        )
    assert trim_dead_letters(world.uow(), 30) == 3
    assert trim_dead_letters(world.uow(), 30) == 0
    assert [row.state for row in world.rows("select state from dead_letter")] == ["open"]
