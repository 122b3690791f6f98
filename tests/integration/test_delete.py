"""Deletion: gone for everybody at once, purged in bounded steps, nothing left and nothing else touched."""

# ruff: noqa: N802 - the names carry the lines of the specification

import hashlib
import json
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, event, text

from ingest.domain.actors import Actor
from ingest.domain.blocks import BlockTerms, address_hash
from ingest.domain.deletions import DeletionAccepted
from ingest.domain.needles import read_needles
from ingest.domain.refusals import Conflict, Gone, NotFound
from ingest.jobs.act_types import PurgeDeletion
from ingest.pipeline.block import block_contacts
from ingest.pipeline.delete import DeletionRequest, PurgeTerms, accept_deletion, cancel_deletion, purge_deletion
from ingest.pipeline.merge import MergeRequest, merge_contacts
from ingest.pipeline.resume import resume_acts
from ingest.pipeline.unmerge import unmerge_contact
from ingest.store.contact_registry import DEPENDENTS, REFERENCES
from ingest.store.deletions import find_certificate, find_deletion, list_failures
from ingest.store.erased_addresses import free_addresses
from ingest.store.erasure import find_remains
from ingest.store.identities import find_identities
from tests.acts_load import load_contacts
from tests.acts_world import World

PHONE = "+60123456789"


@pytest.fixture
def world(tx: Connection) -> World:
    return World(tx)


def delete(world: World, *ids: int, **more: Any) -> DeletionAccepted:
    return accept_deletion(world.uow(), DeletionRequest(world.workspace_id, ids, **more))


def purge(world: World, job_id: int, steps: int = 1000) -> str:
    state = "queued"
    for _ in range(steps):
        state = purge_deletion(world.uow(), PurgeDeletion(world.workspace_id, job_id))
        if state != "running":
            break
    return state


def test_B46_accepting_detaches_at_once(world: World) -> None:
    gone, stays = world.make_contact(phone=PHONE), world.make_contact(phone=PHONE)
    world.make_suggestion(gone, stays, ["tel:" + PHONE])
    run_id = world.make_run(gone)
    address = world.scalar("select address from identity where contact_id = :id", id=gone)
    accepted = delete(world, gone, actor=Actor("user", 7))
    assert (accepted.contact_count, accepted.absorbed_count, accepted.is_repeat) == (1, 0, False)
    assert world.contact(gone).deletion_job_id == accepted.deletion_job_id
    assert world.contact(stays).deletion_job_id is None
    found = find_identities(world.tx, [(world.channel_ids[0], address)])
    assert [each.contact_id for each in found.values()] == [gone]
    # Whoever comes with the address finds that it is a deleted contact's, and takes it off.
    free_addresses(world.tx, [world.workspace_id], [gone, stays])
    assert find_identities(world.tx, [(world.channel_ids[0], address)]) == {}
    freed = "select count(*) from identity where contact_id = :id and starts_with(address, chr(31))"
    assert (world.scalar(freed, id=gone), world.scalar(freed, id=stays)) == (1, 0)
    runs = world.rows("select id, state, reason from workflow_run")
    assert [tuple(row) for row in runs] == [(run_id, "ended", "deleted")]
    pairs = world.rows("select state, reason from merge_suggestion")
    assert [tuple(row) for row in pairs] == [("closed", "party_deleted")]
    assert world.jobs("purge_deletion") == [{"deletion_job_id": accepted.deletion_job_id}]


def test_A87_and_B46_a_wrong_number_deletes_nothing_and_names_the_true_one(world: World) -> None:
    ids = [world.make_contact() for _ in range(3)]
    with pytest.raises(Conflict) as refusal:
        delete(world, *ids, typed_count=2)
    assert (refusal.value.word, refusal.value.details) == ("wrong_count", {"contact_count": 3})
    assert world.scalar("select count(*) from contact where deletion_job_id is not null") == 0
    delete(world, *ids, typed_count=3)


