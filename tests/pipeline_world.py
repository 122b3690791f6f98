"""The inbound pipeline in one transaction: a workspace with channels, deliveries resolved, the state read back."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from cryptography.fernet import Fernet
from sqlalchemy import Connection, text

from ingest.domain.blocks import BlockTerms
from ingest.pipeline import administer
from ingest.pipeline.block import block_contacts, unblock_contacts
from ingest.pipeline.resolve import Batch, Resolver, resolve_requests
from ingest.store.intake import RawRequest, encode_requests
from ingest.store.sealing import Sealer
from ingest.store.unit_of_work import UnitOfWork
from tests.builders import NOON, PAGE_ID, PHONE_NUMBER_ID, encode

SETTINGS: dict[str, dict[str, str]] = {
    "whatsapp_cloud": {"phone_number_id": PHONE_NUMBER_ID},
    "messenger": {"page_id": PAGE_ID},
    "webchat": {"inbox_key": "inbox-1"},
    "instagram": {"account_id": "17840000000000001"},
    "twilio_sms": {"number": "+15550199"},
}
SECRETS: dict[str, dict[str, tuple[str, ...]]] = {
    "whatsapp_cloud": {"app_secret": ("app-secret",), "verify_token": ("verify-me",)},
    "messenger": {"app_secret": ("app-secret",), "verify_token": ("verify-me",)},
    "instagram": {"app_secret": ("app-secret",), "verify_token": ("verify-me",)},
    "telegram": {"secret_token": ("telegram-secret",)},
    "webchat": {"session_key": ("session-key",)},
    "twilio_sms": {"auth_token": ("twilio-token",)},
    "custom": {"token": ("custom-token",)},
}
SEALER = Sealer([Fernet.generate_key().decode()])
FIELDS = "first_name, last_name, display_name, phone, phone_valid, email, country_code, language, avatar_url"

State = dict[str, Any]


@dataclass
class Pipeline:
    """A workspace of one test. Channels go by their code, or by the name that `add_channel` was given."""

    tx: Connection
    sealer: Sealer = SEALER
    resolver: Resolver = field(default_factory=lambda: Resolver(SEALER))
    now: datetime = NOON
    channels: dict[str, int] = field(default_factory=dict)

    @cached_property
    def workspace_id(self) -> int:
        """The test's workspace."""
        return administer.create_workspace(self.tx, "Pipeline")

    def add_channel(self, code: str, name: str = "", app_id: int | None = None, **settings: str) -> int:
        """Connect a channel of this code and return its id."""
        added = administer.add_channel(
            self.tx,
            self.workspace_id,
            code,
            name or code,
            {**SETTINGS.get(code, {}), **settings},
            SECRETS.get(code, {}) if app_id is None else {},
            self.sealer,
            app_id,
        )
        self.channels[name or code] = added.id
        return added.id

    def channel(self, name: str) -> int:
        """Return the channel of that name, connected when first asked for."""
        return self.channels.get(name) or self.add_channel(name)

    # Time and transactions

    def uow(self) -> UnitOfWork:
        """Return a unit of work on the test's transaction."""
        return UnitOfWork(self.tx, self.now)

    # Deliveries

    def request(
        self,
        channel: str,
        body: object,
        accepted_at: datetime | None = None,
        *,
        app_id: int = 0,
        content_type: str = "application/json",
    ) -> RawRequest:
        """Return the request as the edge keeps it. A dict is sent as JSON, a form's fields with their content type."""
        if isinstance(body, bytes):
            raw = body
        elif content_type.startswith("application/x-www-form"):
            raw = urlencode(body).encode()  # type: ignore[arg-type]
        else:
            raw = encode(body)
        return RawRequest(
            self.workspace_id,
            0 if app_id else self.channel(channel),
            app_id,
            accepted_at or self.now,
            os.urandom(16),
            "POST",
            "https://hooks.example.org/webhooks/1",
            {"content-type": content_type},
            raw,
        )

    def resolve(self, *requests: RawRequest) -> Batch:
        """Resolve the requests as one batch."""
        return resolve_requests(self.uow(), self.resolver, [encode_requests(requests)])

    def deliver(self, channel: str, *bodies: object, accepted_at: datetime | None = None) -> Batch:
        """Resolve requests of these bodies as one batch."""
        return self.resolve(*(self.request(channel, body, accepted_at) for body in bodies))

    def block(self, contact_id: int, at: datetime | None = None) -> None:
        """Block the contact."""
        self.now = at or self.now
        block_contacts(self.uow(), self.workspace_id, [contact_id], BlockTerms())

    def unblock(self, contact_id: int) -> None:
        """Unblock the contact."""
        unblock_contacts(self.uow(), self.workspace_id, [contact_id])

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    # What is there now

    def rows(self, statement: str, **given: Any) -> list[Any]:
        """Return the statement's rows; `:w` is the workspace's id."""
        return list(self.tx.execute(text(statement), {"w": self.workspace_id, **given}))

    def scalar(self, statement: str, **given: Any) -> Any:
        """Return the statement's one value."""
        return self.tx.execute(text(statement), {"w": self.workspace_id, **given}).scalar()

    def contact_of(self, channel: str, address: str) -> Any:
        """Return the row of the contact that owns the address, or None. One that is being deleted owns nothing."""
        return self.tx.execute(
            text(
                "select contact.* from identity join contact using (workspace_id) "
                "where identity.channel_id = :channel and identity.address = :address and contact.id = identity.contact_id "
                "and contact.deletion_job_id is null"
            ),
            {"channel": self.channel(channel), "address": address},
        ).one_or_none()

    def messages(self) -> list[Any]:
        """Return the workspace's messages as a reader of a timeline sees them."""
        return self.rows("select * from message where workspace_id = :w order by sent_at, accepted_at, sequence, id")

    def texts(self) -> list[str]:
        """Return the messages' texts in the timeline's order."""
        return [message.text for message in self.messages()]

    def count(self, table: str, where: str = "true") -> int:
        """Return how many rows the workspace has in a table."""
        return int(self.scalar(f"select count(*) from {table} where workspace_id = :w and {where}"))

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Return what became of the items, by outcome and reason; requests are left out."""
        rows = self.rows(
            "select outcome, reason, sum(count)::int from tally where workspace_id = :w "
            "and outcome not in ('accepted', 'resolved') group by 1, 2"
        )
        return {(outcome, reason): count for outcome, reason, count in rows}

    def dead_letters(self) -> list[Any]:
        """Return the workspace's dead letters."""
        return self.rows("select * from dead_letter where workspace_id = :w order by id")

    def make_contact(self, **values: Any) -> int:
        """Make a contact as by hand, with the keys of its phone and email, and return its id."""
        from ingest.domain.contact_keys import email_key, match_key, phone_key

        contact_id = self.scalar(
            "insert into contact (workspace_id, first_name, phone, email, source) "
            "values (:w, :first_name, :phone, :email, 'user') returning id",
            **{"first_name": "", "phone": None, "email": None, **values},
        )
        keys = [phone_key(values["phone"])] if values.get("phone") else []
        keys += [email_key(values["email"].lower())] if values.get("email") else []
        for key in keys:
            self.rows(
                "insert into contact_key (workspace_id, contact_id, key, match_key, origin_contact_id) "
                "values (:w, :id, :key, :match_key, :id) returning 1",
                id=contact_id,
                key=key,
                match_key=match_key(key),
            )
        return int(contact_id)

    def state(self) -> State:
        """Return everything that must not depend on the order of deliveries, free of generated ids."""
        return read_state(self)


