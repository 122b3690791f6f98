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


def first_provenance(facts: Facts, at: datetime) -> dict[str, Any]:
    """Return the provenance of a contact made from these facts."""
    return {name: _told(facts, at) for name in facts.fields}


def _told(facts: Facts, at: datetime) -> dict[str, Any]:
    return {"source": CHANNEL, "at": at.timestamp(), "facts": facts.hash}


@dataclass(frozen=True, slots=True)
class Profile:
    """A contact's profile fields with their provenance, and the newest facts seen (by their hash) with their time."""

    fields: Mapping[str, Any]
    provenance: Mapping[str, Any]
    newest_at: datetime | None = None
    newest_hash: int | None = None


def merge_facts(profile: Profile, facts: Facts, at: datetime) -> Profile:
    """Return the profile after a channel said this at that time.

    Each field goes by its own time, so that the order in which facts arrive does not matter. Phone, email and country are
    filled only when empty: they are keys, or follow from one.
    """
    fields, provenance = dict(profile.fields), dict(profile.provenance)
    for name, value in facts.fields.items():
        if not fields.get(name) or (name not in FILLED_ONCE and _is_newer(profile, name, value, at)):
            fields[name], provenance[name] = value, _told(facts, at)
    newest = (at, facts.hash)
    if profile.newest_at is not None and (profile.newest_at, profile.newest_hash or 0) > newest:
        return Profile(fields, provenance, profile.newest_at, profile.newest_hash)
    return Profile(fields, _dated(profile, provenance, facts.hash), *newest)


def _is_newer(profile: Profile, name: str, value: str, at: datetime) -> bool:
    told = profile.provenance.get(name, {})
    if told.get("source") != CHANNEL:
        return False
    return (at.timestamp(), value) > (_told_at(profile, told), profile.fields[name])


def _told_at(profile: Profile, told: Mapping[str, Any]) -> float:
    """Return when a channel last said a field's value: the newest facts are repeated without being written again."""
    at = float(told.get("at") or 0)
    if profile.newest_at is not None and told.get("facts") == profile.newest_hash:
        return max(at, profile.newest_at.timestamp())
    return at


def _dated(profile: Profile, provenance: dict[str, Any], newest_hash: int) -> dict[str, Any]:
    """Return the provenance with the time written down of what the formerly newest facts had said."""
    for name, told in provenance.items():
        if told.get("facts") == profile.newest_hash != newest_hash and told.get("source") == CHANNEL:
            provenance[name] = {**told, "at": _told_at(profile, told)}
    return provenance
