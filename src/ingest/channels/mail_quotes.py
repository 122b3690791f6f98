"""What a person wrote in a reply, without the mail it answers and without their signature.

There is no standard for it: mail programs mark the quoted mail in their own words. Where a mark is not known the text
stays whole, because a quote too many is a smaller harm than a sentence too few.
"""

import re

MAX_MARK_LINES = 4

# "On Monday Help wrote:" as mail programs of several languages put it above the quoted mail.
_ATTRIBUTION = re.compile(
    r"(On|Am|Le|El|Em|Il|Op|Den|Dne|W dniu|Pada)\b.{3,300}\b"
    r"(wrote|schrieb|a écrit|escribió|escreveu|ha scritto|schreef|skrev|napsal|napisał\(?a?\)?|menulis)\b[^\n]{0,120}:",
    re.IGNORECASE,
)
_DIVIDER = re.compile(
    r"[-_* ]{2,}\s?(Original Message|Forwarded message|Ursprüngliche Nachricht|Weitergeleitete Nachricht|"
    r"Message d'origine|Mensaje original|Mensagem original|Messaggio originale|Oorspronkelijk bericht|"
    r"Pesan Asli|Исходное сообщение)\s?[-_* ]{2,}",
    re.IGNORECASE,
)
# The block of header lines that Outlook puts above the quoted mail: its first line and one of the next three.
_FROM_LINE = re.compile(r"\*?(From|Von|De|Da|Van|Från|Fra|Dari|От):\*?\s.{1,300}", re.IGNORECASE)
_SENT_LINE = re.compile(
    r"\*?(Sent|Date|Gesendet|Datum|Envoyé|Enviado|Enviada|Fecha|Data|Inviato|Verzonden|Skickat|Sendt|Dikirim|"
    r"Отправлено):\*?\s",
    re.IGNORECASE,
)
_RULE = re.compile(r"_{20,}")
_PHONE_SIGNATURE = re.compile(
    r"(Sent from (my|Mail for|Outlook|Yahoo)|Get Outlook for|Von meinem .{1,40} gesendet|Envoyé de mon|"
    r"Enviado desde mi|Enviado do meu|Inviato da|Verstuurd vanaf|Skickat från min|Dikirim dari).{0,80}",
    re.IGNORECASE,
)
_BLANK_LINES = re.compile(r"\n{3,}")


def strip_reply(text: str) -> str:
    """Return the new words of a mail's text. A mail that is nothing but quote or signature comes back whole."""
    lines = [line.rstrip() for line in text.splitlines()]
    own = _without_quotes(_above_signature(lines))
    while own and (not own[-1] or _PHONE_SIGNATURE.fullmatch(own[-1].strip())):
        own.pop()
    return _BLANK_LINES.sub("\n\n", "\n".join(own)).strip() or text.strip()


def _above_signature(lines: list[str]) -> list[str]:
    # The mark of RFC 3676 is "-- "; many programs lose its blank.
    for index, line in enumerate(lines):
        if line == "--":
            return lines[:index]
    return lines


def _without_quotes(lines: list[str]) -> list[str]:
    own: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index].strip()
        if marked := _mark_length(lines, index):
            if not _is_quoted_next(lines, index + marked):
                break
            index += marked
            continue
        if not line.startswith(">"):
            own.append(lines[index])
        index += 1
    return own


def _mark_length(lines: list[str], index: int) -> int:
    """Return how many lines from here announce a quoted mail; 0 where this line announces none."""
    line = lines[index].strip()
    if not line:
        return 0
    if _DIVIDER.fullmatch(line) or _RULE.fullmatch(line) or _opens_header_block(lines, index):
        return 1
    # An attribution is wrapped over up to three lines.
    for count in range(1, MAX_MARK_LINES):
        joined = " ".join(each.strip() for each in lines[index : index + count])
        if joined.endswith(":") and _ATTRIBUTION.fullmatch(joined[:600]):
            return count
    return 0


def _opens_header_block(lines: list[str], index: int) -> bool:
    if not _FROM_LINE.fullmatch(lines[index].strip()):
        return False
    return any(_SENT_LINE.match(line.strip()) for line in lines[index + 1 : index + MAX_MARK_LINES])


def _is_quoted_next(lines: list[str], index: int) -> bool:
    """Return whether what follows is marked line by line, so that answers between the quotes can be kept."""
    following = next((line.strip() for line in lines[index:] if line.strip()), "")
    return following.startswith(">")