def read_state(pipeline: Pipeline) -> State:
    """Return the workspace's state with contacts named by their addresses and messages by their provider's ids."""
    names = {number: name for name, number in pipeline.channels.items()}
    addresses: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    consent: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in pipeline.rows(
        "select identity.*, owner.address as owner from identity "
        "left join identity as owner on owner.workspace_id = identity.workspace_id and owner.id = identity.alias_of "
        "where identity.workspace_id = :w"
    ):
        addresses[row.contact_id].append((names[row.channel_id], row.address, row.owner or ""))
        consent[row.contact_id].append((row.address, row.opted_out_at, row.consent_at))
    who = {contact_id: tuple(sorted(found)) for contact_id, found in addresses.items()}
    return {
        "contacts": _contacts(pipeline, who, consent),
        "messages": _messages(pipeline, names, who),
        "dropped": {
            (names[row.channel_id], row.external_hash): (who.get(row.contact_id), row.reason)
            for row in pipeline.rows("select * from dropped_message where workspace_id = :w")
        },
        "active": sorted(
            (row.cycle_start.isoformat(), who.get(row.contact_id, ()))
            for row in pipeline.rows("select * from active_contact where workspace_id = :w")
        ),
        "waiting": sorted(
            (names[row.channel_id], str(row.target_hash), row.kind, row.value, row.actor)
            for row in pipeline.rows("select * from message_effect where workspace_id = :w and message_id is null")
        ),
        "watermarks": sorted(
            (names[row.channel_id], row.address, row.status, row.up_to)
            for row in pipeline.rows("select * from watermark where workspace_id = :w")
        ),
    }


