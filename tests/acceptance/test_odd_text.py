"""What no database takes and no screen shows well, through every channel and real processes: stored clean, or a dead letter.

Nothing of it is lost, no worker dies of it, and what came beside it is stored.
"""

import http.client
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from ingest.channels.registry import CODES
from ingest.domain.messages import MAX_TEXT
from tests.compact_system import CompactSystem
from tests.signed_requests import CHANNELS, bare, in_form, in_inner_json, in_json
from tests.system import running_system, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

# What is given, and what may be stored of it; None where the text is only known to be clean.
ODD: dict[str, tuple[str | bytes, str | None]] = {
    "NUL": ("a\0b", "ab"),
    "NULs alone": ("\0\0", ""),
    "first half of a pair": ("a\ud83db", "a?b"),
    "second half of a pair": ("a\ude00b", "a?b"),
    "pair the wrong way round": ("\ude00\ud83d", "??"),
    "byte order mark": ("\ufeffab", "\ufeffab"),
    "right to left": ("a\u202eb\u2066c", "a\u202eb\u2066c"),
    "no characters": ("a\uffff\ufdd0b", "a\uffff\ufdd0b"),
    "controls": ("a\x01\x1b[31m\x7f\x85b", None),
    "a heap of accents": ("e" + "\u0301" * 3000, "e" + "\u0301" * 3000),
    "escaped NUL": ("a\\u0000b\\x00", None),
    "bytes that are no UTF-8": (b"a\xff\xfe\xc3\xed\xa0\x80b", None),
    "nearly a mebibyte": ("x" * 700_000, "x" * 700_000),
}

NEIGHBOUR = "nothing"
# Whoever signs or names a session in JSON sends JSON.
NOT_SIGNED = {
    (code, what, 401)
    for code in ("email_ses", "webchat")
    for what in ("bytes that are no UTF-8", "bytes that are no UTF-8, in the address")
}


class Everybody(CompactSystem):
    """A system with a channel of every code."""

    def connect(self) -> None:
        """Add the channels."""
        self.urls = {code: self.url + path for code, path in self.add_channels(CODES).items()}

    def call(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        """Return the answer's status and body."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
        try:
            connection.request("POST", f"{parts.path}?{parts.query}".rstrip("?"), body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def system() -> Iterator[Everybody]:
    with running_system(Everybody) as system:
        system.connect()
        yield system


@dataclass(frozen=True)
class Sent:
    """One message: its number, its channel, what is odd about it, and how it was answered."""

    number: int
    code: str
    what: str
    status: int
    told: str

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300


def given_to(code: str, numbers: Iterator[int]) -> Iterator[tuple[int, str, tuple[str | bytes, ...]]]:
    """Yield number, what is odd, and text, name and address: odd in text and name, odd in the address, and a neighbour."""
    for what, (odd, _stored) in ODD.items():
        yield next(numbers), what, (odd, odd if len(odd) < 10_000 else "Long", "")
        if len(odd) < 20:
            number = next(numbers)
            at = "@example.org" if code.startswith("email") else ""
            address = f"77{number}{odd}{at}" if isinstance(odd, str) else b"77%d%b%b" % (number, odd, at.encode())
            yield number, f"{what}, in the address", ("hello", "Ann", address)
        yield next(numbers), NEIGHBOUR, ("a neighbour", "Neighbour", "")


def send_everything(system: Everybody) -> list[Sent]:
    """Send every oddity to every channel, several at once, so that they share commits and claims."""
    numbers = itertools.count(1)

    def send(code: str, number: int, what: str, given: tuple[str | bytes, ...]) -> Sent:
        return Sent(number, code, what, *system.call(*CHANNELS[code].request(system.urls[code], number, *given)))

    with ThreadPoolExecutor(8) as pool:
        return list(
            pool.map(lambda each: send(*each), [(code, *each) for code in CODES for each in given_to(code, numbers)])
        )


def may_be_unreadable(code: str, what: str) -> bool:
    """Return whether a request is none that its format allows, so that it becomes a dead letter with its raw bytes."""
    if what.startswith("bytes") and CHANNELS[code].spell in (in_json, in_inner_json):
        return True
    if code == "wechat":
        # XML knows no way to write these characters.
        return what.startswith(("NUL", "controls", "no characters", "bytes")) or "pair" in what
    return code.startswith("email") and what.endswith("in the address")


def comparable(text: str) -> str:
    """Return the text as far as channels agree on it: some are trimmed, and what is no character is marked in two ways."""
    return re.sub("[?\ufffd]+", "?", text).strip()


def test_odd_text_of_every_channel_is_stored_clean_or_is_a_dead_letter(system: Everybody) -> None:
    processes = system.supervisor.pids()
    sent = {each.number: each for each in send_everything(system)}
    until(lambda: system.waiting() == 0, 60)

    refused = {(each.code, each.what): (each.status, each.told) for each in sent.values() if not each.is_accepted}
    for (code, what), (status, told) in refused.items():
        # Formats of our own say which field is wrong; what is no text at all, Amazon cannot have signed.
        is_ours = code in ("webchat", "custom") and status == 400
        assert is_ours or (code, what, status) in NOT_SIGNED, (code, what, status, told)
    texts = {
        int(row.text.split(" ")[0].removeprefix("odd-")): row.text
        for row in system.rows("select text from message where text like 'odd-%'")
    }
    letters = "".join(bytes(row.body).decode("latin-1") for row in system.rows("select body from dead_letter"))
    dead = [each for each in sent.values() if each.is_accepted and each.number not in texts]
    assert not [each for each in dead if f"odd-{each.number} " not in letters.replace("+", " ")], "lost"
    for number, text in texts.items():
        each = sent[number]
        assert each.is_accepted
        wanted = ODD.get(each.what, ("", None))[1]
        if each.what == NEIGHBOUR:
            wanted = "a neighbour"
        if "pair" in each.what and CHANNELS[each.code].spell in (bare, in_form):
            # Not as JSON spells it, half of a pair is bytes that are no UTF-8, and a mail's charset is guessed then.
            wanted = None
        if wanted is not None:
            # What is longer than we keep is cut.
            assert comparable(text) == comparable(f"odd-{number} {wanted}"[:MAX_TEXT]), each
        assert not set(text) & {"\0", *map(chr, range(0xD800, 0xE000))}, each
    assert not [each for each in dead if each.what == NEIGHBOUR]
    told = Counter((each.code, each.what) for each in dead)
    print(f"\n{len(sent)} sent, {len(texts)} stored, dead letters {dict(told)}, refused {refused}")
    unforeseen = [each for each in told if not may_be_unreadable(*each)]
    assert not unforeseen
    assert system.supervisor.pids() == processes
    assert not [line for line in system.output.splitlines() if '"job.failed"' in line or "adapter_failed" in line]
    system.assert_sound()
