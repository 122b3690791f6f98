"""The LMTP receiver, spoken to by a real client over a real socket."""

import asyncio
import smtplib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from ingest.lmtp import Outcome, serve_lmtp

MAIL = b"From: Tomas Berg <tomas.berg@example.org>\r\nSubject: Hej\r\n\r\nHello there\r\n"
MAX_MAIL = 200_000


@dataclass
class Server:
    """A receiver on a thread of its own. `outcomes` says what becomes of a mail to a mailbox; "stored" by default."""

    port: int = 0
    outcomes: dict[str, Outcome | Exception] = field(default_factory=dict)
    stored: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def accept(self, mailbox: str, envelope_from: str, raw: bytes) -> Outcome:
        outcome = self.outcomes.get(mailbox, "stored")
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "stored":
            self.stored.append((mailbox, envelope_from, raw))
        return outcome


@pytest.fixture
def server() -> Iterator[Server]:
    running, ready = Server(), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        listening = await serve_lmtp(running.accept, "127.0.0.1", 0, MAX_MAIL)
        running.port = listening.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        listening.close()
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield running
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def send(
    server: Server, recipients: list[str], mail: bytes = MAIL, sender: str = "tomas.berg@example.org"
) -> list[str]:
    """Return the reply code for each recipient, as the server gives them after the mail."""
    with smtplib.LMTP("127.0.0.1", server.port) as client:
        client.ehlo_or_helo_if_needed()
        client.mail(sender)
        for recipient in recipients:
            assert client.rcpt(recipient)[0] == 250
        client.putcmd("data")
        assert client.getreply()[0] == 354
        client.send(mail + b".\r\n")
        return [str(client.getreply()[0]) for _ in recipients]


def test_mail_is_acknowledged_once_it_is_stored(server: Server) -> None:
    with smtplib.LMTP("127.0.0.1", server.port) as client:
        assert client.sendmail("tomas.berg@example.org", ["help+case77@in.example.net"], MAIL) == {}
    assert server.stored == [("help+case77@in.example.net", "tomas.berg@example.org", MAIL)]


def test_each_recipient_has_a_reply_of_its_own_in_order(server: Server) -> None:
    server.outcomes = {"nobody@in.example.net": "unknown", "busy@in.example.net": "unavailable"}
    recipients = ["nobody@in.example.net", "help@in.example.net", "busy@in.example.net", "help2@in.example.net"]
    assert send(server, recipients) == ["550", "250", "451", "250"]
    assert sorted(mailbox for mailbox, _, _ in server.stored) == ["help2@in.example.net", "help@in.example.net"]


def test_failure_to_store_asks_the_sender_to_repeat(server: Server) -> None:
    """T75: no success before the mail is durable, whatever broke."""
    server.outcomes = {"help@in.example.net": RuntimeError("disk full")}
    assert send(server, ["help@in.example.net"]) == ["451"]
    del server.outcomes["help@in.example.net"]
    assert send(server, ["help@in.example.net"]) == ["250"]
    assert len(server.stored) == 1


def test_bounces_have_an_empty_envelope_sender(server: Server) -> None:
    assert send(server, ["help@in.example.net"], sender="") == ["250"]
    assert server.stored[0][1] == ""


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r"])
def test_only_a_dot_between_two_line_ends_ends_a_mail(server: Server, end: bytes) -> None:
    smuggled = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<help@in.example.net>\r\nDATA\r\nFrom: boss@example.org\r\n"
    mail = MAIL.removesuffix(b"\r\n") + end + smuggled
    assert send(server, ["help@in.example.net"], mail) == ["250"]
    assert [raw for _, _, raw in server.stored] == [mail.replace(b"\r\n.", b"\r\n")]


def test_dots_that_the_client_doubled_are_single_again(server: Server) -> None:
    with smtplib.LMTP("127.0.0.1", server.port) as client:
        client.sendmail("tomas.berg@example.org", ["help@in.example.net"], MAIL + b".\r\n..two\r\n.one\r\n")
    assert server.stored[0][2] == MAIL + b".\r\n..two\r\n.one\r\n"


def test_too_large_a_mail_is_refused_for_each_recipient(server: Server) -> None:
    mail = MAIL + b"x" * 70 + b"\r\n"
    large = mail + (b"y" * 70 + b"\r\n") * (MAX_MAIL // 72)
    assert send(server, ["help@in.example.net", "sales@in.example.net"], large) == ["552", "552"]
    assert server.stored == []
    assert send(server, ["help@in.example.net"], mail) == ["250"]


def test_announced_size_beyond_the_limit_is_refused_at_once(server: Server) -> None:
    with smtplib.LMTP("127.0.0.1", server.port) as client:
        client.ehlo_or_helo_if_needed()
        assert client.mail("tomas.berg@example.org", [f"SIZE={MAX_MAIL + 1}"])[0] == 552


def test_lines_far_beyond_the_standard_are_taken(server: Server) -> None:
    mail = MAIL + b"z" * 100_000 + b"\r\n\xff\xfe eight bits\r\n"
    assert send(server, ["help@in.example.net"], mail) == ["250"]
    assert server.stored[0][2] == mail


def test_addresses_beyond_ascii_are_taken(server: Server) -> None:
    with smtplib.LMTP("127.0.0.1", server.port) as client:
        client.ehlo_or_helo_if_needed()
        client.sendmail("björn@example.org", ["hjälp@in.example.net"], MAIL, ["SMTPUTF8", "BODY=8BITMIME"])
    assert server.stored[0][:2] == ("hjälp@in.example.net", "björn@example.org")


def test_recipient_past_the_hundredth_is_put_off(server: Server) -> None:
    with smtplib.LMTP("127.0.0.1", server.port) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("tomas.berg@example.org")
        replies = [client.rcpt(f"box{number}@in.example.net")[0] for number in range(101)]
    assert replies == [250] * 100 + [452]


def test_mail_cut_off_by_a_lost_connection_is_not_taken(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        replies = raw.makefile("rb")
        replies.readline()
        for command in (
            b"LHLO x\r\n",
            b"MAIL FROM:<a@example.org>\r\n",
            b"RCPT TO:<help@in.example.net>\r\n",
            b"DATA\r\n",
        ):
            raw.sendall(command)
            while (line := replies.readline())[3:4] == b"-":
                pass
        assert line.startswith(b"354")
        raw.sendall(MAIL)
        replies.close()
    assert send(server, ["other@in.example.net"]) == ["250"]
    assert [mailbox for mailbox, _, _ in server.stored] == ["other@in.example.net"]


def test_it_is_no_smtp_server(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw, raw.makefile("rb") as replies:
        assert replies.readline().startswith(b"220")
        raw.sendall(b"EHLO x\r\n")
        assert replies.readline().startswith(b"500")
