"""Comparator *naive*: one Celery task a webhook, as everybody writes it first.

The web process checks the signature and sends the body to Celery; a task finds or creates the contact with SQLAlchemy's
ORM, opens the conversation, stores the message, looks for other contacts with the same number, and commits. Late
acknowledgement, the same PostgreSQL and the same Valkey.
"""

import hmac
import json
import os
from datetime import UTC, datetime

from celery import Celery
from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, String, UniqueConstraint, create_engine, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from benchmarks.bodies import SECRET

celery = Celery("naive", broker=os.environ.get("BROKER_URL", ""))
celery.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    task_default_queue="naive",
)
if seconds := os.environ.get("NAIVE_VISIBILITY_SECONDS"):
    # The fault matrix cannot wait an hour for what a lost worker held.
    quick = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    celery.conf.broker_transport_options = {"visibility_timeout": int(seconds), **quick}
engine = create_engine(os.environ.get("DATABASE_URL", "postgresql+psycopg://"), pool_size=4)


class Base(DeclarativeBase):
    """The comparator's tables."""


class Contact(Base):
    """A person."""

    __tablename__ = "naive_contact"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String)
    phone: Mapped[str] = mapped_column(String, index=True)
    status: Mapped[str] = mapped_column(String, default="open")
    is_blocked: Mapped[bool] = mapped_column(default=False)
    last_message_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class ContactIdentity(Base):
    """A person's address on the channel."""

    __tablename__ = "naive_identity"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    channel_id: Mapped[int]
    address: Mapped[str]
    contact_id: Mapped[int] = mapped_column(ForeignKey("naive_contact.id"))
    __table_args__ = (UniqueConstraint("channel_id", "address"),)


class Conversation(Base):
    """A thread."""

    __tablename__ = "naive_conversation"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("naive_contact.id"), index=True)
    status: Mapped[str] = mapped_column(String, default="open")


class Message(Base):
    """A stored message."""

    __tablename__ = "naive_message"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    channel_id: Mapped[int]
    external_id: Mapped[str]
    contact_id: Mapped[int] = mapped_column(ForeignKey("naive_contact.id"))
    conversation_id: Mapped[int] = mapped_column(ForeignKey("naive_conversation.id"))
    text: Mapped[str]
    sent_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    __table_args__ = (UniqueConstraint("channel_id", "external_id"), Index("ix_naive_message", "contact_id", "sent_at"))


class Suggestion(Base):
    """Two people with one number."""

    __tablename__ = "naive_suggestion"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    one: Mapped[int]
    other: Mapped[int]


@celery.task(name="naive.store", autoretry_for=(IntegrityError,), retry_backoff=False, default_retry_delay=0)
def store(body: str) -> None:
    """Do everything that a message asks for, in one transaction."""
    for entry in json.loads(body)["entry"]:
        for change in entry["changes"]:
            value = change["value"]
            names = {each["wa_id"]: each["profile"]["name"] for each in value["contacts"]}
            for item in value["messages"]:
                with Session(engine) as session, session.begin():
                    _store(session, item, names[item["from"]])


def _store(session: Session, item: dict, name: str) -> None:
    if session.scalar(select(Message.id).where(Message.channel_id == 1, Message.external_id == item["id"])):
        return
    identity = session.scalar(
        select(ContactIdentity).where(ContactIdentity.channel_id == 1, ContactIdentity.address == item["from"])
    )
    is_new = identity is None
    if identity is None:
        contact = Contact(name=name, phone="+" + item["from"])
        session.add(contact)
        session.flush()
        session.add(ContactIdentity(channel_id=1, address=item["from"], contact_id=contact.id))
    else:
        contact = session.get_one(Contact, identity.contact_id, with_for_update=True)
    if contact.is_blocked:
        return
    conversation = session.scalar(
        select(Conversation).where(Conversation.contact_id == contact.id, Conversation.status == "open")
    )
    if conversation is None:
        conversation = Conversation(contact_id=contact.id)
        session.add(conversation)
        session.flush()
    sent_at = datetime.fromtimestamp(int(item["timestamp"]), UTC)
    session.add(
        Message(
            channel_id=1,
            external_id=item["id"],
            contact_id=contact.id,
            conversation_id=conversation.id,
            text=item["text"]["body"],
            sent_at=sent_at,
        )
    )
    contact.last_message_at = max(contact.last_message_at or sent_at, sent_at)
    if is_new:
        _suggest(session, contact)


def _suggest(session: Session, contact: Contact) -> None:
    for other in session.scalars(select(Contact).where(Contact.phone == contact.phone, Contact.id != contact.id)):
        known = select(Suggestion.id).where(
            or_((Suggestion.one == other.id), (Suggestion.other == other.id)), Suggestion.other == contact.id
        )
        if session.scalar(known) is None:
            session.add(Suggestion(one=other.id, other=contact.id))


async def receive(request: Request) -> Response:
    """Check the signature and pass the body on."""
    body = await request.body()
    signature = "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()
    if not hmac.compare_digest(signature, request.headers.get("x-hub-signature-256", "")):
        return PlainTextResponse("bad signature", 401)
    store.delay(body.decode())
    return PlainTextResponse("ok")


app = Starlette(routes=[Route("/webhooks/1", receive, methods=["POST"])])


def create_tables() -> None:
    """Make the comparator's tables anew."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
