"""An RFC 5322 message as bytes into the parts that matter: header fields, one text, files.

Source: RFC 5322, 2045-2049, 2183 (disposition), 2231 (file names), 2392 (cid). The standard library splits the parts;
its typed header objects are not used, because some hostile headers make them raise.
"""

import mimetypes
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from email.feedparser import BytesFeedParser
from email.message import Message as EmailPart
from email.parser import BytesHeaderParser
from email.policy import Compat32
from email.utils import collapse_rfc2231_value
from typing import Any
from urllib.parse import unquote

from ingest.channels.fields import attachment_kind
from ingest.channels.mail_headers import Headers, headers_of, readable, words
from ingest.channels.mail_text import MAX_HTML, decode_bytes, html_to_text
from ingest.domain.events import Attachment

MAX_PARTS = 500
MAX_DEPTH = 20
MAX_TEXT = 1_000_000
MAX_NAME = 200

# Not the machine's list of types: the same mail must read the same everywhere.
_TYPES = mimetypes.MimeTypes()
_CID = re.compile(r"cid:([^\"'\s>)]{1,900})", re.IGNORECASE)
# Controls, path separators and the marks that turn the reading direction: "invoice<RLO>fdp.exe" shows as a PDF.
_UNSAFE_IN_NAME = re.compile("[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MIME_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail taken apart. `inline` holds the positions of the attachments that its HTML shows in place."""

    headers: Headers
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    inline: tuple[int, ...] = ()
    is_cut: bool = False


class _Readable(Compat32):
    """Header fields as text even where they hold bare bytes, which the library would replace."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        return readable(value)


_POLICY = _Readable(mangle_from_=False, max_line_length=None)


class _TooManyParts(Exception):
    """The mail has more parts, or nests deeper, than we take apart."""


class _Part(EmailPart):
    """A part that knows how deep it lies: the parser recurses, so the limit must hold while it runs."""

    depth = 0

    def attach(self, payload: Any) -> None:
        payload.depth = self.depth + 1
        if payload.depth > MAX_DEPTH:
            raise _TooManyParts
        super().attach(payload)


@dataclass(slots=True)
class _Collected:
    htmls: list[str] = field(default_factory=list)
    files: list[tuple[Attachment, str]] = field(default_factory=list)


def read_mail(raw: bytes) -> Mail:
    """Return the mail. Never raises: what is broken is read as far as it goes.

    Beyond 500 parts or 20 levels reading stops: `is_cut` is set and the whole mail is added as a file.
    """
    root, is_cut = _parse(raw)
    found = _Collected()
    text = _body(root, found)
    if is_cut:
        found.files.append((_file("message.eml", "message/rfc822", raw), ""))
    headers = headers_of((name, str(value)) for name, value in root.raw_items())
    return assemble(headers, text, found.htmls, found.files, is_cut)


def assemble(
    headers: Headers, text: str, htmls: Sequence[str], files: Iterable[tuple[Attachment, str]], is_cut: bool = False
) -> Mail:
    """Return a mail from parts already split; each file comes with its Content-ID or "".

    A text beyond a million characters is cut, the whole of it added as a file; so is HTML too long to be read whole.
    """
    shown = {unquote(cid).lower() for html in htmls for cid in _CID.findall(html)}
    kept = [
        *files,
        *((_file("message.html", "text/html", html.encode()), "") for html in htmls if len(html) > MAX_HTML),
    ]
    inline = tuple(index for index, (_, cid) in enumerate(kept) if cid and cid.lower() in shown)
    attachments = [each for each, _ in kept]
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(text) > MAX_TEXT:
        attachments.append(_file("message.txt", "text/plain", text.encode()))
        text = text[:MAX_TEXT]
    return Mail(headers, text, tuple(attachments), inline, is_cut)


def read_headers(raw: bytes) -> Headers:
    """Return the header fields at the start of these bytes."""
    parsed = BytesHeaderParser(policy=_POLICY).parsebytes(raw)
    return headers_of((name, str(value)) for name, value in parsed.raw_items())


def file_of(name: str, mime_type: str, content: bytes) -> Attachment:
    """Return a file that the mail carried: its name made safe, its kind by its type or, where that says nothing, its name."""
    mime_type = mime_type.partition(";")[0].strip().lower()
    if mime_type == "application/octet-stream" or not _MIME_TYPE.fullmatch(mime_type):
        mime_type = _TYPES.guess_type(name)[0] or "application/octet-stream"
    return _file(safe_name(name), mime_type, content)


def _file(name: str | None, mime_type: str, content: bytes) -> Attachment:
    return Attachment(attachment_kind(mime_type), name=name, mime_type=mime_type, size=len(content), content=content)


def safe_name(name: str) -> str | None:
    """Return a file's name without folders, controls and tricks of reading direction; None where nothing is left."""
    plain = _UNSAFE_IN_NAME.sub("", words(name[:2000])).replace("\\", "/").rpartition("/")[2].strip(" .")
    stem, dot, suffix = plain.rpartition(".")
    if len(plain) > MAX_NAME:
        plain = f"{stem[: MAX_NAME - 20]}{dot}{suffix[:19]}"
    return plain or None


def _parse(raw: bytes) -> tuple[_Part, bool]:
    made: list[_Part] = []

    def make(policy: Any = _POLICY) -> _Part:
        if len(made) > MAX_PARTS:
            raise _TooManyParts
        made.append(_Part(policy=policy))
        return made[-1]

    parser = BytesFeedParser(make, policy=_POLICY)
    made.clear()  # the parser tries its factory once
    try:
        parser.feed(raw)
        parser.close()
    except _TooManyParts:
        return made[0], True
    return made[0], False


def _body(part: EmailPart, found: _Collected) -> str:
    """Return the text that a reader of this part sees, and collect the files in it."""
    kind = part.get_content_type()
    if kind.startswith("multipart/"):
        children = [each for each in _children(part) if isinstance(each, EmailPart)]
        if not children:
            # A multipart without its boundary is not lost: it reads as text.
            return decode_bytes(_content(part))
        texts = [(each.get_content_type(), _body(each, found)) for each in children]
        return _chosen(texts) if kind == "multipart/alternative" else _joined(texts)
    if kind in ("text/plain", "text/html") and not _is_file(part):
        text = decode_bytes(_content(part), _charset(part))
        if kind == "text/plain":
            return text
        found.htmls.append(text)
        return html_to_text(text)
    found.files.append((_attachment(part, kind), str(part.get("content-id", "")).strip().strip("<>")))
    return ""


def _children(part: EmailPart) -> list[Any]:
    payload = part.get_payload()
    return payload if isinstance(payload, list) else []


def _chosen(texts: list[tuple[str, str]]) -> str:
    """Return the plain alternative where it says anything, else the last one that does: the sender's best."""
    filled = [(kind, text) for kind, text in texts if text.strip()]
    plain = [text for kind, text in filled if kind == "text/plain"]
    return (plain or [text for _, text in reversed(filled)] or [""])[0]


def _joined(texts: list[tuple[str, str]]) -> str:
    return "\n".join(text.strip("\n") for _, text in texts if text.strip())


def _is_file(part: EmailPart) -> bool:
    return part.get_content_disposition() == "attachment" or bool(_file_name(part))


def _attachment(part: EmailPart, kind: str) -> Attachment:
    content = _embedded(part) if kind.startswith("message/") else _content(part)
    return file_of(_file_name(part) or _default_name(kind), kind, content)


def _default_name(kind: str) -> str:
    return {"message/rfc822": "message.eml", "text/calendar": "invite.ics", "text/vcard": "contact.vcf"}.get(kind, "")


def _file_name(part: EmailPart) -> str:
    for header, name in (("content-disposition", "filename"), ("content-type", "name")):
        given = part.get_param(name, None, header)
        if given:
            try:
                return collapse_rfc2231_value(given).strip()
            except (LookupError, ValueError):
                return str(given[2] if isinstance(given, tuple) else given).strip()
    return ""


def _charset(part: EmailPart) -> str:
    given = part.get_param("charset", "utf-8")
    return str(given[2] if isinstance(given, tuple) else given)


def _content(part: EmailPart) -> bytes:
    """Return a leaf's bytes, its transfer encoding undone as far as it can be."""
    try:
        content = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError):
        return str(part.get_payload()).encode("utf-8", "surrogateescape")
    return content if isinstance(content, bytes) else b""


def _embedded(part: EmailPart) -> bytes:
    """Return the bytes of a mail or report inside the mail; the parser has taken it apart already."""
    inside = [each for each in _children(part) if isinstance(each, EmailPart)]
    if not inside:
        return _content(part)
    try:
        return b"\n".join(each.as_bytes(policy=_POLICY) for each in inside)
    except (ValueError, LookupError, TypeError, AttributeError):
        return b""
