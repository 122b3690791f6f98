import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.channels.mail_text import decode_bytes, html_to_text


@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        ("Hallå".encode(), "us-ascii", "Hallå"),
        ("Hallå".encode(), "iso-8859-1", "Hallå"),
        ("Hallå".encode("latin-1"), "utf-8", "Hallå"),
        ("Hallå".encode("latin-1"), None, "Hallå"),
        ("“curly”".encode("cp1252"), "iso-8859-1", "“curly”"),
        ("你好".encode("gb18030"), "gb2312", "你好"),
        ("안녕".encode("cp949"), "ks_c_5601-1987", "안녕"),
        ("こんにちは".encode("iso2022_jp"), "ISO-2022-JP", "こんにちは"),
        ("Hallå".encode("utf-16"), "utf-16", "Hallå"),
        (b"plain", "hex", "plain"),
        (b"plain", "punycode", "plain"),
        (b"plain", "no-such-charset", "plain"),
        (b"a\x00b\x81\xff", "us-ascii", "ab\ufffdÿ"),
    ],
)
def test_charsets_that_lie_lose_no_text(raw: bytes, charset: str | None, text: str) -> None:
    assert decode_bytes(raw, charset) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two<br>Three</p>", "One\nTwo\nThree"),
        ("<div>a<div>b</div>c</div>", "a\nb\nc"),
        ("a &amp; b &lt;tag&gt; &#x1F600;&nbsp;c", "a & b <tag> 😀 c"),
        ("<style>p{}</style><script>alert('<p>')</script><title>t</title>seen", "seen"),
        ("<!-- hidden <p>no</p> -->seen<!-- never closed", "seen"),
        ("<!DOCTYPE html><?xml version='1'?><![if mso]>seen<![endif]>", "seen"),
        ('<a href="https://example.org/a">here</a>', "here <https://example.org/a>"),
        ('<a href="https://example.org/">https://example.org</a>', "https://example.org"),
        ('<a href="javascript:alert(1)">here</a>', "here"),
        ('<img src="cid:x" alt="a door"><img src="https://track.example/p.gif">', "[a door]"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "1 2"),
        ("2 < 3 and <b>bold", "2 < 3 and bold"),
        ("<p>unclosed <b>tags <i>everywhere", "unclosed tags everywhere"),
        ("", ""),
    ],
)
def test_html_reads_as_a_person_sees_it(html: str, text: str) -> None:
    assert html_to_text(html) == text


HOSTILE = [
    "<!--",
    "<a ",
    '<a b=">',
    "<![CDATA[",
    "&",
    "<script>",
    "</",
    "<p",
    "<a href='x'>",
    "<p>",
    "&#0;",
    "\n ",
    "< ",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_html_takes_time_in_proportion(piece: str) -> None:
    def seconds(characters: int) -> float:
        started = time.process_time()
        html_to_text(piece * (characters // len(piece)))
        return time.process_time() - started

    seconds(1000)
    short, long = seconds(50_000), seconds(400_000)
    assert long < max(short, 0.01) * 8 * 4


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["utf-8", "utf-7", "utf-16", "iso-2022-jp", "gb2312", "big5", "us-ascii", "\0"]),
)
def test_any_bytes_read_as_text_that_can_be_stored(raw: bytes, charset: str) -> None:
    for text in (decode_bytes(raw, charset), html_to_text(decode_bytes(raw, charset))):
        assert "\0" not in text
        assert text.encode().decode() == text
