"""Who is turned away at the door: kept blocks of deleted contacts, and blocks that cover a phone number."""

# ruff: noqa: N802 - the names carry the lines of the specification

import pytest
from sqlalchemy import text

from ingest.domain.blocks import address_hash
from ingest.pipeline.resolve import Resolver
from tests import builders
from tests.builders import at
from tests.pipeline_world import SEALER, Pipeline

pytestmark = pytest.mark.database

ADA, BEN = "447700900451", "447700900452"
SALTS = (b"new" * 10, b"old" * 10)


@pytest.fixture
def guarded(pipeline: Pipeline) -> Pipeline:
    pipeline.resolver = Resolver(SEALER, salts=SALTS)
    return pipeline


def keep_block(pipeline: Pipeline, salt: bytes, address: str) -> None:
    channel_id = pipeline.channel("whatsapp_cloud")
    pipeline.tx.execute(
        text("insert into block_list (workspace_id, channel_id, address_hash) values (:w, :c, :h)"),
        {"w": pipeline.workspace_id, "c": channel_id, "h": address_hash(salt, channel_id, address)},
    )


@pytest.mark.parametrize("salt", SALTS)
def test_B51_a_kept_block_outlives_its_contact_and_the_rotation_of_keys(guarded: Pipeline, salt: bytes) -> None:
    keep_block(guarded, salt, ADA)
    guarded.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "let me in", at(0)))
    guarded.deliver("whatsapp_cloud", builders.whatsapp_text(BEN, "m2", "hello", at(1)))
    assert guarded.texts() == ["hello"]
    assert guarded.count("contact") == 1
    assert guarded.outcomes()["dropped", "blocked"] == 1


def test_B39_another_channel_of_a_blocked_person_is_a_new_contact_unless_blocks_cover_keys(guarded: Pipeline) -> None:
    guarded.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "first", at(0)))
    guarded.block(guarded.contact_of("whatsapp_cloud", ADA).id, at(5))
    guarded.deliver("twilio_sms", builders.twilio_sms(f"+{ADA}", "SM1", "by sms"))
    assert guarded.texts() == ["first", "by sms"]


def test_C13_block_by_key_covers_the_same_number_on_another_channel(guarded: Pipeline) -> None:
    guarded.tx.execute(
        text("""update workspace set settings = '{"block_by_key": true}' where id = :w"""), {"w": guarded.workspace_id}
    )
    guarded.deliver("whatsapp_cloud", builders.whatsapp_text(ADA, "m1", "first", at(0)))
    guarded.block(guarded.contact_of("whatsapp_cloud", ADA).id, at(5))
    guarded.deliver("twilio_sms", builders.twilio_sms(f"+{ADA}", "SM1", "by sms"))
    guarded.deliver("twilio_sms", builders.twilio_sms(f"+{BEN}", "SM2", "somebody else"))
    assert guarded.texts() == ["first", "somebody else"]
    assert guarded.outcomes()["dropped", "blocked"] == 1