def test_A85_A86_and_B50_everything_goes_and_a_tombstone_stays(world: World) -> None:
    contact_id = world.make_contact(
        conversation="open", phone=PHONE, email="canary@example.com", fields='{"1": "canary"}'
    )
    world.make_message(contact_id, "canary words")
    world.make_tag("vip", contact_id)
    world.make_run(contact_id)
    job_id = delete(world, contact_id, actor=Actor("user", 7)).deletion_job_id
    assert purge(world, job_id) == "completed"
    for each in REFERENCES:
        if each.on_delete == "keep":
            continue
        left = world.scalar(f"select count(*) from {each.table} where {each.column} = :id", id=contact_id)
        assert left == 0, each
    (stone,) = world.rows("select contact_id, deletion_job_id, actor_id from tombstone")
    assert tuple(stone) == (contact_id, job_id, 7)


def test_P11_no_byte_of_the_contact_is_left_anywhere(world: World) -> None:
    phone, email, name, words, address = PHONE, "canary@example.com", "Canaria", "secret words", "canary-4711"
    contact_id = world.make_contact(
        channel=None, conversation="open", phone=phone, email=email, first_name=name, fields='{"1": "secret words"}',
        display_name=name, block_reason="Canaria again",
    )  # fmt: skip
    identity_id = world.make_identity(contact_id, address=address)
    other = world.make_contact(phone=phone)
    world.make_suggestion(contact_id, other, ["tel:" + phone])
    message_id = world.make_message(contact_id, words, external_id=f"id-{address}")
    everything = {
        "ws": world.workspace_id,
        "ch": world.channel_ids[0],
        "id": contact_id,
        "words": words,
        "address": address,
    }
    for statement in (
        "insert into message_effect (workspace_id, channel_id, target_hash, effect_hash, message_id, kind, value, at) "
        f"values (:ws, :ch, gen_random_uuid(), gen_random_uuid(), {message_id}, 'edit', :words, now())",
        "insert into message_effect (workspace_id, channel_id, target_hash, effect_hash, kind, actor, at) "
        "values (:ws, :ch, gen_random_uuid(), gen_random_uuid(), 'reaction', :address, now())",
        "insert into watermark (workspace_id, channel_id, address, status, up_to) values (:ws, :ch, :address, 'read', now())",
        f"insert into attachment_content (workspace_id, message_id, position, content) values (:ws, {message_id}, 0, "
        "convert_to(:words, 'UTF8'))",
        "insert into comment (workspace_id, contact_id, origin_contact_id, source, text) "
        "values (:ws, :id, :id, 'user', :words)",
        "insert into contact_event (workspace_id, contact_id, origin_contact_id, kind, source, data) "
        "values (:ws, :id, :id, 'contact.updated', 'user', jsonb_build_object('summary', cast(:words as text)))",
        "insert into dropped_message (workspace_id, contact_id, channel_id, external_hash, reason) "
        "values (:ws, :id, :ch, gen_random_uuid(), 'blocked')",
        "insert into dead_letter (workspace_id, queue, name, reason, body) values (:ws, 'resolve', 'resolve_requests', 'odd', "
        "convert_to('{\"from\": \"' || :address || '\", \"text\": \"' || :words || '\"}', 'UTF8'))",
        "insert into dead_letter (workspace_id, queue, name, reason, body) values (:ws, 'resolve', 'resolve_requests', 'odd', "
        "convert_to('From=whatsapp%3A%2B60123456789&Body=secret+words', 'UTF8'))",
        "insert into idempotency_key (workspace_id, key, fingerprint, status, body) "
        "values (:ws, 'k', '', 200, convert_to('{\"email\":\"canary@example.com\"}', 'UTF8'))",
    ):
        names = {name for name in everything if f":{name}" in statement}
        world.tx.execute(text(statement), {name: everything[name] for name in names})
    twin = world.make_contact(first_name=name, phone="+60120000000")
    merge_contacts(world.uow(), MergeRequest(world.workspace_id, contact_id, twin))
    unmerge_contact(world.uow(), world.workspace_id, contact_id, twin)
    canaries = [phone[1:], email, name, words, "secret+words", address]
    needles = read_needles(canaries)
    assert {each.place.partition(".")[0] for each in find_remains(world.tx, needles)} > {
        "contact",
        "message",
        "dead_letter",
        "merge_record",
    }
    world.run(
        "update contact set first_name = 'Other', phone = null where id in (:other, :twin)", other=other, twin=twin
    )
    world.run("delete from contact_key where contact_id in (:other, :twin)", other=other, twin=twin)
    assert purge(world, delete(world, contact_id, twin).deletion_job_id) == "completed"
    # What the other party's history of suggestions says is about its own key.
    assert find_remains(world.tx, needles) == []
    assert world.scalar("select count(*) from dead_letter where body is null and state = 'discarded'") == 2
    assert world.scalar("select count(*) from identity where id = :id", id=identity_id) == 0


