import base64
import time

import pytest

from ingest.channels.base import MIB
from ingest.channels.mail_mime import MAX_DEPTH, MAX_PARTS, MAX_TEXT, Mail, read_mail, safe_name
from tests.unit.channels.mails import make_mail


def multipart(kind: str, *parts: str, boundary: str = "b") -> str:
    body = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary={boundary}\n\n{body}--{boundary}--\n"


def mail_of(content: str) -> Mail:
    return read_mail(b"From: t@example.org\n" + content.encode())


def test_plain_text_is_preferred_to_html_unless_it_is_empty() -> None:
    html = "Content-Type: text/html\n\n<p>Html</p>"
    assert mail_of(multipart("alternative", "Content-Type: text/plain\n\nPlain", html)).text == "Plain"
    assert mail_of(multipart("alternative", "Content-Type: text/plain\n\n \n", html)).text == "Html"


def test_text_parts_between_files_are_all_read() -> None:
    image = "Content-Type: image/png; name=a.png\n\nx"
    mail = mail_of(multipart("mixed", "\nBefore", image, "Content-Type: text/html\n\n<p>After</p>"))
    assert (mail.text, [each.name for each in mail.attachments]) == ("Before\nAfter", ["a.png"])


def test_only_pictures_that_the_html_shows_are_inline() -> None:
    html = "Content-Type: text/html\n\n<img src='cid:One@x'><img src=cid:three%40x>"
    files = [f"Content-Type: image/png\nContent-ID: <{name}@x>\n\nx" for name in ("one", "two", "three")]
    assert mail_of(multipart("related", html, *files)).inline == (0, 2)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\r\nb\0.txt", "a b.txt"),
        ("=?utf-8?Q?r=C3=A4kning.pdf?=", "räkning.pdf"),
        ("x" * 500 + ".pdf", "x" * 180 + ".pdf"),
        ("..", None),
        ("", None),
    ],
)
def test_file_names_are_made_safe(given: str, name: str | None) -> None:
    assert safe_name(given) == name


def test_file_content_survives_a_broken_transfer_encoding() -> None:
    """T58's neighbour: a damaged file costs itself at most, never the message."""
    part = "Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n%%%not base64"
    mail = mail_of(multipart("mixed", "\nText", part))
    assert (mail.text, len(mail.attachments)) == ("Text", 1)


def test_files_come_with_their_bytes() -> None:
    """T58: nothing is left to fetch, so nothing can be lost on the way."""
    content = bytes(range(256)) * 40
    part = "Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n"
    part += base64.encodebytes(content).decode()
    (attachment,) = mail_of(multipart("mixed", part)).attachments
    assert (attachment.content, attachment.size, attachment.url) == (content, len(content), None)


def test_too_many_parts_are_read_as_far_as_allowed_and_the_rest_is_kept_whole() -> None:
    raw = b"From: t@example.org\n" + multipart("mixed", "\nFirst", *["\nnext"] * (MAX_PARTS + 50)).encode()
    mail = read_mail(raw)
    assert mail.is_cut
    assert mail.text.startswith("First\nnext")
    assert (mail.attachments[-1].name, mail.attachments[-1].content) == ("message.eml", raw)
    assert not read_mail(b"From: t@example.org\n" + multipart("mixed", *["\nx"] * (MAX_PARTS - 1)).encode()).is_cut


def nested(depth: int) -> bytes:
    head = "".join(f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n" for level in range(depth))
    return f"From: t@example.org\n{head}\nInnermost\n".encode()


def test_mail_nested_too_deep_is_read_as_far_as_allowed() -> None:
    assert read_mail(nested(MAX_DEPTH)).text == "Innermost"
    started = time.process_time()
    mail = read_mail(nested(50_000))
    assert mail.is_cut
    assert mail.attachments[-1].mime_type == "message/rfc822"
    assert time.process_time() - started < 2


def test_mails_in_mails_without_end_are_read_as_far_as_allowed() -> None:
    assert read_mail(b"From: t@example.org\n" + b"Content-Type: message/rfc822\n\n" * 5000).is_cut


def test_endless_text_is_cut_and_kept_as_a_file() -> None:
    mail = read_mail(make_mail("word " * 300_000))
    assert len(mail.text) == MAX_TEXT
    assert [(each.name, each.size) for each in mail.attachments] == [("message.txt", 5 * 300_000 - 1)]


def test_large_mail_is_read_in_seconds() -> None:
    part = "Content-Type: application/zip; name=a.zip\nContent-Transfer-Encoding: base64\n\n"
    content = base64.encodebytes(b"z" * 10 * MIB).decode()
    started = time.process_time()
    mail = mail_of(multipart("mixed", "\nSee file", part + content))
    assert mail.attachments[0].size == 10 * MIB
    assert time.process_time() - started < 5
