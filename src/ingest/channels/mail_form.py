"""Form bodies that carry mail, on bytes: each field may be in a charset of its own, and files may be large.

Source: RFC 7578 (multipart/form-data), WHATWG URL (urlencoded). A repeated field has its last value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingest.channels.base import Webhook, decode_json
from ingest.channels.mail_text import decode_bytes
from ingest.errors import BadPayload

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 1000
ESCAPED_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file of a form: the field it came in, its own name and type as given."""

    field: str
    name: str
    mime_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """A form's fields as bytes, and its files in order."""

    fields: Mapping[str, bytes]
    files: tuple[FormFile, ...] = ()

    def text(self, name: str, charset: str | None = None) -> str:
        """Return a field as text, untrimmed; "" where it is missing."""
        return decode_bytes(self.fields.get(name, b""), charset)

    def json(self, name: str) -> Any:
        """Return a field that holds JSON, decoded; None where it is missing or cannot be read."""
        try:
            return decode_json(self.text(name)) if name in self.fields else None
        except BadPayload:
            return None


def read_form(hook: Webhook) -> Form:
    """Return the request's form. Raises BadPayload for a body that is none, is cut off, or has over 1000 fields."""
    kind, options = parse_options_header(hook.header("content-type").encode("utf-8", "replace"))
    if kind == b"multipart/form-data":
        return _read_multipart(hook.body, options.get(b"boundary", b""))
    if kind == b"application/x-www-form-urlencoded":
        return Form(_read_urlencoded(hook.body))
    raise BadPayload("body is not a form")


def _read_urlencoded(body: bytes) -> dict[str, bytes]:
    if body.count(b"&") >= MAX_FIELDS:
        raise BadPayload("form has over 1000 fields")
    # Every byte is kept: a raw mail in a field need not be UTF-8.
    pairs = (pair.partition(b"=") for pair in body.split(b"&") if pair)
    return {decode_bytes(_unescape(name)): _unescape(value) for name, _, value in pairs}


def _unescape(escaped: bytes) -> bytes:
    """Return the bytes that were escaped. In pieces, because the library takes eighty times the size of what it is given."""
    pieces, start = [], 0
    while start < len(escaped):
        end = min(start + ESCAPED_PIECE_BYTES, len(escaped))
        if end < len(escaped) and (cut := escaped.rfind(b"%", end - 2, end)) > start:
            end = cut
        pieces.append(unquote_to_bytes(escaped[start:end].replace(b"+", b" ")))
        start = end
    return b"".join(pieces)


def _read_multipart(body: bytes, boundary: bytes) -> Form:
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as broken:
        raise BadPayload("form cannot be taken apart") from broken
    if not reader.is_whole:
        raise BadPayload("form is cut off")
    return Form(reader.fields, tuple(reader.files))


@dataclass(slots=True)
class _Reader:
    """Collects what the parser finds."""

    fields: dict[str, bytes] = field(default_factory=dict)
    files: list[FormFile] = field(default_factory=list)
    part_count: int = 0
    is_whole: bool = False
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> "MultipartCallbacks":
        """Return the functions the parser calls, by its names for them."""
        return {
            "on_part_begin": self.begin_part,
            "on_header_begin": self.begin_header,
            "on_header_field": lambda data, start, end: self.header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self.header_value.extend(data[start:end]),
            "on_header_end": self.end_header,
            "on_part_data": lambda data, start, end: self.content.extend(memoryview(data)[start:end]),
            "on_part_end": self.end_part,
            "on_end": self.end,
        }

    def begin_part(self) -> None:
        self.headers, self.content = {}, bytearray()
        self.part_count += 1
        if self.part_count > MAX_FIELDS:
            raise BadPayload("form has over 1000 fields")

    def begin_header(self) -> None:
        self.header_name, self.header_value = bytearray(), bytearray()

    def end_header(self) -> None:
        self.headers[bytes(self.header_name).lower()] = bytes(self.header_value)

    def end_part(self) -> None:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        name = decode_bytes(options.get(b"name", b""))
        if b"filename" in options:
            mime_type = decode_bytes(self.headers.get(b"content-type", b""))
            self.files.append(FormFile(name, decode_bytes(options[b"filename"]), mime_type, bytes(self.content)))
        elif name:
            self.fields[name] = bytes(self.content)

    def end(self) -> None:
        self.is_whole = True
