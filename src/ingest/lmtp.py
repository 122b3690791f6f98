"""Mail by LMTP: each recipient of a mail gets a reply of its own, and 250 only once the mail is durable.

Source: RFC 2033 (LMTP), 5321 (end of data, dot-stuffing), 3463 (reply codes). A mail server in front of this one keeps
the mail and repeats it for days after a 451; a 550 makes it tell the sender. The end of a mail is CRLF . CRLF and
nothing else, so that no second mail can be smuggled in behind a bare line feed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, AnyStr, Literal

import structlog
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import Envelope, Session

Outcome = Literal["stored", "unknown", "unavailable"]
# Given one of our mailboxes, the envelope sender ("" for bounces) and the mail's bytes; says what became of it.
Accept = Callable[[str, str, bytes], Awaitable[Outcome]]

MAX_MAIL = 30 * 1024 * 1024
MAX_RECIPIENTS = 100
IDLE_SECONDS = 300
REPLIES: dict[Outcome, str] = {
    "stored": "250 2.0.0 Stored",
    "unknown": "550 5.1.1 No such mailbox here",
    "unavailable": "451 4.3.0 Cannot store it now, try again later",
}

log = structlog.get_logger(__name__)


class _Receiver(LMTP):
    """One connection. Differs from the library in two points: long lines are mail too, and refusals are per recipient."""

    # Half the world's HTML mail breaks the limit of 998.
    line_length_limit = MAX_MAIL
    _is_in_data = False

    async def push(self, status: AnyStr) -> None:
        """Send a reply; the library's own reply to a mail (too large) is repeated for each recipient, as LMTP asks."""
        reply = status if isinstance(status, str) else status.decode()
        if self._is_in_data and self.envelope is not None and "\n" not in reply:
            reply = "\r\n".join([reply] * max(1, len(self.envelope.rcpt_tos)))
        self._is_in_data = reply.startswith("354")
        await super().push(reply)


class _Handler:
    """Answers for one server: which recipients there are, and what became of a mail."""

    def __init__(self, accept: Accept) -> None:
        self.accept = accept

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, up to a hundred; whether the mailbox exists is said after the mail."""
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Return a reply for each recipient, in the order in which they were named."""
        raw = envelope.original_content or b""
        sender = (envelope.mail_from or "").strip("<>")
        waiting = (self._outcome(mailbox, sender, raw) for mailbox in envelope.rcpt_tos)
        outcomes = await asyncio.gather(*waiting)
        return "\r\n".join(REPLIES[outcome] for outcome in outcomes)

    async def _outcome(self, mailbox: str, envelope_from: str, raw: bytes) -> Outcome:
        try:
            return await self.accept(mailbox, envelope_from, raw)
        except Exception as failure:
            # Whatever went wrong, the mail is not durable: the sender keeps it and tries again.
            log.exception("mail.accept_failed", cause=type(failure).__name__)
            return "unavailable"


async def serve_lmtp(accept: Accept, host: str, port: int, max_mail: int = MAX_MAIL) -> asyncio.Server:
    """Return a listening LMTP server; `port` 0 takes a free one. Closing it is the caller's.

    A mail beyond `max_mail` bytes is refused with 552, for each recipient. `accept` is called once a recipient, for
    all of them at the same time, and may be called again with the same mail: a sender that missed our 250 repeats it.
    """
    # The library's log has addresses on nearly every line.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    handler = _Handler(accept)
    loop = asyncio.get_running_loop()

    def connection() -> _Receiver:
        return _Receiver(
            handler,
            hostname="lmtp",
            ident="LMTP",
            data_size_limit=max_mail,
            enable_SMTPUTF8=True,
            timeout=IDLE_SECONDS,
            loop=loop,
        )

    return await loop.create_server(connection, host, port)
