"""A small world for the tests of acts on contacts: one workspace, two channels, contacts with what they have."""

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, text

from ingest.domain.contact_keys import email_key, match_key, phone_key
from ingest.store.unit_of_work import UnitOfWork

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROFILE = ("first_name", "last_name", "phone", "email", "country_code", "language", "assignee_id", "lifecycle_id")


@dataclass
class World:
    """Makes rows for the tests and reads them back. Time moves on by a second with every unit of work."""

    tx: Connection
    workspace_id: int = 0
    channel_ids: tuple[int, ...] = ()
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    now: datetime = START

    def __post_init__(self) -> None:
        if not self.workspace_id:
            self.workspace_id = self.scalar("insert into workspace (name) values ('Acts') returning id")
        if not self.channel_ids:
            self.channel_ids = tuple(self.make_channel(code) for code in ("whatsapp_cloud", "telegram"))

    def rows(self, sql: str, **given: Any) -> list[Any]:
        """Return the statement's rows; `:workspace_id` is given."""
        return list(self.tx.execute(text(sql), {"workspace_id": self.workspace_id, **given}))

    def scalar(self, sql: str, **given: Any) -> Any:
        """Return the statement's one value."""
        return self.tx.execute(text(sql), {"workspace_id": self.workspace_id, **given}).scalar()

    def run(self, sql: str, **given: Any) -> int:
        """Run the statement and return how many rows it touched."""
        return self.tx.execute(text(sql), {"workspace_id": self.workspace_id, **given}).rowcount

    def uow(self, seconds: float = 1) -> UnitOfWork:
        """Return a unit of work on the world's transaction, `seconds` later than the one before."""
        self.now += timedelta(seconds=seconds)
        return UnitOfWork(self.tx, self.now)

    def make_channel(self, code: str) -> int:
        """Return a new channel's id."""
        return int(
            self.scalar(
                "insert into channel (workspace_id, code, name) values (:workspace_id, :code, :code) returning id",
                code=code,
            )
        )

    def make_contact(self, *, channel: int | None = 0, conversation: str | None = None, **profile: Any) -> int:
        """Return a new contact's id; with an identity on `channel` (an index), keys, and a conversation of that status."""
        values = {"source": "channel", "first_name": "", **profile}
        names = ", ".join(values)
        contact_id = self.scalar(
            f"insert into contact (workspace_id, created_at, {names}) values (:workspace_id, :now, "
            f"{', '.join(f':{name}' for name in values)}) returning id",
            now=self.now,
            **values,
        )
        if channel is not None:
            self.make_identity(contact_id, channel)
        for key in filter(None, (profile.get("phone") and phone_key(profile["phone"]), profile.get("email"))):
            self.make_key(contact_id, key if key.startswith("tel:") else email_key(key))
        if conversation:
            self.make_conversation(contact_id, conversation)
        return int(contact_id)

    def make_identity(self, contact_id: int, channel: int = 0, address: str | None = None) -> int:
        """Return a new identity's id."""
        return int(
            self.scalar(
                "insert into identity (workspace_id, channel_id, address, contact_id, origin_contact_id, connected_at) "
                "values (:workspace_id, :channel_id, :address, :contact_id, :contact_id, :now) returning id",
                channel_id=self.channel_ids[channel],
                address=address or f"sender-{next(self.numbers)}-{uuid4().hex[:6]}",
                contact_id=contact_id,
                now=self.now,
            )
        )

    def make_key(self, contact_id: int, key: str, is_primary: bool = True) -> None:
        """Give the contact a key."""
        self.run(
            "insert into contact_key (workspace_id, contact_id, key, match_key, is_primary, origin_contact_id) "
            "values (:workspace_id, :contact_id, :key, :match_key, :is_primary, :contact_id)",
            contact_id=contact_id,
            key=key,
            match_key=match_key(key),
            is_primary=is_primary,
        )

    def make_conversation(self, contact_id: int, status: str = "open") -> int:
        """Return a new conversation's id; it becomes the contact's current one."""
        conversation_id = self.scalar(
            "insert into conversation (workspace_id, contact_id, origin_contact_id, status, opened_at, opened_source) "
            "values (:workspace_id, :contact_id, :contact_id, :status, :now, 'contact') returning id",
            contact_id=contact_id,
            status=status,
            now=self.now,
        )
        self.run(
            "update contact set status = :status, conversation_id = :id "
            "where workspace_id = :workspace_id and id = :contact_id",
            status=status,
            id=conversation_id,
            contact_id=contact_id,
        )
        return int(conversation_id)

    def make_message(self, contact_id: int, words: str = "Hello", traffic: str = "incoming", **values: Any) -> int:
        """Return a new message's id, sent a second after the last thing that happened."""
        self.now += timedelta(seconds=1)
        values = {"sent_at": self.now, "channel_id": self.channel_ids[0], **values}
        names = ", ".join(values)
        message_id = self.scalar(
            "insert into message (workspace_id, contact_id, origin_contact_id, conversation_id, external_hash, traffic, "
            f"source, kind, text, accepted_at, {names}) "
            "select :workspace_id, id, id, conversation_id, :hash, :traffic, 'contact', 'text', :words, :now, "
            f"{', '.join(f':{name}' for name in values)} "
            "from contact where workspace_id = :workspace_id and id = :contact_id returning id",
            contact_id=contact_id,
            hash=uuid4(),
            traffic=traffic,
            words=words,
            now=self.now,
            **values,
        )
        self.run(
            "update contact set last_message_at = :sent_at, last_channel_id = :channel_id, last_incoming_at = "
            "case when :traffic = 'incoming' then :sent_at else last_incoming_at end "
            "where workspace_id = :workspace_id and id = :contact_id",
            contact_id=contact_id,
            traffic=traffic,
            **{name: values[name] for name in ("sent_at", "channel_id")},
        )
        return int(message_id)

    def make_tag(self, name: str, *contact_ids: int) -> int:
        """Return the tag's id, made if need be and put on the contacts."""
        tag_id = self.scalar(
            "select id from tag where workspace_id = :workspace_id and name = :name", name=name
        ) or self.scalar("insert into tag (workspace_id, name) values (:workspace_id, :name) returning id", name=name)
        for contact_id in contact_ids:
            self.run(
                "insert into contact_tag (workspace_id, contact_id, tag_id, source, created_at) "
                "values (:workspace_id, :contact_id, :tag_id, 'user', :now) on conflict do nothing",
                contact_id=contact_id,
                tag_id=tag_id,
                now=self.now,
            )
        return int(tag_id)

    def make_suggestion(self, one: int, other: int, keys: list[str], kind: str = "exact") -> int:
        """Return the id of a new open suggestion."""
        return int(
            self.scalar(
                "insert into merge_suggestion (workspace_id, low_contact_id, high_contact_id, kind, keys) "
                "values (:workspace_id, :low, :high, :kind, :keys) returning id",
                low=min(one, other),
                high=max(one, other),
                kind=kind,
                keys=keys,
            )
        )

    def make_run(self, contact_id: int, definition: dict[str, Any] | None = None, name: str = "Ask") -> int:
        """Return the id of an active run that waits for an answer."""
        workflow_id = self.scalar(
            "insert into workflow (workspace_id, name, state, published_version) "
            "values (:workspace_id, :name, 'published', 1) "
            "on conflict (workspace_id, name) do update set state = 'published' returning id",
            name=name,
        )
        self.run(
            "insert into workflow_version (workspace_id, workflow_id, version, trigger_kind, definition) "
            "values (:workspace_id, :id, 1, 'manual', cast(:definition as jsonb)) on conflict do nothing",
            id=workflow_id,
            definition=json.dumps(definition or {}),
        )
        return int(
            self.scalar(
                "insert into workflow_run (workspace_id, workflow_id, version, contact_id, waits_for, wait_number) "
                "values (:workspace_id, :workflow_id, 1, :contact_id, 'answer', 1) returning id",
                workflow_id=workflow_id,
                contact_id=contact_id,
            )
        )

    def contact(self, contact_id: int) -> Any:
        """Return the contact's row."""
        return self.rows("select * from contact where workspace_id = :workspace_id and id = :id", id=contact_id)[0]

    def events(self, contact_id: int) -> list[tuple[str, str]]:
        """Return the contact's events as (kind, source), oldest first."""
        found = self.rows(
            "select kind, source from contact_event where workspace_id = :workspace_id and contact_id = :id order by id",
            id=contact_id,
        )
        return [(row.kind, row.source) for row in found]

    def jobs(self, name: str) -> list[dict[str, Any]]:
        """Return the arguments of the waiting jobs of that name, oldest first."""
        return [
            row.args
            for row in self.rows(
                "select args from job where workspace_id = :workspace_id and name = :name order by id", name=name
            )
        ]

    def timers(self) -> list[tuple[int, datetime]]:
        """Return whose snoozed conversations wait to wake, and until when, oldest first."""
        found = self.rows(
            "select args, due_at from job where workspace_id = :workspace_id and name = 'end_snooze' order by id"
        )
        return [(row.args["contact_id"], row.due_at) for row in found]
