"""Brings a database to the newest schema. Safe to repeat, and to run from several processes at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from ingest.errors import Permanent

# Any constant will do; every process that migrates takes the same lock.
MIGRATION_LOCK = 7_202_611
OLDEST_SERVER = 150000


def migration_config() -> Config:
    """Return alembic's configuration for this package's migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(engine: Engine) -> list[str]:
    """Apply the migrations that are missing and return their names, oldest first.

    Waits for another process that is migrating. Raises Permanent for a server older than PostgreSQL 15.
    """
    config = migration_config()
    with engine.connect() as connection:
        version = int(connection.execute(text("show server_version_num")).scalar_one())
        if version < OLDEST_SERVER:
            raise Permanent(f"PostgreSQL {version // 10000} is too old: use 15 or newer")
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("set statement_timeout = 0"))
        connection.commit()
        try:
            return _upgrade(config, connection)
        finally:
            connection.rollback()
            connection.execute(text("select pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            connection.invalidate()


def _upgrade(config: Config, connection: Connection) -> list[str]:
    scripts = ScriptDirectory.from_config(config)
    before = MigrationContext.configure(connection).get_current_revision()
    missing = [script.revision for script in scripts.iterate_revisions("heads", before or "base")]
    missing = [revision for revision in reversed(missing) if revision != before]
    # Alembic commits each migration only where it opens the transaction itself.
    connection.commit()
    if missing:
        config.attributes["connection"] = connection
        command.upgrade(config, "heads")
        connection.commit()
    return missing
