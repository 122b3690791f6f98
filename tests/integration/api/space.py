"""A workspace of a test's own, with clients for its roles and builders for what it holds."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, text
from starlette.testclient import TestClient

from ingest.domain.messages import external_hash
from ingest.jobs.publisher import NoPublisher
from ingest.jobs.transfer_types import BulkBatch, ExportBatch, ImportBatch
from ingest.jobs.types import read_job
from ingest.pipeline.administer import create_token
from ingest.pipeline.transfer_bulk import bulk_batch
from ingest.pipeline.transfer_export import export_batch
from ingest.pipeline.transfer_import import import_batch
from ingest.runtime import Runtime
from ingest.store.unit_of_work import UnitOfWork

SECRET_KEY = "not-a-real-key"
ROOT = "/api/v2"
numbers = itertools.count(1)
STEPS: dict[str, Any] = {
    ImportBatch.name: import_batch,
    ExportBatch.name: export_batch,
    BulkBatch.name: bulk_batch,
}


class QuietRuntime(Runtime):
    """A runtime without a broker: jobs stay in their rows, where tests look at them."""

    publisher = NoPublisher()  # type: ignore[assignment]


class Space:
    """A workspace. `owner`, `manager` and `agent` are clients; `call` asks as the owner and checks the status."""

    def __init__(self, runtime: Runtime, app: Any) -> None:
        self.runtime = runtime
        self._app = app
        with runtime.begin() as tx:
            self.id: int = tx.execute(
                text("insert into workspace (name, settings) values ('Test', :settings) returning id"),
                {"settings": json.dumps({"api_requests_per_second": 100_000})},
            ).scalar_one()
        self.owner = self.client("owner")
        self.manager = self.client("manager")
        self.agent = self.client("agent")

    def token(self, role: str = "owner", user_id: int | None = None) -> str:
        """Return a new token."""
        with self.runtime.begin() as tx:
            token = create_token(tx, self.id, role, "", SECRET_KEY)
            tx.execute(
                text("update api_token set user_id = :user_id where digest = :digest"),
                {"user_id": user_id, "digest": hashlib.sha256(token.encode()).digest()},
            )
        return token

    def client(self, role: str = "owner", user_id: int | None = None, **headers: str) -> TestClient:
        """Return a client with a new token of the role."""
        client = TestClient(self._app, raise_server_exceptions=False)
        client.headers["Authorization"] = f"Bearer {self.token(role, user_id)}"
        client.headers.update(headers)
        return client

    def call(self, method: str, path: str, body: Any = None, status: int = 200, client: Any = None) -> Any:
        """Return the answer's JSON; the call is the owner's unless another client is given."""
        kept = {} if body is None else {"json": body}
        answer = (client or self.owner).request(method, f"{ROOT}{path}", **kept)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        """Give a transaction that sees every workspace."""
        with self.runtime.begin() as tx:
            yield tx

    @contextmanager
    def uow(self) -> Iterator[UnitOfWork]:
        """Give a unit of work, as a worker has it."""
        with self.runtime.unit_of_work() as uow:
            yield uow

    def rows(self, statement: str, **given: Any) -> list[Any]:
        """Return the rows of a statement in which :w is this workspace."""
        with self.tx() as tx:
            return list(tx.execute(text(statement), {"w": self.id, **given}))

    def run(self, statement: str, **given: Any) -> None:
        """Execute a statement in which :w is this workspace."""
        with self.tx() as tx:
            tx.execute(text(statement), {"w": self.id, **given})

    def jobs(self, name: str) -> list[dict[str, Any]]:
        """Return the arguments of the waiting jobs of that name."""
        return [
            row.args
            for row in self.rows("select args from job where workspace_id = :w and name = :name order by id", name=name)
        ]

    def contact(self, **fields: Any) -> int:
        """Make a contact through the API and return its id."""
        phone = fields.pop("phone", None) or f"+6012{next(numbers):07d}"
        fields.setdefault("firstName", "Ann")
        return int(self.call("POST", f"/contact/phone:{phone}", fields)["contactId"])

    def contact_without_phone(self) -> int:
        """Make a contact that has an email alone, through the API, and return its id."""
        return int(self.call("POST", f"/contact/email:{uuid4().hex}@example.com", {"firstName": "Ann"})["contactId"])

    def get(self, contact_id: int) -> dict[str, Any]:
        """Return the contact as the API shows it."""
        found: dict[str, Any] = self.call("GET", f"/contact/id:{contact_id}")
        return found

    def channel(self, code: str = "telegram", name: str = "Channel", account: str = "") -> int:
        """Connect a channel and return its id."""
        return int(
            self.rows(
                "insert into channel (workspace_id, code, name, account) values (:w, :code, :name, :account) returning id",
                code=code,
                name=name,
                account=account,
            )[0][0]
        )

    def connect(self, contact_id: int, channel_id: int, at: datetime | None = None) -> int:
        """Give the contact an identity on the channel and return its id."""
        return int(
            self.rows(
                "insert into identity (workspace_id, channel_id, address, contact_id, origin_contact_id, connected_at) "
                "values (:w, :channel, :address, :contact, :contact, :at) returning id",
                channel=channel_id,
                address=uuid4().hex,
                contact=contact_id,
                at=at or datetime.now(UTC),
            )[0][0]
        )

    def message(self, contact_id: int, channel_id: int, at: datetime | None = None, **columns: Any) -> int:
        """Store a message and return its id."""
        at = at or datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(numbers))
        external_id = uuid4().hex
        given = {
            "traffic": "incoming",
            "source": "channel",
            "kind": "text",
            "text": "hello",
            "content": None,
            "sent_at": at,
            "accepted_at": at,
            "sequence": 0,
            "external_id": external_id,
            "external_hash": external_hash(external_id),
            **columns,
        }
        if given["content"] is not None:
            given["content"] = json.dumps(given["content"])
        names = ", ".join(given)
        values = ", ".join(f"cast(:{name} as jsonb)" if name == "content" else f":{name}" for name in given)
        return int(
            self.rows(
                f"insert into message (workspace_id, contact_id, origin_contact_id, channel_id, {names}) "
                f"values (:w, :contact, :contact, :channel, {values}) returning id",
                contact=contact_id,
                channel=channel_id,
                **given,
            )[0][0]
        )

    def user(self, role: str = "agent", restrictions: list[str] | None = None, **columns: Any) -> int:
        """Add a user and return the id."""
        return int(
            self.rows(
                "insert into workspace_user (workspace_id, first_name, last_name, email, role, restrictions, team_id) "
                "values (:w, 'Uma', 'User', :email, :role, :restrictions, :team) returning id",
                email=columns.get("email") or f"user{next(numbers)}@example.com",
                role=role,
                restrictions=restrictions or [],
                team=columns.get("team_id"),
            )[0][0]
        )

    def work(self) -> int:
        """Work off the queue `transfer` of this workspace, batch by batch, as its worker does; return how many jobs."""
        done = 0
        while rows := self.rows(
            "select id, name, args from job where workspace_id = :w and queue = 'transfer' and due_at <= now() "
            "order by id limit 1"
        ):
            row = rows[0]
            with self.uow() as uow:
                job = read_job(row.name, self.id, row.args)
                STEPS[row.name](uow, job)
                uow.tx.execute(text("delete from job where id = :id"), {"id": row.id})
            done += 1
        return done