def test_an_unrelated_dead_letter_keeps_its_body(world: World) -> None:
    world.run(
        "insert into dead_letter (workspace_id, queue, name, reason, body) "
        "values (:workspace_id, 'resolve', 'x', 'odd', 'other')"
    )
    purge(world, delete(world, world.make_contact(phone=PHONE)).deletion_job_id)
    assert bytes(world.scalar("select body from dead_letter")) == b"other"


@pytest.mark.parametrize("terms", [PurgeTerms(rows=7), PurgeTerms(rows=7, contacts=2)])
def test_B47_batches_count_exactly_and_touch_nothing_out_of_scope(
    world: World, monkeypatch: pytest.MonkeyPatch, terms: PurgeTerms
) -> None:
    monkeypatch.setattr("ingest.store.deletions.BATCH_CONTACTS", 3)
    doomed = load_contacts(world.tx, world.workspace_id, world.channel_ids[0], 10, 4)
    stays = load_contacts(world.tx, world.workspace_id, world.channel_ids[0], 5, 4, first=100)
    accepted = delete(world, *doomed)
    job = PurgeDeletion(world.workspace_id, accepted.deletion_job_id)
    progress = []
    while purge_deletion(world.uow(), job, terms) == "running":
        progress.append(find_deletion(world.tx, world.workspace_id, job.deletion_job_id).purged_count)
    assert max(after - before for before, after in pairwise([0, *progress])) == min(3, terms.contacts)
    assert progress == sorted(progress)
    done = find_deletion(world.tx, world.workspace_id, job.deletion_job_id)
    assert (done.state, done.purged_count, done.failed_count) == ("completed", 10, 0)
    assert done.row_counts["message"] == 40
    assert done.row_counts["contact_key"] == 20
    assert world.scalar("select count(*) from message") == 20
    assert {row.id for row in world.rows("select id from contact")} == set(stays)
    assert purge(world, accepted.deletion_job_id) == "completed"


def test_a_contact_with_very_many_messages_goes_in_bounded_transactions(world: World) -> None:
    (contact_id,) = load_contacts(world.tx, world.workspace_id, world.channel_ids[0], 1, 950)
    job_id = delete(world, contact_id).deletion_job_id
    left = [950]
    while purge_deletion(world.uow(), PurgeDeletion(world.workspace_id, job_id), PurgeTerms(rows=100)) == "running":
        left.append(world.scalar("select count(*) from message"))
    assert max(before - after for before, after in pairwise(left)) <= 100
    assert left[-1] == 0


def test_B49_an_old_message_id_stays_known_for_fourteen_days(world: World) -> None:
    contact_id = world.make_contact()
    message_hash = uuid4()
    world.make_message(contact_id)
    world.run("update message set external_hash = :hash", hash=message_hash)
    purge(world, delete(world, contact_id).deletion_job_id)
    (kept,) = world.rows("select external_hash, expires_at from message_fingerprint")
    assert kept.external_hash == message_hash
    assert timedelta(days=13, hours=23) < kept.expires_at - world.now <= timedelta(days=14)


def test_B36_deleting_a_merged_contact_deletes_what_it_absorbed(world: World) -> None:
    kept, absorbed, inner = (
        world.make_contact(first_name="Ada"),
        world.make_contact(first_name="Eve"),
        world.make_contact(),
    )
    merge_contacts(world.uow(), MergeRequest(world.workspace_id, absorbed, inner))
    merge_contacts(world.uow(), MergeRequest(world.workspace_id, kept, absorbed))
    accepted = delete(world, kept, typed_count=1)
    assert (accepted.contact_count, accepted.absorbed_count) == (1, 2)
    purge(world, accepted.deletion_job_id)
    assert world.rows("select id from contact") == []
    assert world.scalar("select count(*) from merge_record") == 0
    assert len(world.rows("select * from tombstone")) == 3


