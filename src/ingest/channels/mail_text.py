"""A mail's words: bytes into text whatever charset they claim, HTML into text, a reply without quotes and signature.

Source: RFC 2046 and 3676 (text, the "-- " line), WHATWG Encoding (which charset a label really means). Mail is
hostile input: every step here takes time in proportion to its input.
"""

import codecs
import re
from html.parser import HTMLParser

# What programs that write these labels mean by them.
_REAL_CHARSET = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
_LABELS = {"ks_c_5601-1987": "cp949", "x-unknown": "utf-8", "unicode-1-1-utf-7": "utf-7", "8bit": "utf-8"}
_GUESSED = ("cp1252", "cp1254")
# Codecs that are no charsets of mail; some take quadratic time.
_REFUSED = frozenset(("punycode", "idna", "undefined", "unicode-escape", "unicode_escape", "raw-unicode-escape"))

MAX_HTML = 4_000_000

_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "div",
        "dl",
        "dt",
        "dd",
        "fieldset",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tr",
        "ul",
    ]
)
_SILENT = frozenset(("script", "style", "title", "template"))
_UNFINISHED_TAG = re.compile(r"<(?![^<>]*>)")
_DECLARATION = re.compile(r"<[!?][^<>]*>")
_BLANKS = re.compile(r"[ \t\r\n\f\v\xa0]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_UNSEEN = dict.fromkeys(map(ord, "\0\u200b\u2060\ufeff\u00ad"))


def clean(text: str) -> str:
    """Return the text without NUL and lone surrogates, which no database takes."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def decode_bytes(raw: bytes, charset: str | None = None) -> str:
    """Return the bytes as text. A charset that is missing, unknown or untrue is guessed; nothing is refused.

    Bytes that are valid UTF-8 beyond ASCII are UTF-8 where the label is a Latin one: the other way round is never seen.
    """
    name = _codec(charset)
    tries = ("utf-8", name) if name in _GUESSED else (name, "utf-8", "cp1252")
    for each in tries:
        try:
            return clean(raw.decode(each))
        except (UnicodeError, ValueError):
            continue
    return clean(raw.decode(name if name in _GUESSED else "utf-8", "replace"))


def _codec(charset: str | None) -> str:
    label = (charset or "utf-8").strip().strip("\"'").lower()
    try:
        found = codecs.lookup(_LABELS.get(label, label))
        "".encode(found.name)  # refuses the codecs that are no charsets, such as "hex"
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if found.name in _REFUSED else _REAL_CHARSET.get(found.name, found.name)


def html_to_text(html: str) -> str:
    """Return what a reader of the HTML would see: paragraphs on lines, links with their address, no markup.

    Only the first four million characters are read.
    """
    reader = _TextReader()
    reader.feed(_harmless(html[:MAX_HTML]))
    reader.close()
    lines = (" ".join(_BLANKS.sub(" ", line).split(" ")).strip() for line in "".join(reader.out).split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).translate(_UNSEEN).strip()


def _harmless(html: str) -> str:
    """Return the HTML without comments and with every tag closed: on the others the parser takes quadratic time."""
    first, *rest = html.split("<!--")
    seen = first + "".join(each.partition("-->")[2] for each in rest)
    return _DECLARATION.sub("", _UNFINISHED_TAG.sub("&lt;", seen))


class _TextReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.silent = 0
        self.link = ""
        self.link_starts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in _SILENT:
            self.silent += 1
        elif tag == "br":
            self.out.append("\n")
        elif tag in _BLOCKS:
            self._break()
        elif tag == "a":
            self.link, self.link_starts = (given.get("href") or "").strip(), len(self.out)
        elif tag == "img" and (given.get("alt") or "").strip():
            self.out.append(f"[{given['alt']}]")
        elif tag in ("td", "th"):
            self.out.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SILENT:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self.silent = max(0, self.silent - 1)
        elif tag in _BLOCKS:
            self._break()
        elif tag == "a":
            self._end_link()

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.out.append(_BLANKS.sub(" ", data))

    def _break(self) -> None:
        if self.out and self.out[-1] != "\n":
            self.out.append("\n")

    def _end_link(self) -> None:
        label = "".join(self.out[self.link_starts :]).strip()
        if self.link.startswith(("http://", "https://")) and label.rstrip("/") not in self.link:
            self.out.append(f" <{self.link}>")
        self.link = ""
