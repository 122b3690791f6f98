"""Clients that want a web process to stand still, fall over or fill up, all at once; and messages beside them."""

# ruff: noqa: N802 - the names carry the rows of the fault matrix

import gzip
import hashlib
import hmac
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ingest.simulators.meta import signed
from tests import builders
from tests.compact_system import CompactSystem
from tests.signed_requests import CHANNELS
from tests.system import WHATSAPP, children_of, running_system, until

pytestmark = [pytest.mark.faults, pytest.mark.processes, pytest.mark.timeout(120)]

MIB = 1024 * 1024
IDLE = 300
SLOW = 20
# What large bodies may take together, and as much again for joining and proving them.
MAX_GROWTH_MIB = 2 * 128
MOST_SECONDS = 3.0
HANGS_UP_WITHIN = 14.0


class Besieged(CompactSystem):
    """A system with mail channels too: their bodies may be the largest."""

    def connect(self) -> None:
        """Add the mail channels."""
        self.paths = self.add_channels(("email_mailgun", "email_postmark", "email_ses"))
        self.paths["whatsapp_cloud"] = urlsplit(self.whatsapp.url).path
        self.paths["api"] = "/api/v2/contact/list"

    def web_mib(self) -> float:
        """Return the resident memory of the web process, in MiB."""
        pid = self.supervisor.pids()["web"]
        statuses = [Path(f"/proc/{each}/status").read_text() for each in (pid, *children_of(pid))]
        return sum(int(each.partition("VmRSS:")[2].split()[0]) for each in statuses) / 1024

    def dial(self) -> socket.socket:
        """Return a connection to the web process."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def head(self, path: str, *lines: str) -> bytes:
        """Return the head of a POST with these further lines, and the owner's token."""
        given = [f"POST {path} HTTP/1.1", "host: here", f"authorization: Bearer {self.token}", *lines, "", ""]
        return "\r\n".join(given).encode()

    def post_raw(self, path: str, body: bytes, *lines: str) -> int:
        """Post a body and return the answer's status; 0 when the connection was closed without one."""
        with self.dial() as client, suppress(ConnectionError):
            with suppress(ConnectionError):
                client.sendall(self.head(path, f"content-length: {len(body)}", *lines) + body)
            answer = client.recv(100)
            return int(answer[9:12]) if answer else 0
        return 0


@pytest.fixture(scope="module")
def system() -> Iterator[Besieged]:
    with running_system(Besieged) as system:
        system.connect()
        yield system


def closed_after(client: socket.socket, drip: bytes, started: float) -> float:
    """Go on with a byte now and then, and return after how many seconds the server had hung up."""
    client.settimeout(0.5)
    while time.monotonic() - started < 30:
        try:
            client.sendall(drip)
            if client.recv(4096) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - started


def slow_clients(system: Besieged) -> dict[str, tuple[bytes, bytes]]:
    """Return what each kind of slow client begins with, and what it goes on with."""
    chunked = "transfer-encoding: chunked"
    return {
        "a head": (b"POST / HTTP/1.1\r\nx-slow: ", b"a"),
        "a webhook's body": (system.head(system.paths["whatsapp_cloud"], "content-length: 1000"), b"x"),
        "a webhook's chunks": (system.head(system.paths["email_mailgun"], chunked), b"1\r\nx\r\n"),
        "a call's body": (system.head(system.paths["api"], "content-length: 1000"), b" "),
        "a body for nobody": (system.head("/webhooks/999999", chunked), b"1\r\nx\r\n"),
        "a body nobody reads": (system.head("/healthz", chunked), b"1\r\nx\r\n"),
    }


def bombs(system: Besieged) -> dict[str, tuple[str, bytes, tuple[str, ...], set[int]]]:
    """Return path, body, headers and the answers that are right of each body that is larger inside."""
    as_json, mailgun, ses = "content-type: application/json", system.paths["email_mailgun"], system.paths["email_ses"]
    postmark = (system.paths["email_postmark"], f"authorization: {basic()}")
    form, parts = "content-type: application/x-www-form-urlencoded", "content-type: multipart/form-data; boundary=b"
    part = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n"
    proved = {
        "nested lists": b"[" * 100_000 + b"]" * 100_000,
        "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "a number of 100,000 digits": b'{"a":' + b"9" * 100_000 + b"}",
        "gzip": gzip.compress(b"0" * 100 * MIB),
        "deflate": zlib.compress(b"0" * 100 * MIB),
    }
    made = {
        f"{what}, proved": (system.paths["whatsapp_cloud"], body, (as_json, f"x-hub-signature-256: {proof(body)}",
            *((f"content-encoding: {what}",) if what in ("gzip", "deflate") else ())), {200})
        for what, body in proved.items()
    } | {
        f"{what}, to the API": (system.paths["api"], body, (as_json, *((f"content-encoding: {what}",)
            if what in ("gzip", "deflate") else ())), {400, 422, 429})
        for what, body in proved.items()
    }  # fmt: skip
    return made | {
        "10^6 keys, proved": (
            postmark[0], json.dumps({f"k{number}": 1 for number in range(10**6)}).encode(), (as_json, postmark[1]), {200}
        ),
        "10^6 keys to who takes 3 MiB": (
            system.paths["whatsapp_cloud"], json.dumps({f"k{n}": 1 for n in range(10**6)}).encode(), (as_json,), {413, 0}
        ),
        "7,000,000 lists, unproved": (mailgun, b"[" + b"[]," * 7_000_000 + b"1]", (as_json,), {401}),
        "3,000,000 objects, unproved": (ses, b"[" + b'{"a":1},' * 2_500_000 + b"1]", (as_json,), {401}),
        "7,000,000 escapes, unproved": (mailgun, b"a=" + b"%41" * 7_000_000, (form,), {401}),
        "500,000 parts, unproved": (mailgun, part * 500_000 + b"--b--\r\n", (parts,), {401}),
        "10,000,000 fields, unproved": (mailgun, b"a&" * 10_000_000, (form,), {401}),
        "10 GB, it says": (mailgun, b"x", ("content-length: 10000000000",), {400, 413}),
    }  # fmt: skip


