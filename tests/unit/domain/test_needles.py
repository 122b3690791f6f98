"""A value that should be gone is found in every form that it may have taken on, and no form finds anything else."""

import base64
import hashlib
import hmac
import json
from urllib.parse import quote, quote_plus
from uuid import UUID

import pytest

from ingest.domain.blocks import address_hash, erased_hash
from ingest.domain.needles import Salts, read_needles
from ingest.domain.refusals import Invalid

PHONE, EMAIL, NAME = "+60 12-345 6789", "Eve.Adams+1@Example.com", "Éva Ádám"
SALT = b"salt of the installation"
NEEDLES = read_needles([PHONE, EMAIL, NAME], Salts([SALT], [7]))


def sha256(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()


FORMS = {
    1: [
        *(b"+60123456789", b"60123456789", b"0123456789", b"123456789", b"012-345 6789", b"+60 12-345 6789"),
        quote("+60123456789", safe="").encode(),
        *(base64.b64encode(before + b"+60123456789" + b" and more") for before in (b"", b"x", b"xy", b"xyz")),
        base64.urlsafe_b64encode(b"?to=60123456789"),
        b"+60123456789".hex().encode(),
        sha256("+60123456789").hex().encode(),
        base64.b64encode(sha256("+60123456789")),
        hashlib.md5(b"60123456789").hexdigest().encode(),
        str(UUID(bytes=hashlib.md5(b"60123456789").digest())).encode(),
    ],
    2: [
        *(b"Eve.Adams+1@Example.com", b"eve.adams+1@example.com", b"EVE.ADAMS+1@EXAMPLE.COM"),
        *(quote(EMAIL, safe="").encode(), quote_plus(EMAIL.lower()).encode()),
        *(base64.b64encode(before + EMAIL.lower().encode()) for before in (b"", b"x", b"xy")),
        sha256("eve.adams+1@example.com").hex().encode(),
    ],
    3: [
        NAME.encode(),
        NAME.lower().encode(),
        json.dumps(NAME).encode(),
        json.dumps(json.dumps({"name": NAME})).encode(),
        quote(NAME).encode(),
        base64.b64encode(b"to " + NAME.encode()),
    ],
}


@pytest.mark.parametrize(("number", "form"), [(number, form) for number, forms in FORMS.items() for form in forms])
def test_every_form_of_a_value_is_found(number: int, form: bytes) -> None:
    assert NEEDLES.find(b"before " + form + b" after") == {number}


@pytest.mark.parametrize(
    "digest",
    [
        sha256("60123456789"),
        hashlib.md5(b"+60123456789").digest(),
        hmac.digest(SALT, b"+60123456789", hashlib.sha256),
        address_hash(SALT, 7, "60123456789"),
        erased_hash(SALT, 7, "60123456789"),
    ],
)
def test_a_column_of_hashes_is_known_by_its_values(digest: bytes) -> None:
    assert NEEDLES.find_digest(digest) == {1}
    assert NEEDLES.find_digest(digest[:-1] + b"\0" * 2) == set()
    assert NEEDLES.find_digest(sha256("somebody else")) == set()


@pytest.mark.parametrize(
    "content",
    [b"", b"+60123456780", b"eve.adams@example.com", "Éva".encode(), base64.b64encode(b"to +60123456780, thanks")],
)
def test_what_only_looks_like_it_is_not(content: bytes) -> None:
    assert NEEDLES.find(content) == set()


def test_empty_lines_are_left_out_but_counted() -> None:
    assert read_needles(["first", "", "third\n"]).numbers == [1, 3]


def test_a_value_too_short_is_refused_without_repeating_it() -> None:
    with pytest.raises(Invalid, match="line 2") as refusal:
        read_needles(["first", "xyz"])
    assert "xyz" not in str(refusal.value)
