"""Blocks that outlive their contact: salted hashes of addresses."""

from collections.abc import Collection

from sqlalchemy import Connection, text

GUARDED = text("select distinct channel_id from block_list where channel_id = any(cast(:channel_ids as bigint[]))")
FIND = text("""
    select channel_id, encode(address_hash, 'hex') from block_list
    join unnest(cast(:channel_ids as bigint[]), cast(:hashes as text[])) as wanted (channel_id, hash)
      using (channel_id)
    where address_hash = decode(hash, 'hex')
""")


def list_guarded_channels(tx: Connection, channel_ids: Collection[int]) -> set[int]:
    """Return the channels that have kept blocks at all; few have."""
    return set(tx.scalars(GUARDED, {"channel_ids": list(channel_ids)})) if channel_ids else set()


def find_kept_blocks(tx: Connection, wanted: Collection[tuple[int, bytes]]) -> set[tuple[int, bytes]]:
    """Return which of the (channel, address hash) pairs are on the list."""
    if not wanted:
        return set()
    rows = tx.execute(FIND, {"channel_ids": [pair[0] for pair in wanted], "hashes": [pair[1].hex() for pair in wanted]})
    return {(channel_id, bytes.fromhex(digest)) for channel_id, digest in rows}
