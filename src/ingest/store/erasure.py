"""Proof of erasure in the database: every column that could hold a text, searched for what should be gone.

The columns are found in the catalogue, so a table that is new is searched from its first day on. Texts are compared
here and not in SQL: the forms to look for are many, and bytes need not be text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from ingest.domain.needles import Needles

# Everything but numbers, times and truths: strings, arrays, and the types that PostgreSQL calls user-defined (bytea,
# json, jsonb, uuid). Views hold nothing of their own.
COLUMNS = text("""
    select namespace.nspname as schema, class.relname as table,
           array_agg(attribute.attname order by attribute.attnum) as columns,
           array_agg(attribute.atttypid = 'bytea'::regtype order by attribute.attnum) as are_bytes
    from pg_attribute as attribute
    join pg_class as class on class.oid = attribute.attrelid and class.relkind in ('r', 'm')
    join pg_namespace as namespace on namespace.oid = class.relnamespace
    join pg_type as type on type.oid = attribute.atttypid
    where attribute.attnum > 0 and not attribute.attisdropped and namespace.nspname !~ '^pg_' and
          namespace.nspname <> 'information_schema' and type.typcategory in ('S', 'A', 'U', 'E', 'X')
    group by 1, 2 order by 1, 2
""")
# The planner keeps samples of what was in a column until the next ANALYZE of its table.
SAMPLES = text("""
    select tablename || '.' || attname, concat_ws(' ', most_common_vals::text, histogram_bounds::text, most_common_elems::text)
    from pg_stats where schemaname !~ '^pg_' and schemaname <> 'information_schema'
""")
SAMPLES_OF = "pg_stats"
# What a deletion keeps on purpose, as hashes only: addresses whose block was to be kept, addresses of contacts deleted
# lately, and ids of their messages.
KEPT_ON_PURPOSE = frozenset(
    {"block_list.address_hash", "erased_address.address_hash", "message_fingerprint.external_hash"}
)
BATCH_ROWS = 2_000
# Values are searched in pieces of about this size: one search through many rows costs less than many through one each.
PIECE_BYTES = 256 * 1024
APART = b"\0\n\0"


@dataclass(frozen=True, slots=True)
class Remains:
    """A place that still holds what was looked for: in so many rows, which of the needles."""

    place: str
    count: int
    needles: tuple[int, ...]


class _Found:
    """What one column holds. Rows are searched together, and one by one where something was found."""

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        self._rows: list[bytes] = []
        self._size = 0
        self.count = 0
        self.numbers: set[int] = set()

    def add(self, value: bytes) -> None:
        if numbers := self._needles.find_digest(value):
            self.count += 1
            self.numbers |= numbers
            return
        self._rows.append(value)
        self._size += len(value)
        if self._size >= PIECE_BYTES:
            self.search()

    def search(self) -> None:
        if self._needles.find(APART.join(self._rows)):
            for row in self._rows:
                numbers = self._needles.find(row)
                self.count += bool(numbers)
                self.numbers |= numbers
        self._rows, self._size = [], 0


def list_channel_ids(tx: Connection) -> list[int]:
    """Return the ids of all channels: keyed hashes of addresses are made with them."""
    return list(tx.scalars(text("select id from channel order by id")))


def find_remains(tx: Connection, needles: Needles) -> list[Remains]:
    """Return where any of the needles is found, by table and column; empty when all are gone.

    Reads every table in full, once: for checks, not for requests. Fails rather than see a part only, where row-level
    security binds whoever asks.
    """
    tx.execute(text("set local row_security = off"))
    tx.execute(text("set local statement_timeout = 0"))
    found = []
    for row in tx.execute(COLUMNS).all():
        table = row.table if row.schema == "public" else f"{row.schema}.{row.table}"
        columns = list(zip(row.columns, row.are_bytes, strict=True))
        for column, each in _search_table(tx, f'"{row.schema}"."{row.table}"', columns, needles).items():
            if each.count:
                found.append(Remains(f"{table}.{column}", each.count, tuple(sorted(each.numbers))))
    return found + list(_find_samples(tx, needles))


def _search_table(
    tx: Connection, table: str, columns: Sequence[tuple[str, bool]], needles: Needles
) -> dict[str, _Found]:
    found = {name: _Found(needles) for name, _ in columns}
    wanted = ", ".join(f'"{name}"' if is_bytes else f'"{name}"::text' for name, is_bytes in columns)
    statement = text(f"select {wanted} from {table}")  # noqa: S608 - names from the catalogue
    with tx.execute(statement, execution_options={"yield_per": BATCH_ROWS}) as rows:
        for row in rows:
            for (name, _), value in zip(columns, row, strict=True):
                if value is not None:
                    found[name].add(value.encode() if isinstance(value, str) else bytes(value))
    for each in found.values():
        each.search()
    return found


def _find_samples(tx: Connection, needles: Needles) -> Iterator[Remains]:
    for place, samples in tx.execute(SAMPLES):
        numbers = needles.find(samples.encode())
        if numbers:
            yield Remains(f"{SAMPLES_OF}.{place}", 1, tuple(sorted(numbers)))
