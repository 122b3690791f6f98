from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.channels.mail_headers import addresses, date_in, message_ids, normal_address, without_tag, words


def test_domain_beyond_ascii_is_the_same_in_both_spellings() -> None:
    """T14's neighbour: a domain and its IDNA form are one."""
    assert normal_address("x@Bücher.example") == normal_address("x@xn--bcher-kva.example") == "x@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("a..b@docomo.example", "a..b@docomo.example"),
        ('"odd box"@example.org', '"odd box"@example.org'),
        ("root@localhost", "root@localhost"),
        ("björn@example.org", "björn@example.org"),
        ("no at sign", None),
        ("two@at@example.org", None),
        ("a b@example.org", None),
        ("@example.org", None),
        ("x@", None),
        ("x" * 400 + "@example.org", None),
    ],
)
def test_address_in_use_is_taken_and_any_other_is_none(address: str, normal: str | None) -> None:
    assert normal_address(address) == normal


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Tomas Berg <t@example.org>", "Tomas Berg"),
        ('"Berg, Tomas" <t@example.org>', "Berg, Tomas"),
        ("=?utf-8?Q?Tom=C3=A1s?= =?utf-8?Q?_Berg?= <t@example.org>", "Tomás Berg"),
        ("=?iso-2022-jp?B?GyRCOzNFRBsoQg==?= <t@example.org>", "山田"),
        ('"t@example.org" <t@example.org>', None),
        ("t@example.org", None),
        ("'Tomas' <t@example.org>", "Tomas"),
        ("=?utf-8?Q?broken <t@example.org>", "=?utf-8?Q?broken"),
        ("t@example.org (Tomas)", "Tomas"),
    ],
)
def test_name_is_decoded_and_never_an_address(given: str, name: str | None) -> None:
    assert [(box.address, box.name) for box in addresses(given)] == [("t@example.org", name)]


def test_message_id_without_brackets_counts() -> None:
    assert message_ids(" plain@example.org ") == ["plain@example.org"]


@pytest.mark.parametrize(
    ("date", "read"),
    [
        ("Sun, 15 Jun 2025 17:06:30 +0200", datetime(2025, 6, 15, 15, 6, 30, tzinfo=UTC)),
        ("15 Jun 2025 15:06:30 -0000", datetime(2025, 6, 15, 15, 6, 30, tzinfo=UTC)),
        ("15 Jun 25 15:06 GMT", datetime(2025, 6, 15, 15, 6, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        ("Sun, 99 Jun 2025 17:06:30 +0200", None),
        ("Sun, 15 Jun 2025 17:06:30 +9999999999", None),
    ],
)
def test_date_is_read_or_left_out(date: str, read: datetime | None) -> None:
    assert date_in(date) == read


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_reading_raises_nothing_and_leaves_no_nul(text: str) -> None:
    for found in (words(text), *(box.address for box in addresses(text))):
        assert "\0" not in found
    without_tag(text)
    date_in(text)
    message_ids(text)
