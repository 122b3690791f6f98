"""When a new sender is an old acquaintance: a contact that was typed in or imported under the very number that now writes."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from ingest.domain.contact_keys import match_key, normalise_phone, phone_key
from ingest.domain.profiles import Key


class KeyHolder(Protocol):
    """A live contact that holds a key."""

    @property
    def contact_id(self) -> int: ...
    @property
    def workspace_id(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def match_key(self) -> str: ...
    @property
    def has_channel(self) -> bool: ...


def is_same_number(address: str, key: Key) -> bool:
    """Return whether an address on a channel is the key's number, in this or another national variant."""
    phone = normalise_phone(address, international=True)
    return phone is not None and match_key(phone_key(phone.e164)) == key.match_key


def choose_claim(workspace_id: int, keys: Iterable[Key], holders: Sequence[KeyHolder]) -> int | None:
    """Return the contact that a new sender with these keys is, or None where a new contact must be made.

    It is one exactly when a single contact holds the key and nobody writes as it yet. The exact key counts first; a
    national variant of the number only when nobody holds the exact one.
    """
    for key in keys:
        ours = [each for each in holders if each.workspace_id == workspace_id and each.match_key == key.match_key]
        matching = [each for each in ours if each.key == key.key] or ours
        if {each.contact_id for each in matching} and all(not each.has_channel for each in matching):
            found = {each.contact_id for each in matching}
            if len(found) == 1:
                return found.pop()
    return None
