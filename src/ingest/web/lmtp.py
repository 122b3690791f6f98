"""Mail from a mail server, made durable in the same way as webhooks are."""

import asyncio
import os
import signal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ingest.lmtp import Outcome, serve_lmtp
from ingest.pipeline.receive import Intake, Unavailable
from ingest.runtime import Runtime
from ingest.settings import Settings
from ingest.store.intake import RawRequest
from ingest.store.mailboxes import find_mailbox

log = structlog.get_logger()


class MailIntake:
    """Takes mail for the `email_mime` channels. Lives in one event loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._intake = Intake(runtime.conninfo, runtime.spool(), runtime.publisher)

    async def start(self) -> None:
        """Start writing. Raises BadSetting when the spool cannot be written."""
        await self._intake.start()

    async def stop(self) -> None:
        """Write what is waiting, then stop."""
        await self._intake.stop()

    async def accept(self, mailbox: str, envelope_from: str, raw: bytes) -> Outcome:
        """Return what became of a mail: "stored" once it is durable, "unavailable" when the sender must keep it."""
        try:
            found = await asyncio.to_thread(self._find, mailbox)
            if found is None:
                return "unknown"
            await self._intake.accept(self._request(*found, mailbox, envelope_from, raw))
        except (Unavailable, SQLAlchemyError, OSError) as away:
            log.warning("mail.refused", error=type(away).__name__)
            return "unavailable"
        return "stored"

    def _find(self, mailbox: str) -> tuple[int, int] | None:
        with self._runtime.begin() as tx:
            return find_mailbox(tx, mailbox)

    def _request(self, workspace_id: int, channel_id: int, mailbox: str, envelope_from: str, raw: bytes) -> RawRequest:
        """Return the mail in the form that it would have come in over HTTP."""
        return RawRequest(
            workspace_id=workspace_id,
            channel_id=channel_id,
            app_id=0,
            accepted_at=self._runtime.clock(),
            trace_id=os.urandom(16),
            method="POST",
            url=f"{self._runtime.settings.public_url}/webhooks/{channel_id}",
            headers={
                "content-type": "message/rfc822",
                "x-envelope-to": mailbox,
                "x-envelope-from": f"<{envelope_from}>",
            },
            body=raw,
        )


def serve(settings: Settings) -> None:
    """Serve on INGEST_LMTP_HOST and INGEST_LMTP_PORT until told to stop. Raises BadSetting as the web process does."""
    if not Runtime.from_settings(settings).require_durable():
        log.info("database.unchecked")
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    asked = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, asked.set)
    mail = MailIntake(Runtime.from_settings(settings, "lmtp"))
    await mail.start()
    server = await serve_lmtp(mail.accept, settings.lmtp_host, settings.lmtp_port)
    log.info("lmtp.started", host=settings.lmtp_host, port=settings.lmtp_port)
    await asked.wait()
    server.close()
    await mail.stop()
    log.info("lmtp.stopped")
