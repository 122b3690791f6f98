"""The environment becomes settings, and what is wrong with it is said by the variable's name."""

import os
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import ValidationError

from ingest.embedded.places import places
from ingest.errors import BadSetting
from ingest.settings import ensure_secret_key, read_settings

OWN_DATABASE = "postgresql://user:hidden@db:5432/ingest"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("INGEST_") or name in {"DATABASE_URL", "BROKER_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_url_of_the_system_that_runs_is_found_unless_host_or_port_are_given(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    places(tmp_path / "data").public_url.write_text("http://127.0.0.1:9000")
    assert read_settings().public_url == "http://127.0.0.1:9000"
    assert read_settings(port=9001).public_url == "http://127.0.0.1:9001"
    assert read_settings(public_url="https://messages.example.com").public_url == "https://messages.example.com"


def test_nothing_given_means_the_embedded_system_here(tmp_path: Path) -> None:
    settings = read_settings()
    embedded = places(tmp_path / "data")
    assert (settings.database_url, settings.broker_url) == (embedded.database_url(), embedded.broker_url)
    assert (settings.embeds_database, settings.embeds_broker) == (True, True)
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.spool_dir == Path("data/spool")


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "DATABASE_URL": OWN_DATABASE,
        "BROKER_URL": "valkey://cache:6379/1",
        "INGEST_PORT": "9000",
        "INGEST_DATA_DIR": "/srv/ingest",
        "INGEST_PUBLIC_URL": "https://messages.example.com/",
        "INGEST_BATCH_EVENTS": "100",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert settings.database_url == "postgresql+psycopg://user:hidden@db:5432/ingest"
    assert settings.broker_url == "redis://cache:6379/1"
    assert (settings.embeds_database, settings.embeds_broker) == (False, False)
    assert (settings.port, settings.batch_events) == (9000, 100)
    assert settings.public_url == "https://messages.example.com"
    assert settings.spool_dir == Path("/srv/ingest/spool")


def test_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "")
    monkeypatch.setenv("INGEST_PORT", "")
    assert read_settings() == read_settings(port=8080)
    assert read_settings().embeds_broker


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    monkeypatch.setenv("INGEST_PORT", "9000")
    settings = read_settings(database_url=OWN_DATABASE, port=9001, host=None)
    assert settings.database_url.endswith("@db:5432/ingest")
    assert (settings.port, settings.host) == (9001, "127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("DATABASE_URL", "mysql://x/y", "DATABASE_URL: must be a PostgreSQL URL such as"),
        ("DATABASE_URL", "sqlite:///x", "DATABASE_URL: must be a PostgreSQL URL such as"),
        ("BROKER_URL", "sqs://", "BROKER_URL: must be a Redis, Valkey or RabbitMQ URL such as"),
        ("INGEST_SECRET_KEY", "password", "INGEST_SECRET_KEY: every comma-separated part must be a Fernet key"),
        ("INGEST_SECRET_KEY", "A" * 43 + "=", "INGEST_SECRET_KEY: is too easily guessed"),
        ("INGEST_SECRET_KEY", b64encode(b"secretsecretsecretsecretsecretse").decode(), "is too easily guessed"),
        ("INGEST_PUBLIC_URL", "messages.example.com", "INGEST_PUBLIC_URL: must be an absolute URL"),
        ("INGEST_PUBLIC_URL", "https://messages.example.com/?x=1", "INGEST_PUBLIC_URL: must be an absolute URL"),
        ("INGEST_PORT", "high", "INGEST_PORT: .*integer"),
        ("INGEST_PORT", "70000", "INGEST_PORT: .*65535"),
        ("INGEST_LOG_LEVEL", "loud", "INGEST_LOG_LEVEL: .*'info'"),
    ],
)
def test_unusable_variable_is_named_with_what_to_put_there(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSetting, match=told):
        read_settings()


def test_secrets_are_in_no_message_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Fernet.generate_key().decode()
    assert key not in repr(read_settings(secret_key=key))
    assert "hidden" not in repr(read_settings(database_url=OWN_DATABASE))
    monkeypatch.setenv("INGEST_SECRET_KEY", "canary")
    with pytest.raises(BadSetting) as raised:
        read_settings()
    assert "canary" not in str(raised.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read_settings().port = 1


def test_several_keys_come_newest_first() -> None:
    new, old = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    assert read_settings(secret_key=f"{new}, {old}").secret_keys == (new, old)


def test_own_database_needs_a_key_of_its_own(tmp_path: Path) -> None:
    settings = read_settings(database_url=OWN_DATABASE, data_dir=tmp_path)
    ensure_secret_key(settings, is_in_use=lambda: False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadSetting, match="INGEST_SECRET_KEY is not set"):
        _ = settings.secret_keys


def test_embedded_system_makes_its_key_once_and_keeps_it(tmp_path: Path) -> None:
    settings = read_settings(data_dir=tmp_path / "data")
    with pytest.raises(BadSetting, match="no secret key"):
        _ = settings.secret_keys
    ensure_secret_key(settings, is_in_use=lambda: False)
    made = settings.secret_keys
    ensure_secret_key(settings, is_in_use=lambda: True)
    assert settings.secret_keys == made
    assert (tmp_path / "data" / "secret.key").stat().st_mode & 0o777 == 0o600
    Fernet(made[0])


def test_a_key_that_is_gone_is_not_replaced_where_it_has_sealed_something(tmp_path: Path) -> None:
    settings = read_settings(data_dir=tmp_path / "data")
    with pytest.raises(BadSetting, match=r"secret\.key is gone.*put it back from a backup"):
        ensure_secret_key(settings, is_in_use=lambda: True)
    assert not (tmp_path / "data" / "secret.key").exists()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("INGEST_PROT", "INGEST_PORT"),
        ("INGEST_DATADIR", "INGEST_DATA_DIR"),
        ("INGEST_SECRET_KEYS", "INGEST_SECRET_KEY"),
        ("INGEST_DATABASE_URL", "DATABASE_URL"),
        ("INGEST_BROKER_URL", "BROKER_URL"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(BadSetting, match=f"^{variable}: .* did you mean {meant}\\?$"):
        read_settings()


@pytest.mark.parametrize("variable", ["INGEST_PUBLISH", "INGEST_FAULT_DIR", "INGEST_BACKUP_BUCKET"])
def test_a_variable_that_is_like_no_setting_is_somebody_elses(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    assert read_settings().port == 8080
