"""Probes: how long until what was accepted can be read through the API, measured beside a load.

A probe sends one webhook call of its own, and from its 200 on asks the API every few milliseconds until the answer has it.
The time includes the asking: up to one interval, and the API call that found it. It is what a client would see, never less.
"""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.aside import Aside
from benchmarks.bodies import digits_of, telegram_body, telegram_headers, whatsapp_body, whatsapp_headers
from benchmarks.sites import TELEGRAM, WHATSAPP, Site
from benchmarks.systems import PORT

ASK_SECONDS = 0.01
GIVE_UP_SECONDS = 30.0
# Senders of the probes' own, apart from those of the load.
WRITERS, PAIRS = 90_000_000, 91_000_000


class Client:
    """One kept-alive connection to the site."""

    def __init__(self, site: Site) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
        self._authorization = {"authorization": f"Bearer {site.token}"}

    def call(self, channel_id: int, body: bytes, headers: dict[str, str]) -> float:
        """Make a webhook call and return the time of its answer. Raises RuntimeError unless that is 200."""
        self._connection.request("POST", f"/webhooks/{channel_id}", body, headers)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the probe was answered {answer.status}")
        return time.perf_counter()

    def get(self, path: str) -> Any:
        """Return the API's answer, None for a contact that is not there yet."""
        self._connection.request("GET", f"/api/v2{path}", headers=self._authorization)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status not in {200, 404}:
            raise RuntimeError(f"the API answered {answer.status} to {path}: {body[:200].decode()}")
        return json.loads(body) if answer.status == 200 else None


@dataclass
class Probe(Aside):
    """A thread that repeats an attempt until stopped. `seconds` are the times found; the first warms up and is left out."""

    attempt: Callable[[int], float]
    pause_seconds: float
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def work(self) -> None:
        number = 0
        while not self.is_over.is_set():
            seconds = self.attempt(number)
            if number:
                self.seconds.append(seconds)
            number += 1
            self.is_over.wait(self.pause_seconds)


def message_probe(site: Site) -> Probe:
    """Return a probe of messages: from the 200 until the contact's message list begins with it."""
    client = Client(site)

    def attempt(number: int) -> float:
        sender, message_id = WRITERS + number % 20, f"wamid.probe.{time.monotonic_ns()}"
        body = whatsapp_body(sender, message_id, int(time.time()), "Probe")
        accepted = client.call(WHATSAPP, body, whatsapp_headers(body))
        path = f"/contact/phone:+{digits_of(sender)}/message/list?limit=10"
        return _ask(
            client, path, lambda page: any(each["channelMessageId"] == message_id for each in page["items"]), accepted
        )

    return Probe(attempt, 0.05)


def suggestion_probe(site: Site) -> Probe:
    """Return a probe of suggestions: from the 200 to a Telegram user's own number until the WhatsApp contact shows it."""
    client = Client(site)
    first = PAIRS + time.monotonic_ns() // 10**6 % 8_000_000

    def attempt(number: int) -> float:
        sender, now = first + number, int(time.time())
        body = whatsapp_body(sender, f"wamid.pair.{sender}", now, "Probe")
        accepted = client.call(WHATSAPP, body, whatsapp_headers(body))
        known: list[int] = []
        phone = f"/contact/phone:+{digits_of(sender)}"
        _ask(client, phone, lambda contact: known.append(contact["id"]) is None, accepted)
        accepted = client.call(TELEGRAM, telegram_body(sender, now), telegram_headers())
        return _ask(client, f"/contact/id:{known[0]}/suggestion/list", lambda page: bool(page["items"]), accepted)

    return Probe(attempt, 0.2)


def _ask(client: Client, path: str, has: Callable[[Any], bool], accepted: float) -> float:
    """Ask until the answer has it; return the seconds since it was accepted. Raises TimeoutError."""
    while time.perf_counter() - accepted < GIVE_UP_SECONDS:
        answer = client.get(path)
        if answer is not None and has(answer):
            return time.perf_counter() - accepted
        time.sleep(ASK_SECONDS)
    raise TimeoutError(f"not to be seen within {GIVE_UP_SECONDS:.0f} s: {path.partition('/')[0]}")
