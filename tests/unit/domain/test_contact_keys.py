"""Keys are equal for one person's spellings, apart for strangers, and never made of what is no number or address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.contact_keys import (
    DEFAULT_JUNK,
    ContactKey,
    Email,
    Phone,
    contact_keys,
    email_key,
    is_junk,
    junk_patterns,
    match_key,
    normalise_email,
    normalise_phone,
    phone_key,
)

BRAZIL = ("+551187654321", "+5511987654321")
MEXICO = ("+5215512345678", "+525512345678")
ARGENTINA = ("+5491123456789", "+541123456789")


# --- phones


@pytest.mark.parametrize(
    "spelled",
    [
        "+447700900456",
        "+44 7700 900456",
        "+44 (0)7700 900456",
        "0044 7700-900456",
        "＋44.7700.900456",
        "+44\u00a07700\u2011900456",
    ],
)
def test_any_spelling_with_a_country_code_gives_the_same_e164(spelled: str) -> None:
    """B9, A16."""
    assert normalise_phone(spelled) == Phone("+447700900456", is_valid=False, country_code=None)


@pytest.mark.parametrize("spelled", ["7700 900456", "07700900456", "447700900456", "(020) 7946 0000", ""])
def test_number_without_country_code_is_refused(spelled: str) -> None:
    """B9."""
    assert normalise_phone(spelled) is None


def test_region_lets_a_national_spelling_through() -> None:
    assert normalise_phone("020 7946 0000", region="GB") == Phone("+442079460000", is_valid=True, country_code="GB")


@pytest.mark.parametrize("address", ["447700900456", " 447700900456", "00447700900456", "+447700900456"])
def test_channel_address_without_plus_is_international(address: str) -> None:
    """B11: WhatsApp writes the country code without a plus; a plus lost in form decoding shows as a space."""
    assert normalise_phone(address, international=True) == normalise_phone("+447700900456")


def test_possible_number_outside_known_ranges_is_kept_and_flagged() -> None:
    """B10."""
    assert normalise_phone("+12025550123") == Phone("+12025550123", is_valid=True, country_code="US")
    assert normalise_phone("+19995550123") == Phone("+19995550123", is_valid=False, country_code=None)


def test_number_of_no_country_has_no_country() -> None:
    """B12."""
    assert normalise_phone("+80012345678") == Phone("+80012345678", is_valid=True, country_code=None)


def test_shared_country_code_gives_the_country_of_the_range() -> None:
    """B12: +1, +7 and +44 are shared."""
    spelled = ["+14165550123", "+12025550123", "+77012345678", "+79161234567", "+447797712345"]
    assert [found.country_code for each in spelled if (found := normalise_phone(each))] == [
        "CA",
        "US",
        "KZ",
        "RU",
        "JE",
    ]


@pytest.mark.parametrize(
    "address",
    [
        "120363041234567890@g.us",
        "120363041234567890",
        "14155550100-1521234567@g.us",
        "14155550100-1521234567",
        "-1001234567890",
        "status@broadcast",
        "447700900456@s.whatsapp.net",
    ],
)
def test_group_id_is_never_a_phone(address: str) -> None:
    """T25."""
    assert normalise_phone(address) is None
    assert normalise_phone(address, international=True) is None


@pytest.mark.parametrize(
    "sender", ["32665", "+32665", "262966", "494949", "INFO2024", "AD-HDFCBK", "+1 800 FLOWERS", "5550100"]
)
def test_short_code_and_alphanumeric_sender_are_never_phones(sender: str) -> None:
    assert normalise_phone(sender) is None
    assert normalise_phone(sender, international=True) is None


# --- national variants


@pytest.mark.parametrize("variants", [BRAZIL, MEXICO, ARGENTINA], ids=["T01 Brazil", "T03 Mexico", "T04 Argentina"])
def test_national_variants_meet_in_the_match_key_and_keep_their_own_spelling(variants: tuple[str, str]) -> None:
    """T01, T03, T04, and T05: nothing is rewritten, the received form stays the key."""
    phones = [normalise_phone(each) for each in variants]
    keys = [contact_keys(each, None)[0] for each in phones]
    assert [each.key for each in keys] == [f"tel:{each}" for each in variants]
    assert keys[0].match_key == keys[1].match_key


def test_both_variants_have_the_country() -> None:
    found = [normalise_phone(each) for each in (*BRAZIL, *MEXICO, *ARGENTINA)]
    assert [each.country_code for each in found if each] == ["BR", "BR", "MX", "MX", "AR", "AR"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+551132345678", "+5511932345678"),  # a landline and a mobile
        ("+551187654321", "+552187654321"),
        ("+525512345678", "+525512345679"),
        ("+447700900456", "+4497700900456"),
    ],
)
def test_different_numbers_stay_apart(one: str, other: str) -> None:
    assert match_key(phone_key(one)) != match_key(phone_key(other))


@given(st.from_regex(r"\+55[1-9][0-9][6-9][0-9]{7}", fullmatch=True))
def test_brazilian_mobiles_match_either_way(short: str) -> None:
    """T01."""
    assert match_key(phone_key(short)) == match_key(phone_key(f"{short[:5]}9{short[5:]}"))


@given(st.sampled_from([("+52", "1"), ("+54", "9")]), st.from_regex(r"[1-9][0-9]{9}", fullmatch=True))
def test_mexican_and_argentine_variants_match_either_way(country: tuple[str, str], national: str) -> None:
    """T03, T04."""
    code, extra = country
    assert match_key(f"tel:{code}{national}") == match_key(f"tel:{code}{extra}{national}")


# --- emails


def test_letter_case_does_not_make_two_addresses() -> None:
    """T14, B13: the spelling is shown, the key is compared."""
    assert normalise_email("  John@ACME.com ") == Email("John@ACME.com", "john@acme.com")
    assert contact_keys(None, normalise_email("john@acme.com")) == contact_keys(None, normalise_email("John@ACME.com"))


@pytest.mark.parametrize("other", ["jo.hn@example.com", "john+news@example.com", "john@mail.example.com"])
def test_dots_and_plus_parts_are_not_folded(other: str) -> None:
    """B13."""
    found = normalise_email(other)
    assert found is not None
    assert found.key == other


def test_domain_is_compared_in_ascii() -> None:
    assert normalise_email("Ü@BÜCHER.example.com") == Email("Ü@BÜCHER.example.com", "ü@xn--bcher-kva.example.com")
    assert normalise_email("ü@xn--bcher-kva.example.com") == Email(
        "ü@xn--bcher-kva.example.com", "ü@xn--bcher-kva.example.com"
    )


@pytest.mark.parametrize(
    "text", ["", "john", "john@", "@acme.com", "a b@acme.com", "John <john@acme.com>", "a@b@c.com", "a..b@acme.com"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert normalise_email(text) is None


# --- junk


@pytest.mark.parametrize(
    "value",
    [
        *("null", "NULL", " undefined ", "none", "anonymous", "[object Object]", "", "   ", "nan", "unknown"),
        *("0", "000000", "+000 0000", "private number", "Private  Number", "restricted number", "unknown caller"),
        *("no-reply@example.com", "noreply@example.com", "do_not_reply@example.com", "noreply+tag@example.com"),
        *("shop-noreply@example.com", "MAILER-DAEMON@example.com", "bounces+123@example.com", "null@example.com"),
        *("+266696687", "266696687", "+86282452253"),
    ],
)
def test_placeholder_is_junk(value: str) -> None:
    """T17."""
    assert is_junk(value)


@pytest.mark.parametrize(
    "value",
    [
        "+447700900456",
        "10",
        "42",
        "nona@example.com",
        "reply@example.com",
        "noreplyplease.john@example.com",
        "Nil Armstrong",
        "No",
    ],
)
def test_real_value_is_not_junk(value: str) -> None:
    assert not is_junk(value)


def test_junk_is_never_a_key() -> None:
    """T17: the contact may keep the value; nobody is compared by it."""
    assert contact_keys(normalise_phone("+447700900456"), normalise_email("no-reply@example.com")) == contact_keys(
        normalise_phone("+447700900456"), None
    )
    assert contact_keys(Phone("+0000000", is_valid=False, country_code=None), None) == ()


@pytest.mark.parametrize("hidden", ["+266696687", "+86282452253"])
def test_hidden_caller_has_no_phone(hidden: str) -> None:
    """T17: keypad spellings of ANONYMOUS and UNAVAILABLE."""
    assert normalise_phone(hidden) is None
    assert normalise_phone(hidden[1:], international=True) is None


def test_workspace_adds_patterns_of_its_own() -> None:
    """T17."""
    own = junk_patterns(["Info@*", " +1555* ", "[test] ?", ""])
    assert [is_junk(each, own) for each in ("INFO@example.com", "+15550100", "[Test] ?", "null", "ada@example.com")] == [
        True, True, True, True, False,
    ]  # fmt: skip
    assert not is_junk("info@example.com", DEFAULT_JUNK)


# --- keys


def test_contact_has_a_key_for_its_phone_and_one_for_its_email() -> None:
    assert contact_keys(normalise_phone("+55 11 8765-4321"), normalise_email("Ada@Example.com")) == (
        ContactKey("tel:+551187654321", "tel:+5511987654321"),
        ContactKey("mailto:ada@example.com", "mailto:ada@example.com"),
    )
    assert contact_keys(None, None) == ()


TEXT = st.text() | st.from_regex(r"\+?[0-9 ()\-./]{0,20}") | st.from_regex(r"[^@]{1,10}@[^@]{1,10}\.[a-z]{2,3}")


@given(TEXT, st.sampled_from([None, "BR", "US", "ZZ", "nowhere"]), st.booleans())
def test_any_text_gives_a_phone_that_stays_itself_or_none(text: str, region: str | None, international: bool) -> None:
    phone = normalise_phone(text, region, international)
    if phone is not None:
        assert normalise_phone(phone.e164) == phone
        assert normalise_phone(phone.e164[1:], international=True) == phone


@given(TEXT | st.emails())
def test_any_text_gives_an_address_that_stays_itself_or_none(text: str) -> None:
    email = normalise_email(text)
    if email is not None:
        assert normalise_email(email.address) == email
        assert normalise_email(email.key) == Email(email.key, email.key)


@given(TEXT | st.from_regex(r"\+5[245][0-9]{8,13}", fullmatch=True))
def test_match_key_of_a_match_key_is_itself(text: str) -> None:
    for key in (text, phone_key(text), email_key(text)):
        assert match_key(match_key(key)) == match_key(key)


@given(TEXT | st.text(alphabet="no-reply@.+", max_size=400))
def test_any_text_is_junk_or_not_whatever_its_spacing(text: str) -> None:
    assert is_junk(f" {text}\n") == is_junk(text)
    assert is_junk(text, junk_patterns(["*"])) == (len(" ".join(text.split())) <= 320 or is_junk(text))
