"""Who is turned away at the door: new senders whom a block covers although their contact is gone, or is another one.

A deletion may leave a block behind (`keep_block`), known by a salted hash of the address; a workspace may have blocks cover
everybody who has the blocked contact's phone or mail address (`block_by_key`). Neither makes a contact; the messages are
counted as dropped.
"""

from collections.abc import Collection, Mapping, Sequence

from ingest.domain.blocks import address_hash
from ingest.domain.profiles import Key
from ingest.pipeline.resolve.batch import Batch, Item
from ingest.store.block_list import find_kept_blocks, list_guarded_channels
from ingest.store.blocks import blocked_keys
from ingest.store.identities import Address
from ingest.store.unit_of_work import Transaction


def find_turned_away(
    tx: Transaction, salts: Sequence[bytes], newcomers: Mapping[Address, tuple[int, tuple[Key, ...]]]
) -> set[Address]:
    """Return which newcomers a block covers. `newcomers` gives the workspace and the keys of each new address."""
    pairs = {(workspace_id, key.match_key) for workspace_id, keys in newcomers.values() for key in keys}
    covered = blocked_keys(tx, pairs)
    by_key = {
        address
        for address, (workspace_id, keys) in newcomers.items()
        if any((workspace_id, key.match_key) in covered for key in keys)
    }
    return by_key | _kept_out(tx, salts, newcomers)


def _kept_out(tx: Transaction, salts: Sequence[bytes], addresses: Collection[Address]) -> set[Address]:
    guarded = list_guarded_channels(tx, {channel_id for channel_id, _ in addresses})
    hashes = {
        (address[0], address_hash(salt, *address)): address
        for address in addresses
        if address[0] in guarded
        for salt in salts
    }
    return {hashes[found] for found in find_kept_blocks(tx, hashes)}


def drop_items(batch: Batch, items: Sequence[Item], reason: str = "blocked") -> None:
    """Take the items out of the batch, counted as dropped."""
    gone = {id(item) for item in items}
    for item in items:
        batch.count(item, "dropped", reason)
    batch.items = [item for item in batch.items if id(item) not in gone]
