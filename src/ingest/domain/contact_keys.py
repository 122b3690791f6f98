"""Contact keys: the phone numbers and email addresses by which contacts are compared, and what can never be one.

A key is `tel:` with the number in E.164, or `mailto:` with the address in lower case. Its match key has the national
variants of a number folded into one, so that contacts are found by one indexed comparison; the key itself stays as it
was received. Nothing here is fit for replying: a provider wants its own address back.

Sources: ITU-T E.164 and the metadata of phonenumbers; RFC 6531 and 5891 by way of email-validator; for the variants,
what providers are seen to send for Brazil, Mexico and Argentina.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
from email_validator import validate_email
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

PHONE_SCHEME = "tel:"
EMAIL_SCHEME = "mailto:"

# Reading a number or an address costs some 20 to 30 microseconds, and the same senders write again and again.
CACHE_SIZE = 20_000
MAX_RAW_CHARACTERS = 320

# E.164 allows 15 digits; the shortest numbers with a country code have 7. Below are short codes, above are group ids.
MIN_DIGITS, MAX_DIGITS = 7, 15
# A number starts with its plus, a digit or a bracket: a leading hyphen is the sign of a group's id.
PHONE_SPELLING = re.compile(r"[+＋(\d][\d\s().\-/\u2010-\u2015\u00b7\u2060]*")
FOREIGN_REGION = "ZZ"
NO_COUNTRY = frozenset({"001", FOREIGN_REGION})

# One person's number in two spellings, both in use: (older or wa_id form, form that both are compared by).
NATIONAL_VARIANTS = (
    # Brazil: mobiles got a ninth digit, a 9 before the eight. Landlines start with 2 to 5 and have none.
    (re.compile(r"\+55([1-9]\d)([6-9]\d{7})"), r"+55\g<1>9\g<2>"),
    # Mexico: a 1 used to stand between the country code and a mobile number.
    (re.compile(r"\+521(\d{10})"), r"+52\g<1>"),
    # Argentina: a 9 stands there for callers from abroad, and many leave it out.
    (re.compile(r"\+549(\d{10})"), r"+54\g<1>"),
)

# ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE, typed on a keypad: what carriers put for a hidden caller.
HIDDEN_CALLERS = ("266696687", "7378742833", "2562533", "8656696", "86282452253")

JunkPatterns = tuple[re.Pattern[str], ...]

DEFAULT_JUNK: JunkPatterns = tuple(
    re.compile(pattern)
    for pattern in (
        r"[+\s().\-]*0[0\s().\-]*",
        r"null|undefined|none|nil|nan|n/?a|unknown|anonymous|\[object object\]",
        r"(private|unknown|anonymous|restricted|withheld|blocked|unavailable|no) (number|caller|caller id|id)",
        r"(null|undefined|none|anonymous|unknown)@.*",
        r"([^@]*[._+\-])?(no|do[._\-]?not)[._\-]?reply([._+\-\d][^@]*)?@.*",
        r"(mailer-daemon|postmaster|bounces?([._+\-][^@]*)?)@.*",
        rf"\+?({'|'.join(HIDDEN_CALLERS)})",
    )
)
"""Placeholders that many strangers share: as a key each of them would look like one person."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A number with its country code. `is_valid` says whether the numbering plan knows its range.

    `country_code` is the ISO 3166 code of the country, None where the number belongs to none or to no known range.
    """

    e164: str
    is_valid: bool
    country_code: str | None


@dataclass(frozen=True, slots=True)
class Email:
    """An address as spelled, and in the form by which addresses are compared."""

    address: str
    key: str


@dataclass(frozen=True, slots=True, order=True)
class ContactKey:
    """A key and its match key: equal keys have equal match keys, not the other way round."""

    key: str
    match_key: str


@lru_cache(maxsize=CACHE_SIZE)
def normalise_phone(raw: str, region: str | None = None, international: bool = False) -> Phone | None:
    """Return the number in E.164, or None when the text is not a number with its country code.

    `region` (such as "SG") lets a national spelling through. `international` is for addresses of channels that write the
    country code without a plus, such as WhatsApp's 447700900456. A number that is possible but in no known range is
    taken, with `is_valid` false. Group ids, short codes, alphanumeric senders and hidden callers give None.
    """
    spelled = _international_spelling(raw, region, international)
    if spelled is None:
        return None
    try:
        parsed = phonenumbers.parse(spelled, region)
    except NumberParseException:
        return None
    e164 = phonenumbers.format_number(parsed, PhoneNumberFormat.E164)
    # The library knows only one of two variants that are both in use.
    folded = _fold(e164)
    known = parsed if folded == e164 else phonenumbers.parse(folded, None)
    if not _is_possible(parsed) and not _is_possible(known):
        return None
    if not MIN_DIGITS < len(e164) <= MAX_DIGITS + 1 or e164[1:] in HIDDEN_CALLERS:
        return None
    country = phonenumbers.region_code_for_number(known)
    # What is_valid_number asks too, without finding the region once more: a new number costs a fifth less.
    is_valid = country is not None and phonenumbers.is_valid_number_for_region(known, country)
    return Phone(e164, is_valid, None if country in NO_COUNTRY else country)


def _international_spelling(raw: str, region: str | None, international: bool) -> str | None:
    """Return the text as a number to be parsed, with a plus where its country code is known to be there."""
    spelled = raw.strip()
    if len(spelled) > MAX_RAW_CHARACTERS or not PHONE_SPELLING.fullmatch(spelled):
        return None
    if spelled.startswith(("+", "＋")):
        return spelled
    # 00 is how most of the world dials abroad, and no country code starts with 0.
    if spelled.startswith("00") and region is None:
        return f"+{spelled[2:]}"
    if international:
        return f"+{spelled}"
    return spelled if region else None


def _is_possible(number: phonenumbers.PhoneNumber) -> bool:
    # A number that can only be dialled within its own town is no number with a country code.
    return phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE


def _fold(e164: str) -> str:
    for variant, common in NATIONAL_VARIANTS:
        if found := variant.fullmatch(e164):
            return found.expand(common)
    return e164


@lru_cache(maxsize=CACHE_SIZE)
def normalise_email(raw: str) -> Email | None:
    """Return the address, trimmed, with the form to compare it by; None when the text is not an address.

    Compared are lower-case letters and the domain's ASCII form. Dots and plus parts count: what they mean differs from
    one mail provider to the next, and strangers would be suggested to each other.
    """
    spelled = raw.strip()
    if not spelled or len(spelled) > MAX_RAW_CHARACTERS:
        return None
    try:
        found = validate_email(spelled, check_deliverability=False)
        local = unicodedata.normalize("NFC", found.local_part.lower())
    except ValueError:
        return None
    return Email(spelled, f"{local}@{found.ascii_domain.lower()}")


def phone_key(e164: str) -> str:
    """Return the key of a number in E.164."""
    return f"{PHONE_SCHEME}{e164}"


def email_key(address_key: str) -> str:
    """Return the key of an address in its compared form, which is `Email.key`."""
    return f"{EMAIL_SCHEME}{address_key}"


def match_key(key: str) -> str:
    """Return the key with its national variants folded into one. Safe to repeat; other keys come back as they are."""
    if not key.startswith(PHONE_SCHEME):
        return key
    return phone_key(_fold(key.removeprefix(PHONE_SCHEME)))


def contact_keys(phone: Phone | None, email: Email | None, junk: JunkPatterns = DEFAULT_JUNK) -> tuple[ContactKey, ...]:
    """Return the keys that a contact has by this phone and this email, phone first. What is junk gives none."""
    keys = []
    if phone is not None and not is_junk(phone.e164, junk):
        keys.append(phone_key(phone.e164))
    if email is not None and not is_junk(email.key, junk):
        keys.append(email_key(email.key))
    return tuple(ContactKey(key, match_key(key)) for key in keys)


@lru_cache(maxsize=CACHE_SIZE)
def is_junk(value: str, patterns: JunkPatterns = DEFAULT_JUNK) -> bool:
    """Return whether a phone, an email or a sender's id is empty or a placeholder. Letter case and spacing do not count."""
    plain = " ".join(value.split()).lower()
    return not plain or (len(plain) <= MAX_RAW_CHARACTERS and any(each.fullmatch(plain) for each in patterns))


def junk_patterns(configured: Iterable[str], defaults: Sequence[re.Pattern[str]] = DEFAULT_JUNK) -> JunkPatterns:
    """Return the defaults and a workspace's own patterns, in which `*` stands for any text: `info@*`, `+1555*`."""
    own = (" ".join(each.split()).lower().replace("[", "[[]").replace("?", "[?]") for each in configured)
    return (*defaults, *(re.compile(fnmatch.translate(each)) for each in own if each))
