"""How the API names a contact: `id:42`, `email:ann@example.com`, `phone:+60123456789`."""

import re
from dataclasses import dataclass
from typing import Literal

from ingest.domain.contact_keys import email_key, normalise_email, normalise_phone, phone_key
from ingest.domain.refusals import Invalid

BIGGEST_ID = 2**53
KINDS = ("id", "email", "phone")
FIELD = "identifier"
PUNCTUATION = re.compile(r"[\s().\-]+")


@dataclass(frozen=True, slots=True)
class Identifier:
    """A parsed identifier: an id, or the contact key and the value as it is stored."""

    kind: Literal["id", "email", "phone"]
    id: int = 0
    key: str = ""
    value: str = ""


def parse_identifier(text: str) -> Identifier:
    """Return the identifier that the text stands for.

    Tolerates what clients send: a phone with blanks, dashes or brackets or without its plus, and a prefix given twice.
    Raises Invalid for an unknown kind, a text without a kind, or a value that cannot be one of its kind.
    """
    kind, value = _split(text.strip())
    if kind in {"email", "phone"} and _split(value)[0] in {"email", "phone"}:
        kind, value = _split(value)
    if kind == "id":
        return _id(value)
    if kind == "email":
        return _email(value)
    if kind == "phone":
        return _phone(value)
    raise Invalid("an identifier is id:<number>, email:<address> or phone:<number with country code>", field=FIELD)


def _split(text: str) -> tuple[str, str]:
    kind, colon, value = text.partition(":")
    return (kind.strip().lower(), value.strip()) if colon else ("", text)


def _id(value: str) -> Identifier:
    if not (value.isascii() and value.isdigit()) or len(value) > 16 or not 0 < int(value) < BIGGEST_ID:
        raise Invalid("id: takes a positive whole number", field=FIELD)
    return Identifier("id", id=int(value))


def _email(value: str) -> Identifier:
    email = normalise_email(value)
    if email is None:
        raise Invalid("email: takes an email address", field=FIELD)
    return Identifier("email", key=email_key(email.key), value=email.address)


def _phone(value: str) -> Identifier:
    digits = PUNCTUATION.sub("", value)
    phone = normalise_phone(digits if digits.startswith("+") else f"+{digits}", international=True)
    if phone is None:
        raise Invalid("phone: takes a number with its country code, such as +60123456789", field=FIELD)
    return Identifier("phone", key=phone_key(phone.e164), value=phone.e164)
