"""Whether a commit lasts: the settings of a PostgreSQL server on which every 2xx rests.

Source: PostgreSQL 18 documentation, 19.5 (write-ahead log). With `fsync` or `full_page_writes` off a crash of the machine
may leave a damaged database; with `synchronous_commit` off it takes the last commits away.
"""

from typing import Any

from psycopg import AsyncConnection
from sqlalchemy import Connection, text

DURABLE_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")

# What a session begins with: our own change the last of them for some of their transactions.
OFF = text("select name from pg_settings where name = any(:names) and reset_val = 'off' order by name")
# Others than "off" stay: a standby may be waited for.
KEEP_COMMITS = """
    select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'
"""


def list_weak_settings(tx: Connection) -> list[str]:
    """Return the settings that are off and must not be, by name; none where a commit lasts."""
    return list(tx.scalars(OFF, {"names": list(DURABLE_SETTINGS)}))


async def keep_commits(connection: AsyncConnection[Any]) -> None:
    """Have the session's commits last, whatever the server, the database or the role begin a session with."""
    await connection.execute(KEEP_COMMITS)
