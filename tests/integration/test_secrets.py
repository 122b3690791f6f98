"""Channel secrets at rest: bound to their row, under a key that can be told and changed."""

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection

from ingest.errors import BadSetting
from ingest.pipeline.administer import add_app, reseal_secrets, set_app, set_channel
from ingest.store.channels import find_app_endpoint, find_channel_endpoint
from ingest.store.sealing import Sealer, channel_owner
from tests.pipeline_world import Pipeline

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def pipeline(tx: Connection) -> Pipeline:
    return Pipeline(tx, Sealer([OLD]))


def secret_of(pipeline: Pipeline, channel_id: int, *keys: str) -> tuple[str, ...]:
    endpoint = find_channel_endpoint(pipeline.tx, Sealer(keys), channel_id)
    assert endpoint is not None
    return endpoint.secrets["secret_token"]


def test_nothing_of_a_secret_is_in_its_row(pipeline: Pipeline) -> None:
    channel_id = pipeline.channel("telegram")
    sealed = bytes(pipeline.scalar("select secrets from channel where id = :id", id=channel_id))
    assert b"telegram-secret" not in sealed
    assert sealed.startswith(f"{Sealer([OLD]).key_id}.".encode())


def test_secrets_open_in_no_other_channels_row(pipeline: Pipeline) -> None:
    one, other = pipeline.channel("telegram"), pipeline.add_channel("telegram", "Another")
    copy = "update channel set secrets = (select secrets from channel where id = :one) where id = :other returning 1"
    pipeline.rows(copy, one=one, other=other)
    assert secret_of(pipeline, one, OLD) == ("telegram-secret",)
    with pytest.raises(BadSetting, match="were sealed for"):
        secret_of(pipeline, other, OLD)


def test_secrets_open_in_no_other_workspace(pipeline: Pipeline) -> None:
    channel_id, foreign = pipeline.channel("telegram"), Pipeline(pipeline.tx).workspace_id
    pipeline.rows(
        "update channel set workspace_id = :foreign where id = :id returning 1", foreign=foreign, id=channel_id
    )
    with pytest.raises(BadSetting, match="were sealed for"):
        secret_of(pipeline, channel_id, OLD)


def test_secrets_sealed_before_the_workspace_was_named_still_open(pipeline: Pipeline) -> None:
    token = Fernet(OLD).encrypt(b'{"owner":"channel:7","secrets":{"token":["one"]}}')
    sealer = Sealer([NEW, OLD])
    assert sealer.open(channel_owner(1, 7), token) == {"token": ("one",)}
    assert not sealer.is_current(token)
    with pytest.raises(BadSetting):
        sealer.open(channel_owner(1, 8), token)


def test_a_new_secret_is_accepted_beside_its_former_value_until_the_next_change(pipeline: Pipeline) -> None:
    channel_id = pipeline.channel("telegram")
    set_channel(pipeline.tx, channel_id, {}, {"secret_token": ("second",)}, pipeline.sealer)
    assert secret_of(pipeline, channel_id, OLD) == ("second", "telegram-secret")
    set_channel(pipeline.tx, channel_id, {}, {"secret_token": ("second",)}, pipeline.sealer)
    assert secret_of(pipeline, channel_id, OLD) == ("second", "second")


def test_a_new_secret_of_an_app_is_accepted_beside_its_former_value(pipeline: Pipeline) -> None:
    secrets = {"app_secret": ("first",), "verify_token": ("v",)}
    added = add_app(pipeline.tx, pipeline.workspace_id, "whatsapp_cloud", "App", {}, secrets, pipeline.sealer)
    set_app(pipeline.tx, added.id, {}, {"app_secret": ("second",)}, pipeline.sealer)
    app = find_app_endpoint(pipeline.tx, pipeline.sealer, added.id)
    assert app is not None
    assert app.secrets == {"app_secret": ("second", "first"), "verify_token": ("v",)}


def test_after_resealing_the_former_key_is_needed_no_more(pipeline: Pipeline) -> None:
    channel_id, sealer = pipeline.channel("telegram"), Sealer([NEW, OLD])
    secrets = {"app_secret": ("s",), "verify_token": ("v",)}
    added = add_app(pipeline.tx, pipeline.workspace_id, "whatsapp_cloud", "App", {}, secrets, pipeline.sealer)
    with pytest.raises(BadSetting, match="was a key removed"):
        secret_of(pipeline, channel_id, NEW)
    mine = pipeline.scalar("select count(*) from channel where secrets is not null") + 1
    assert reseal_secrets(pipeline.tx, sealer) <= mine
    assert secret_of(pipeline, channel_id, NEW) == ("telegram-secret",)
    app = find_app_endpoint(pipeline.tx, Sealer([NEW]), added.id)
    assert app is not None
    assert app.secrets == secrets
    assert reseal_secrets(pipeline.tx, Sealer([NEW])) == 0


def test_resealing_changes_nothing_when_one_cannot_be_opened(pipeline: Pipeline) -> None:
    channel_id = pipeline.channel("telegram")
    pipeline.sealer = Sealer([Fernet.generate_key().decode()])
    pipeline.add_channel("telegram", "Under a lost key")
    savepoint = pipeline.tx.begin_nested()
    with pytest.raises(BadSetting, match="was a key removed"):
        reseal_secrets(pipeline.tx, Sealer([NEW, OLD]))
    savepoint.rollback()
    assert secret_of(pipeline, channel_id, OLD) == ("telegram-secret",)
