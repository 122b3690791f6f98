"""What a channel says about a person, and which of it becomes the contact's.

A channel's facts fill what is empty, and replace what a channel said before if they are newer; what a person, an import
or the API set is never overwritten. Newer is decided by provider time, so that the order of arrival does not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from ingest.domain.contact_keys import email_key, is_junk, match_key, normalise_email, normalise_phone, phone_key
from ingest.domain.events import Sender
from ingest.domain.messages import clean_text

CHANNEL = "channel"
DERIVED = "derived"
MAX_NAME = 255
FIELDS = ("first_name", "last_name", "display_name", "language", "avatar_url", "phone", "email", "country_code")
FILLED_ONCE = frozenset({"phone", "email", "country_code"})
# The provenance of what the newest facts told: as new as they are.
TOLD_LAST: Mapping[str, Any] = {"source": CHANNEL}


@dataclass(frozen=True, slots=True)
class Key:
    """A contact key with its folded form; see `contact_keys`."""

    key: str
    match_key: str
    is_verified: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """A channel's facts about a person, normalised. `fields` holds only what was said; `hash` tells facts apart.

    `raw_phone` is a number that cannot be stored as one (no country code); it is kept in the identity's profile only.
    """

    fields: Mapping[str, str]
    keys: tuple[Key, ...]
    phone_valid: bool | None
    raw_phone: str | None
    hash: int

    def profile(self) -> dict[str, str]:
        """Return what the identity keeps of the facts."""
        return {**self.fields, **({"raw_phone": self.raw_phone} if self.raw_phone else {})}


def facts_hash(sender: Sender) -> int:
    """Return 63 bits that tell what the sender says about itself, without reading it any further; 0 for nothing."""
    said = (
        sender.display_name, sender.first_name, sender.last_name, sender.language, sender.avatar_url,
        sender.phone, sender.email, sender.country_code,
    )  # fmt: skip
    if not any(said):
        return 0
    digest = blake2b(repr((said, sender.verified)).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def read_facts(sender: Sender) -> Facts:
    """Return the sender's facts, normalised: junk dropped, phone in E.164, country from the phone."""
    fields: dict[str, str] = {}
    for name in ("first_name", "last_name", "display_name", "language", "avatar_url"):
        value = clean_text(getattr(sender, name) or "").strip()[: MAX_NAME if name != "avatar_url" else 2048]
        if value and not is_junk(value):
            fields[name] = value
    if "first_name" not in fields and "last_name" not in fields and "display_name" in fields:
        fields["first_name"] = fields["display_name"]
    keys: list[Key] = []
    phone = normalise_phone(sender.phone, international=True) if sender.phone else None
    if phone is not None:
        fields["phone"] = phone.e164
        keys.append(_key(phone_key(phone.e164), sender.verified))
    email = normalise_email(sender.email) if sender.email else None
    if email is not None and not is_junk(email.address):
        fields["email"] = email.address
        keys.append(_key(email_key(email.key), sender.verified))
    country = (sender.country_code or "").upper() or (phone.country_code if phone is not None else None)
    if country and len(country) == 2:
        fields["country_code"] = country
    return Facts(
        fields,
        tuple(keys),
        phone.is_valid if phone is not None else None,
        clean_text(sender.phone) if sender.phone and phone is None else None,
        facts_hash(sender),
    )


def _key(key: str, is_verified: bool) -> Key:
    return Key(key, match_key(key), is_verified)


def first_provenance(facts: Facts) -> dict[str, Any]:
    """Return the provenance of a contact made from these facts."""
    return dict.fromkeys(facts.fields, TOLD_LAST)


@dataclass(frozen=True, slots=True)
class Profile:
    """A contact's profile fields with their provenance, and the newest facts seen (by their hash) with their time.

    What the newest facts told carries no time of its own in the provenance: each message that repeats them makes it newer.
    """

    fields: Mapping[str, Any]
    provenance: Mapping[str, Any]
    newest_at: datetime | None = None
    newest_hash: int | None = None


def merge_facts(profile: Profile, facts: Facts, at: datetime) -> Profile:
    """Return the profile after a channel said this at that time.

    Each field goes by its own time, so that the order in which facts arrive does not matter. Phone, email and country are
    filled only when empty: they are keys, or follow from one.
    """
    newest = (at, facts.hash)
    is_newest = profile.newest_at is None or (profile.newest_at, profile.newest_hash or 0) <= newest
    told = TOLD_LAST if is_newest else {"source": CHANNEL, "at": at.timestamp()}
    fields, provenance = dict(profile.fields), dict(profile.provenance)
    if is_newest and facts.hash != profile.newest_hash:
        provenance = {name: dated(told_before, profile.newest_at) for name, told_before in provenance.items()}
    for name, value in facts.fields.items():
        if not fields.get(name) or (name not in FILLED_ONCE and _is_newer(profile, name, value, at)):
            fields[name], provenance[name] = value, told
    return Profile(fields, provenance, *(newest if is_newest else (profile.newest_at, profile.newest_hash)))


def dated(told: Mapping[str, Any], newest_at: datetime | None) -> Mapping[str, Any]:
    """Return a field's provenance with its time written down, when the contact's newest facts will not be that any more."""
    if told.get("source") != CHANNEL or "at" in told or newest_at is None:
        return told
    return {**told, "at": newest_at.timestamp()}


def _is_newer(profile: Profile, name: str, value: str, at: datetime) -> bool:
    told = profile.provenance.get(name, {})
    if told.get("source") != CHANNEL:
        return False
    told_at = dated(told, profile.newest_at).get("at") or 0
    return (at.timestamp(), value) > (float(told_at), profile.fields[name])