def _contacts(pipeline: Pipeline, who: Mapping[int, Any], consent: Mapping[int, Sequence[Any]]) -> State:
    names = {number: name for name, number in pipeline.channels.items()}
    keys, conversations = defaultdict(list), defaultdict(list)
    for row in pipeline.rows("select * from contact_key where workspace_id = :w order by key"):
        keys[row.contact_id].append((row.key, row.is_verified))
    for row in pipeline.rows("select * from conversation where workspace_id = :w order by id"):
        conversations[row.contact_id].append((row.status, row.opened_source))
    found: State = {}
    for row in pipeline.rows(
        f"select id, {FIELDS}, status, blocked_at is not null as is_blocked, dropped_count, last_message_at, "
        "last_incoming_at, last_channel_id, conversation_id, provenance from contact where workspace_id = :w"
    ):
        found[who.get(row.id, ("no address", row.first_name, row.phone))] = {
            **{name: getattr(row, name) for name in FIELDS.split(", ")},
            "sources": {name: each["source"] for name, each in row.provenance.items()},
            "keys": keys[row.id],
            "status": row.status,
            "is_blocked": row.is_blocked,
            "dropped_count": row.dropped_count,
            "last": (row.last_message_at, row.last_incoming_at, names.get(row.last_channel_id)),
            "has_conversation": row.conversation_id is not None,
            "conversations": conversations[row.id],
            "consent": sorted(consent[row.id], key=str),
        }
    return found


def _messages(pipeline: Pipeline, names: Mapping[int, str], who: Mapping[int, Any]) -> State:
    reactions: dict[int, dict[str, str]] = defaultdict(dict)
    for row in pipeline.rows(
        "select * from message_effect where workspace_id = :w and kind = 'reaction' and message_id is not null "
        "order by at, effect_hash"
    ):
        reactions[row.message_id][row.actor] = row.value
    return {
        (names[row.channel_id], row.external_id): {
            "contact": who.get(row.contact_id),
            **{
                name: getattr(row, name)
                for name in ("traffic", "source", "kind", "text", "content", "sent_at", "is_late", "status")
            },
            "edited_at": row.edited_at,
            "deleted_at": row.deleted_at,
            "reactions": reactions[row.id],
        }
        for row in pipeline.messages()
    }


def in_batches(requests: Iterable[RawRequest], sizes: Sequence[int]) -> list[list[RawRequest]]:
    """Return the requests cut into batches of these sizes, the last size again and again."""
    batches: list[list[RawRequest]] = [[]]
    wanted = list(sizes) or [1]
    for request in requests:
        size = wanted[min(len(batches) - 1, len(wanted) - 1)]
        if len(batches[-1]) >= size:
            batches.append([])
        batches[-1].append(request)
    return [batch for batch in batches if batch]