def test_B52_an_absorbed_contact_cannot_be_deleted_by_its_own_id(world: World) -> None:
    kept, absorbed = world.make_contact(), world.make_contact()
    merge_contacts(world.uow(), MergeRequest(world.workspace_id, kept, absorbed))
    with pytest.raises(Conflict) as refusal:
        delete(world, absorbed)
    assert (refusal.value.word, refusal.value.details) == ("merged_into", {"merged_into": kept})


def test_T89_a_second_identical_call_joins_the_first_job(world: World) -> None:
    ids = [world.make_contact() for _ in range(3)]
    first = delete(world, *ids)
    again = delete(world, *ids)
    assert (again.deletion_job_id, again.is_repeat) == (first.deletion_job_id, True)
    purge(world, first.deletion_job_id)
    assert delete(world, *ids).deletion_job_id == first.deletion_job_id
    with pytest.raises(Gone):
        delete(world, ids[0], world.make_contact(deletion_job_id=999))
    with pytest.raises(NotFound):
        delete(world, 2**40)


def test_an_idempotency_key_returns_the_first_job(world: World) -> None:
    first = delete(world, world.make_contact(), idempotency_key="once")
    assert delete(world, world.make_contact(), idempotency_key="once").deletion_job_id == first.deletion_job_id


def test_A89_all_contacts_of_the_workspace_and_of_no_other(world: World) -> None:
    ids = [world.make_contact(channel=None) for _ in range(3)]
    foreign = World(world.tx).make_contact()
    accepted = accept_deletion(world.uow(), DeletionRequest(world.workspace_id, None, "all", typed_count=3))
    purge(world, accepted.deletion_job_id)
    assert {row.id for row in world.rows("select id from contact")} == {foreign}
    assert len(ids) == accepted.contact_count


def test_A88_there_is_no_upper_limit_and_a_thousand_take_the_statements_of_one(world: World) -> None:
    def statements(count: int) -> int:
        ids = load_contacts(world.tx, world.workspace_id, world.channel_ids[0], count, 0, first=count)
        taken = 0

        def tell(*_: object) -> None:
            nonlocal taken
            taken += 1

        event.listen(world.tx, "before_cursor_execute", tell)
        delete(world, *ids)
        event.remove(world.tx, "before_cursor_execute", tell)
        return taken

    assert statements(1) == statements(1000)


def test_P9_contacts_of_another_workspace_are_not_touched(world: World) -> None:
    foreign = World(world.tx).make_contact()
    with pytest.raises(NotFound):
        delete(world, foreign)


def test_P7_a_contact_that_is_not_this_deletions_any_more_keeps_everything(world: World) -> None:
    doomed, spared = (world.make_contact(conversation="open") for _ in range(2))
    for contact_id in (doomed, spared):
        world.make_message(contact_id)
    accepted = delete(world, doomed, spared)
    world.run("update contact set deletion_job_id = null where id = :id", id=spared)
    purge(world, accepted.deletion_job_id)
    assert {row.contact_id for row in world.rows("select contact_id from message")} == {spared}
    assert world.contact(spared).id == spared


def test_B51_deleting_a_blocked_contact_warns_and_can_keep_the_block(world: World) -> None:
    contact_id = world.make_contact(channel=None)
    world.make_identity(contact_id, address="someone")
    block_contacts(world.uow(), world.workspace_id, [contact_id], BlockTerms())
    assert delete(world, contact_id, keep_block=True, salt=b"salt").blocked_count == 1
    (kept,) = world.rows("select channel_id, address_hash from block_list")
    assert bytes(kept.address_hash) == address_hash(b"salt", world.channel_ids[0], "someone")