def proof(body: bytes) -> str:
    """Return WhatsApp's signature of a body."""
    return "sha256=" + hmac.new(WHATSAPP["app_secret"].encode(), body, hashlib.sha256).hexdigest()


def basic() -> str:
    """Return the mail channel's basic authentication."""
    return dict(CHANNELS["email_postmark"].request("http://x/", 1, "x", "x")[2])["authorization"]


class Neighbour(threading.Thread):
    """Sends an ordinary message now and then, and notes how long its answer takes."""

    def __init__(self, system: Besieged) -> None:
        super().__init__(daemon=True)
        self._system = system
        self.is_over = threading.Event()
        self.answers: list[tuple[int, float]] = []
        self.mib = [system.web_mib()]

    def run(self) -> None:
        while not self.is_over.wait(0.1):
            started = time.monotonic()
            status = send(self._system, f"beside-{len(self.answers)}")
            self.answers.append((status, time.monotonic() - started))
            self.mib.append(self._system.web_mib())


def send(system: Besieged, message_id: str) -> int:
    """Send an ordinary message and return the answer's status."""
    request = signed(
        builders.whatsapp_text("447700900451", message_id, "hello"), {"app_secret": WHATSAPP["app_secret"]}
    )
    return system.post(system.whatsapp, request.body, dict(request.headers))


def test_M8_and_P8_nothing_that_a_client_sends_stops_fills_or_ends_a_web_process(system: Besieged) -> None:
    assert send(system, "before") == 200
    processes, wanted = system.supervisor.pids(), bombs(system)
    neighbour = Neighbour(system)
    neighbour.start()
    with ExitStack() as open_, ThreadPoolExecutor(6 * SLOW + 4) as pool:
        idle = [open_.enter_context(system.dial()) for _ in range(IDLE)]
        started = time.monotonic()
        slow = {}
        for kind, (begun, drip) in slow_clients(system).items():
            slow[kind] = []
            for _ in range(SLOW):
                client = open_.enter_context(system.dial())
                client.sendall(begun)
                slow[kind].append(pool.submit(closed_after, client, drip, started))
        answers = {
            what: pool.submit(system.post_raw, path, body, *lines) for what, (path, body, lines, _) in wanted.items()
        }
        told = {what: each.result() for what, each in answers.items()}
        ended = {kind: max(each.result() for each in running) for kind, running in slow.items()}
        for client in idle:
            client.settimeout(max(0.1, HANGS_UP_WITHIN - (time.monotonic() - started)))
            assert client.recv(1) == b""
    neighbour.is_over.set()
    neighbour.join(30)
    growth, slowest = max(neighbour.mib) - neighbour.mib[0], max(seconds for _, seconds in neighbour.answers)
    print(f"\n{len(told)} bombs, {6 * SLOW} slow clients hung up on after {max(ended.values()):.1f} s at most, "
          f"{IDLE} idle ones; memory {neighbour.mib[0]:.0f} to {max(neighbour.mib):.0f} MiB, then {system.web_mib():.0f}; "
          f"{len(neighbour.answers)} messages beside, slowest {slowest:.2f} s")  # fmt: skip
    assert {what: status for what, status in told.items() if status not in wanted[what][3]} == {}
    assert {kind: seconds for kind, seconds in ended.items() if seconds > HANGS_UP_WITHIN} == {}
    assert {status for status, _ in neighbour.answers} == {200}
    assert slowest < MOST_SECONDS
    assert growth < MAX_GROWTH_MIB
    assert system.supervisor.pids() == processes
    assert send(system, "after") == 200
    until(lambda: system.waiting() == 0, 60)
    assert system.scalar("select count(*) from message where external_id = 'after'") == 1
    assert system.scalar("select count(*) from message where external_id like 'beside-%%'") == len(neighbour.answers)
    # The proved ones are kept, each as what it is.
    assert system.scalar("select count(*) from dead_letter where reason like 'bad_payload%%'") == 6
    system.assert_sound()
