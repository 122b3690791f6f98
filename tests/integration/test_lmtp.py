"""Mail over LMTP ends up where webhooks do, and is refused for the sender to keep or return where it cannot."""

import asyncio
import smtplib
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from ingest.lmtp import serve_lmtp
from ingest.pipeline.administer import add_channel, create_workspace
from ingest.runtime import Runtime
from ingest.settings import read_settings
from ingest.store.intake import decode_requests
from ingest.web.lmtp import MailIntake

pytestmark = pytest.mark.database

MAIL = b"From: person1@example.com\r\nTo: help@in.example.net\r\nMessage-ID: <1@example.com>\r\n\r\nHello\r\n"


@pytest.fixture
def runtime(database_url: str, broker_url: str, tmp_path: Path) -> Runtime:
    key = Fernet.generate_key().decode()
    return Runtime.from_settings(
        read_settings(database_url=database_url, broker_url=broker_url, secret_key=key, data_dir=tmp_path)
    )


def add_mailbox(runtime: Runtime, mailbox: str) -> int:
    with runtime.begin() as tx:
        workspace_id = create_workspace(tx, "Shop")
        settings = {"mailbox": mailbox}
        return add_channel(tx, workspace_id, "email_mime", "Mail", settings, {"token": ("t",)}, runtime.sealer).id


def deliver(runtime: Runtime, *mailboxes: str) -> list[int]:
    """Deliver the mail and return the reply's code for each mailbox."""

    def talk(port: int) -> list[int]:
        with smtplib.LMTP("127.0.0.1", port, local_hostname="mx") as client:
            client.ehlo_or_helo_if_needed()
            client.mail("person1@example.com")
            for mailbox in mailboxes:
                client.rcpt(mailbox)
            first = client.data(MAIL)[0]
            # LMTP answers once a recipient; the library reads the first answer only.
            return [first, *(client.getreply()[0] for _ in mailboxes[1:])]

    async def play() -> list[int]:
        mail = MailIntake(runtime)
        await mail.start()
        server = await serve_lmtp(mail.accept, "127.0.0.1", 0)
        async with server:
            replies = await asyncio.to_thread(talk, server.sockets[0].getsockname()[1])
        await mail.stop()
        return replies

    try:
        return asyncio.run(play())
    finally:
        runtime.engine.dispose()
        runtime.publisher.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("mailbox", ["help@in.example.net", "HELP@in.example.net", "help+order-7@in.example.net"])
def test_mail_becomes_a_job_of_its_mailbox(runtime: Runtime, mailbox: str) -> None:
    channel_id = add_mailbox(runtime, "help@in.example.net")
    assert deliver(runtime, mailbox) == [250]
    with runtime.begin() as tx:
        (body,) = tx.scalars(text("select body from job where queue = 'resolve'"))
    runtime.engine.dispose()
    (request,) = decode_requests(body)
    assert (request.channel_id, request.headers["x-envelope-to"], request.body) == (channel_id, mailbox, MAIL)
    assert request.headers["x-envelope-from"] == "<person1@example.com>"


def test_unknown_mailbox_is_refused_for_good(runtime: Runtime) -> None:
    add_mailbox(runtime, "help@in.example.net")
    assert deliver(runtime, "other@in.example.net", "help@in.example.net") == [550, 250]


def test_first_workspace_keeps_its_mailbox(runtime: Runtime) -> None:
    first = add_mailbox(runtime, "help@in.example.net")
    add_mailbox(runtime, "help@in.example.net")
    assert deliver(runtime, "help@in.example.net") == [250]
    with runtime.begin() as tx:
        (body,) = tx.scalars(text("select body from job where queue = 'resolve'"))
    runtime.engine.dispose()
    assert [each.channel_id for each in decode_requests(body)] == [first]


def test_sender_keeps_the_mail_while_the_database_is_away(runtime: Runtime, tmp_path: Path) -> None:
    away = Runtime.from_settings(
        runtime.settings.model_copy(update={"database_url": f"postgresql+psycopg://x@/x?host={tmp_path}"})
    )
    assert deliver(away, "help@in.example.net") == [451]
