"""What was accepted from a contact before it was deleted, and waited until afterwards: it goes with the contact.

It would make a new contact out of what was to be erased. Whatever is accepted after the deletion does make one.
"""

from collections.abc import Collection, Mapping, Sequence

from ingest.domain.blocks import erased_hash
from ingest.domain.deletions import FINGERPRINT_SPAN
from ingest.pipeline.resolve.batch import Batch, Item, addresses_of
from ingest.pipeline.resolve.turned_away import drop_items
from ingest.store.contacts import LockedContact
from ingest.store.erased_addresses import (
    find_erased,
    free_addresses,
    lock_detached,
    remember_addresses,
    were_any_erased,
)
from ingest.store.identities import Address, FoundIdentity
from ingest.store.unit_of_work import Transaction


def drop_erased(tx: Transaction, salts: Sequence[bytes], batch: Batch, known: Mapping[Address, FoundIdentity]) -> None:
    """Drop items of senders who are nobody's identity now, and were a contact's that was deleted after the item came."""
    strangers = [
        (item, addresses)
        for item in batch.items
        if item.event.sender is not None and not known.keys() & (addresses := addresses_of([item]))
    ]
    if not strangers or not salts:
        return
    workspace_ids = {item.workspace_id for item, _ in strangers}
    if not were_any_erased(tx, workspace_ids, min(item.accepted_at for item, _ in strangers)):
        return
    hashes = {
        (address[0], erased_hash(salt, *address)): address
        for _, addresses in strangers
        for address in addresses
        for salt in salts
    }
    erased = {hashes[pair]: at for pair, at in find_erased(tx, hashes).items()}
    gone: list[Item] = [
        item
        for item, addresses in strangers
        if any(address in erased and item.accepted_at < erased[address] for address in addresses)
    ]
    drop_items(batch, gone, "erased")


def free_detached(tx: Transaction, salts: Sequence[bytes], contacts: Collection[LockedContact]) -> None:
    """Take the addresses off those of the contacts that are being deleted: somebody has come with one of them."""
    detached = [contact for contact in contacts if contact.deletion_job_id is not None]
    if not detached:
        return
    workspace_ids = {each.workspace_id for each in detached}
    # Their locks went with the round that found them, and the deletion may have been cancelled since.
    ids = lock_detached(tx, workspace_ids, [each.id for each in detached])
    if salts:
        remember_addresses(tx, workspace_ids, ids, salt=salts[0], span=FINGERPRINT_SPAN)
    free_addresses(tx, workspace_ids, ids)
