"""The environment, read once into one frozen `Settings`. Nothing below `ingest.runtime` reads the environment itself."""

import base64
import os
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ingest.embedded.places import places
from ingest.errors import BadSetting

GIB = 1024**3
MIB = 1024**2
MIN_DIFFERENT_BYTES = 16
PREFIX = "INGEST_"
WITHOUT_PREFIX = {"DATABASE_URL", "BROKER_URL"}
# From so alike on a variable that nobody reads is a misspelt setting, not somebody else's variable.
ALIKE = 0.85
DATABASE_SCHEMES = ("postgresql+psycopg://", "postgresql://", "postgres://")
BROKER_SCHEMES = ("redis://", "rediss://", "redis+socket://", "valkey://", "amqp://", "amqps://")


class Settings(BaseSettings):
    """Everything that an operator can set, with its defaults; frozen.

    Variables are `INGEST_` and the field's name in capitals, but for DATABASE_URL and BROKER_URL. Without these two the
    embedded servers under `data_dir` are meant, and both fields hold their URLs. Read it with `read_settings`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    database_url: str = Field("", validation_alias="DATABASE_URL", repr=False)
    broker_url: str = Field("", validation_alias="BROKER_URL", repr=False)
    secret_key: SecretStr = SecretStr("")
    """One or more Fernet keys, comma-separated, newest first: the first seals, all open."""

    data_dir: Path = Path("data")
    spool_dir: Path = Path()
    metrics_dir: Path = Path()

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    public_url: str = ""
    """How providers and browsers reach us, without a trailing slash: signatures over URLs are checked with it."""
    web_processes: int = Field(1, ge=1, le=64)
    lmtp_host: str = "127.0.0.1"
    lmtp_port: int = Field(8024, ge=1, le=65535)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    batch_events: int = Field(500, ge=1, le=10_000)
    """The most inbound events that one claim of a resolve worker takes, in one transaction."""
    lease_seconds: int = Field(20, ge=2, le=3600)
    """How long a worker owns the jobs it claimed; must be longer than any transaction may take."""
    late_after_seconds: int = Field(900, ge=0)
    """A message accepted this long after the provider's time for it is marked late and starts no automation."""
    dead_letter_days: int = Field(30, ge=1, le=3650)
    """How long dead letters are kept, whatever became of them: they hold people's messages."""
    spool_max_bytes: int = Field(2 * GIB, ge=MIB)
    """How much may be kept on disk while the database is away; beyond it webhooks are answered 503."""
    database_pool_size: int = Field(4, ge=1, le=100)
    worker_processes: int = Field(1, ge=1, le=64)
    broker_prefix: str = "ingest"
    """Put before every key and queue, so that several installations can share one broker."""
    embedded_user: str = "nobody"
    """The user that the embedded servers run as when we are root."""

    @field_validator("database_url")
    @classmethod
    def _database_url_is_postgresql(cls, value: str) -> str:
        if value and not value.startswith(DATABASE_SCHEMES):
            raise ValueError("must be a PostgreSQL URL such as postgresql://user:password@host:5432/ingest")
        # SQLAlchemy would take another driver for the bare schemes.
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", value)

    @field_validator("broker_url")
    @classmethod
    def _broker_url_is_known(cls, value: str) -> str:
        if value and not value.startswith(BROKER_SCHEMES):
            raise ValueError(
                "must be a Redis, Valkey or RabbitMQ URL such as redis://host:6379/0 or amqp://user:password@host//"
            )
        return re.sub(r"^valkey://", "redis://", value)

    @field_validator("secret_key")
    @classmethod
    def _secret_keys_are_fernet_keys(cls, value: SecretStr) -> SecretStr:
        for key in _split(value):
            try:
                Fernet(key)
            except ValueError:
                raise ValueError(
                    "every comma-separated part must be a Fernet key; `ingest secret-key` makes one"
                ) from None
            # Of 32 random bytes some 30 are different; made-up keys repeat themselves.
            if len(set(base64.urlsafe_b64decode(key))) < MIN_DIFFERENT_BYTES:
                raise ValueError("is too easily guessed: `ingest secret-key` makes a random one")
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url_is_absolute(cls, value: str) -> str:
        if value and not re.match(r"^https?://[^/?#\s]+[^?#\s]*$", value):
            raise ValueError("must be an absolute URL without a query, such as https://messages.example.com")
        return value.rstrip("/")

    @model_validator(mode="before")
    @classmethod
    def _empty_means_unset(cls, given: Any) -> Any:
        """Drop empty variables: `BROKER_URL=` in an environment file means the default."""
        return {name: value for name, value in given.items() if value != ""} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        """Derive what was not given from the data directory, host and port."""
        embedded = places(self.data_dir)
        derived: dict[str, Any] = {
            "database_url": embedded.database_url(),
            "broker_url": embedded.broker_url,
            "spool_dir": self.data_dir / "spool",
            "metrics_dir": self.data_dir / "metrics",
            "public_url": self._url_of_what_runs() or f"http://{_bracketed(self.host)}:{self.port}",
        }
        for name, value in derived.items():
            if getattr(self, name) in {"", Path()}:
                object.__setattr__(self, name, value)
        return self

    def _url_of_what_runs(self) -> str:
        """Return where the system of the data directory is to be found, "" where host or port were given or none runs."""
        if self.model_fields_set & {"host", "port"}:
            return ""
        try:
            return places(self.data_dir).public_url.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    @property
    def embeds_database(self) -> bool:
        """Whether no DATABASE_URL was given: the database is the embedded one under the data directory."""
        return self.database_url == places(self.data_dir).database_url()

    @property
    def embeds_broker(self) -> bool:
        """Whether no BROKER_URL was given: the broker is the embedded one under the data directory."""
        return self.broker_url == places(self.data_dir).broker_url

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The Fernet keys, newest first: those given, else the one kept in the data directory of an embedded system.

        Raises BadSetting where there is none.
        """
        if given := _split(self.secret_key):
            return given
        kept = places(self.data_dir).secret_key
        if self.embeds_database and kept.exists():
            return _split(SecretStr(kept.read_text(encoding="ascii")))
        if self.embeds_database:
            raise BadSetting(f"no secret key in {kept.parent}: run `ingest up` there first, or set INGEST_SECRET_KEY")
        raise BadSetting("INGEST_SECRET_KEY is not set: put a Fernet key there; `ingest secret-key` makes one")


def read_settings(**given: Any) -> Settings:
    """Return the settings of the environment, with `given` fields in place of theirs.

    Raises BadSetting naming each unusable or misspelt variable and what to put there.
    """
    if misspelt := _misspelt():
        raise BadSetting("; ".join(misspelt))
    try:
        return Settings(**{_input_name(name): value for name, value in given.items() if value is not None})
    except ValidationError as broken:
        told = [f"{_variable(str(each['loc'][0]))}: {_reason(each)}" for each in broken.errors(include_input=False)]
        raise BadSetting("; ".join(told)) from None


def ensure_secret_key(settings: Settings, is_in_use: Callable[[], bool]) -> None:
    """Make the embedded system's secret key where none is kept or given. Safe to repeat, and to run twice at once.

    `is_in_use` is asked then: raises BadSetting where a key that is gone has sealed something.
    """
    kept = places(settings.data_dir).secret_key
    if _split(settings.secret_key) or not settings.embeds_database or kept.exists():
        return
    if is_in_use():
        raise BadSetting(
            f"{kept} is gone, and what it sealed cannot be opened with another key: put it back from a backup, or into "
            f"INGEST_SECRET_KEY. If it is lost for good, make another with `ingest secret-key > {kept}`, then set every "
            "channel's secrets again; blocks kept of deleted contacts are forgotten"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_name(f"{kept.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(Fernet.generate_key())
        os.fsync(file.fileno())
    try:
        # Unlike a rename, a link never replaces a key that sealed something already.
        kept.hardlink_to(fresh)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _split(secret: SecretStr) -> tuple[str, ...]:
    return tuple(part.strip() for part in secret.get_secret_value().split(",") if part.strip())


def _bracketed(host: str) -> str:
    """Return the host as it stands in a URL that we print: ours, where the server listens on all addresses."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _misspelt() -> list[str]:
    """Return a line for each variable that was meant to be a setting: it would be ignored without a word."""
    known = [_variable(field) for field in Settings.model_fields]
    told = []
    for name in sorted(os.environ):
        if not name.startswith(PREFIX) or name in known:
            continue
        bare = name.removeprefix(PREFIX)
        meant = [bare] if bare in WITHOUT_PREFIX else get_close_matches(name, known, 1, ALIKE)
        told += [f"{name}: there is no such setting; did you mean {each}?" for each in meant]
    return told


def _input_name(field: str) -> str:
    return field.upper() if field.upper() in WITHOUT_PREFIX else field


def _variable(field: str) -> str:
    name = field.upper()
    return name if name in WITHOUT_PREFIX else f"{PREFIX}{name}"


def _reason(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")
