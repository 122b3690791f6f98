"""One authorised request: proved, allowed, within its rate, and in a transaction that sees its workspace only."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog
from anyio.to_thread import run_sync
from fastapi import Request
from sqlalchemy import Connection

from ingest.domain.access import Principal, may, require
from ingest.domain.refusals import Conflict, Invalid, NotProved, TooMany
from ingest.runtime import Runtime
from ingest.store.audit import add_audit_entry
from ingest.store.idempotency import KeptAnswer, claim_key, keep_answer
from ingest.store.unit_of_work import UnitOfWork
from ingest.store.wall import enter_workspace
from ingest.web.api.limits import STATE_KEY, Allowance, Buckets
from ingest.web.api.proof import TokenCheck, bearer_token

log = structlog.get_logger()

MAX_IDEMPOTENCY_KEY = 255
# Wrong tokens from one address, a second.
FAILED_PROOFS_PER_SECOND = 20


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler works with: the unit of work, and who asks. `base_url` and `path` are as the client called us."""

    uow: UnitOfWork
    principal: Principal
    base_url: str
    path: str
    user_agent: str
    runtime: Runtime
    # Another transaction behind the same wall, for answers that are sent after this one has ended.
    reopen: Callable[[], AbstractContextManager[Connection]]

    @property
    def tx(self) -> Connection:
        """The transaction: committed before the answer goes out, rolled back when the handler raises."""
        return self.uow.tx

    @property
    def workspace_id(self) -> int:
        """The workspace of whoever asks."""
        return self.principal.workspace_id

    @property
    def secret_key(self) -> str:
        """The installation's newest secret key."""
        return self.runtime.settings.secret_keys[0]

    @property
    def now(self) -> datetime:
        """The time the call counts from, aware UTC."""
        return self.uow.now

    def audit(self, action: str, *target_ids: int, **data: object) -> None:
        """Add a line to the audit log: ids, counts and names of fields only."""
        add_audit_entry(self.tx, self.principal, action, target_ids=target_ids, data=data)


@dataclass(frozen=True, slots=True)
class Access:
    """A proved and permitted request that has not begun its work yet."""

    gate: "Gate"
    principal: Principal
    request: Request

    @contextmanager
    def begin(self) -> Iterator[Call]:
        """Give the call, in a transaction behind the wall of its workspace; commit at the end and ring."""
        runtime = self.gate.runtime
        with runtime.unit_of_work() as uow:
            enter_workspace(uow.tx, self.principal.workspace_id)
            yield Call(
                uow,
                self.principal,
                runtime.settings.public_url,
                self.request.url.path,
                self.request.headers.get("user-agent", ""),
                runtime,
                self._reopen,
            )

    @contextmanager
    def _reopen(self) -> Iterator[Connection]:
        with self.gate.runtime.begin() as tx:
            enter_workspace(tx, self.principal.workspace_id)
            yield tx

    def idempotency_key(self) -> str | None:
        """Return the call's idempotency key, if it has one. Raises Invalid for one that is too long."""
        key = self.request.headers.get("idempotency-key", "").strip()
        if len(key) > MAX_IDEMPOTENCY_KEY or "\0" in key:
            raise Invalid(f"at most {MAX_IDEMPOTENCY_KEY} characters", field="Idempotency-Key")
        # Keys of different tokens are strangers to each other.
        return f"{self.principal.token_id}:{key}" if key else None

    def fingerprint(self, body: bytes) -> bytes:
        """Return a hash of what is asked: by whom, where, with what."""
        parts = (str(self.principal.token_id), self.request.method, str(self.request.url), body.hex())
        return hashlib.sha256("\n".join(parts).encode()).digest()


class Gate:
    """Lets requests in: checks token, permission and rate. One a process."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._buckets = Buckets()
        self._failures = Buckets()
        self._tokens: TokenCheck | None = None

    async def admit(self, request: Request, action: str) -> Access:
        """Return the request's access. Raises NotProved, NotAllowed (with an audit line) or TooMany, in this order."""
        principal = await self._prove(request)
        if not may(principal, action):
            await run_sync(self._refuse, principal, action)
        self._count(request, principal)
        return Access(self, principal, request)

    async def _prove(self, request: Request) -> Principal:
        if self._tokens is None:
            self._tokens = TokenCheck(self.runtime.engine)
        try:
            token = bearer_token(request.headers.get("authorization"))
            if (principal := self._tokens.remembered(token)) is not None:
                return principal
            return await run_sync(self._tokens.look_up, token)
        except NotProved:
            address = request.client.host if request.client else ""
            told = self._failures.take(address, FAILED_PROOFS_PER_SECOND)
            setattr(request.state, STATE_KEY, told)
            if told.is_exceeded:
                raise _too_many(told) from None
            raise

    def _refuse(self, principal: Principal, action: str) -> None:
        with self.runtime.begin() as tx:
            enter_workspace(tx, principal.workspace_id)
            add_audit_entry(tx, principal, action, outcome="refused")
        log.info("call.refused", workspace_id=principal.workspace_id, action=action, role=principal.role)
        require(principal, action)

    def _count(self, request: Request, principal: Principal) -> None:
        route = request.scope["route"]
        key = (principal.workspace_id, request.method, getattr(route, "name", ""))
        told = self._buckets.take(key, principal.requests_per_second)
        setattr(request.state, STATE_KEY, told)
        if told.is_exceeded:
            raise _too_many(told)


def _too_many(told: Allowance) -> TooMany:
    return TooMany(
        f"more than {told.limit} calls a second: wait {told.wait_seconds} s",
        details={"retry_after": told.wait_seconds},
    )


def replay(call: Call, key: str, fingerprint: bytes) -> KeptAnswer | None:
    """Return the answer that a call under this key got before, or None when this is the first.

    Raises Conflict when the key was used for another call.
    """
    kept = claim_key(call.tx, call.workspace_id, key, fingerprint)
    if kept is not None and kept.fingerprint != fingerprint:
        raise Conflict("this Idempotency-Key was used for another call", word="idempotency_key_reused")
    return kept


def keep(call: Call, key: str, status: int, body: bytes) -> None:
    """Keep the answer under its key, in the call's own transaction."""
    keep_answer(call.tx, call.workspace_id, key, status, body)