def test_B53_and_C18_within_the_grace_period_a_deletion_can_be_cancelled(world: World) -> None:
    contact_id = world.make_contact(channel=None, phone=PHONE)
    taken, free = world.make_identity(contact_id, address="taken"), world.make_identity(contact_id, address="free")
    job_id = delete(world, contact_id, grace=timedelta(hours=1)).deletion_job_id
    (job,) = world.rows("select due_at from job where name = 'purge_deletion'")
    assert job.due_at == world.now + timedelta(hours=1)
    newcomer = world.make_contact(channel=None)
    free_addresses(world.tx, [world.workspace_id], [contact_id])
    world.make_identity(newcomer, address="taken")
    assert cancel_deletion(world.uow(), world.workspace_id, job_id) == "cancelled"
    assert cancel_deletion(world.uow(), world.workspace_id, job_id) == "cancelled"
    found = find_identities(world.tx, [(world.channel_ids[0], "taken"), (world.channel_ids[0], "free")])
    assert {address[1]: each.contact_id for address, each in found.items()} == {"taken": newcomer, "free": contact_id}
    assert found[world.channel_ids[0], "free"].identity_id == free != taken
    assert world.contact(contact_id).deletion_job_id is None
    assert purge(world, job_id) == "cancelled"
    assert world.contact(contact_id).phone == PHONE


def test_B53_after_the_grace_period_it_is_too_late(world: World) -> None:
    job_id = delete(world, world.make_contact(), grace=timedelta(minutes=1)).deletion_job_id
    with pytest.raises(Conflict):
        cancel_deletion(world.uow(seconds=61), world.workspace_id, job_id)
    now_id = delete(world, world.make_contact()).deletion_job_id
    with pytest.raises(Conflict):
        cancel_deletion(world.uow(), world.workspace_id, now_id)


def test_B47_a_contact_that_resists_is_retried_listed_and_holds_nobody_up(world: World) -> None:
    ids = [world.make_contact() for _ in range(4)]
    world.tx.execute(
        text(f"""
            create function resist() returns trigger language plpgsql as
            $$ begin if old.id = {ids[1]} then raise exception 'no'; end if; return old; end $$;
            create trigger resist before delete on contact for each row execute function resist()
        """)
    )
    job_id = delete(world, *ids).deletion_job_id
    assert purge(world, job_id) == "completed_with_errors"
    job = find_deletion(world.tx, world.workspace_id, job_id)
    assert (job.purged_count, job.failed_count) == (3, 1)
    (failure,) = list_failures(world.tx, world.workspace_id, job_id)
    assert (failure.contact_id, failure.attempts) == (ids[1], 3)


def test_C18_the_certificate_counts_what_was_erased_and_names_nobody(world: World) -> None:
    ids = load_contacts(world.tx, world.workspace_id, world.channel_ids[0], 3, 2)
    job_id = delete(world, *ids, actor=Actor("user", 7)).deletion_job_id
    assert find_certificate(world.tx, world.workspace_id, job_id) is None
    purge(world, job_id)
    kept = find_certificate(world.tx, world.workspace_id, job_id)
    assert kept is not None
    assert (kept.body["contacts"], kept.body["rows"]["message"], kept.body["actor_id"]) == (3, 6, 7)
    assert kept.body["contacts_hash"] == hashlib.sha256(",".join(map(str, sorted(ids))).encode()).hexdigest()
    canonical = json.dumps(kept.body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert bytes(kept.digest) == hashlib.sha256(canonical).digest()


def test_P7_a_deletion_whose_job_was_set_aside_gets_a_new_one(world: World) -> None:
    job_id = delete(world, world.make_contact()).deletion_job_id
    assert resume_acts(world.uow(300)) == 0
    world.run("delete from job")
    assert resume_acts(world.uow(300)) == 1
    assert world.jobs("purge_deletion") == [{"deletion_job_id": job_id}]
    purge(world, job_id)
    world.run("delete from job")
    assert resume_acts(world.uow(300)) == 0


def test_P5_no_orphans_are_left_in_any_table(world: World) -> None:
    ids = load_contacts(world.tx, world.workspace_id, world.channel_ids[0], 4, 3)
    for contact_id in ids[:2]:
        world.make_run(contact_id)
    purge(world, delete(world, *ids[:2]).deletion_job_id)
    for each in REFERENCES:
        if each.on_delete != "keep" and each.column != "merged_into":
            orphans = world.scalar(
                f"select count(*) from {each.table} where {each.column} is not null "
                f"and {each.column} not in (select id from contact)"
            )
            assert orphans == 0, each
    assert set(DEPENDENTS) == {"message_effect", "attachment_content", "identity_link", "merge_moved"}
