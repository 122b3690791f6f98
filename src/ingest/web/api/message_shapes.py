"""Messages as clients of the contract read them: our stored kinds in the contract's words."""

from typing import Any, Literal

from pydantic import Field

from ingest.store.views.messages import MessageView
from ingest.web.api.shapes import Shape, seconds

ATTACHMENT_TYPES = {"image": "image", "sticker": "image", "video": "video", "audio": "audio", "voice": "audio"}
STORED_KINDS = frozenset({*ATTACHMENT_TYPES, "file"})
TYPES = {
    "text": "text",
    "button": "text",
    "postback": "text",
    "location": "location",
    "email": "email",
    "interactive": "whatsapp_interactive",
    "form": "whatsapp_interactive",
    "order": "whatsapp_order",
    "story": "story_reply",
}
SENDER_SOURCES = {"channel": "echo"}


class StatusShape(Shape):
    """One step of an outgoing message's way."""

    value: str
    timestamp: int
    message: str | None = None


class SenderShape(Shape):
    """Who sent it."""

    source: str
    user_id: int | None = None
    team_id: int | None = None
    workflow_id: int | None = None
    broadcast_history_id: int | None = None


class ReactionShape(Shape):
    """An emoji on a message; "" where it was taken off again."""

    emoji: str
    by: str
    timestamp: int


class MessageShape(Shape):
    """A message. Times are unix seconds."""

    message_id: int
    channel_message_id: str | None = Field(description="The provider's id; null until known.")
    contact_id: int
    channel_id: int
    traffic: Literal["incoming", "outgoing"]
    message: dict[str, Any] = Field(description="The content; `type` says which fields it has.")
    status: list[StatusShape] = Field(description="Oldest first; empty for incoming messages.")
    sender: SenderShape
    reply_to: str | None = None
    timestamp: int
    accepted_at: int
    conversation_id: int | None
    origin_contact_id: int = Field(description="Whose it was when it came; differs after a merge.")
    is_late: bool
    edited_at: int | None
    deleted_at: int | None
    reactions: list[ReactionShape]


def read_message(message: MessageView) -> MessageShape:
    """Return the message as clients read it."""
    content = message.content or {}
    return MessageShape(
        message_id=message.id,
        channel_message_id=message.external_id,
        contact_id=message.contact_id,
        channel_id=message.channel_id,
        traffic="incoming" if message.traffic == "incoming" else "outgoing",
        message=message_body(message),
        status=_statuses(message),
        sender=_sender(message, content),
        reply_to=content.get("reply_to"),
        timestamp=seconds(message.sent_at) or 0,
        accepted_at=seconds(message.accepted_at) or 0,
        conversation_id=message.conversation_id,
        origin_contact_id=message.origin_contact_id,
        is_late=message.is_late,
        edited_at=seconds(message.edited_at),
        deleted_at=seconds(message.deleted_at),
        reactions=[
            ReactionShape(emoji=each["value"], by=each["actor"], timestamp=each["at"])
            for each in message.effects
            if each["kind"] == "reaction"
        ],
    )


def message_body(message: MessageView) -> dict[str, Any]:
    """Return the content in the contract's kinds. What ours says beyond them stands beside, under its own name."""
    content = message.content or {}
    if isinstance(content.get("body"), dict) and "type" in content["body"]:
        # Composed by us: kept as it was asked for.
        return dict(content["body"])
    body = {**_typed(message, content), **_beside(content)}
    if body["type"] != message.kind:
        body["kind"] = message.kind
    return body


def _typed(message: MessageView, content: dict[str, Any]) -> dict[str, Any]:
    attachments = [read_attachment(each) for each in content.get("attachments", ())]
    body: dict[str, Any] = {"type": TYPES.get(message.kind, "unsupported"), "text": message.text}
    if message.kind in STORED_KINDS and attachments:
        return {**body, "type": "attachment", "attachment": attachments[0], "attachments": attachments}
    if message.kind == "location":
        return {**body, **(content.get("location") or {})}
    if message.kind == "email":
        return {**body, "subject": content.get("subject"), "attachments": attachments}
    return {**body, "attachments": attachments} if attachments else body


def _beside(content: dict[str, Any]) -> dict[str, Any]:
    names = {"payload": "payload", "contacts": "contacts", "referral": "referral", "raw_kind": "rawKind"}
    return {shown: content[name] for name, shown in names.items() if content.get(name)}


def read_attachment(attachment: dict[str, Any]) -> dict[str, Any]:
    """Return a stored attachment in the contract's words."""
    name = attachment.get("name")
    return {
        "type": ATTACHMENT_TYPES.get(attachment.get("kind", ""), "file"),
        "url": attachment.get("url"),
        "fileName": name,
        "ext": name.rpartition(".")[2] if name and "." in name else None,
        "size": attachment.get("size"),
        "mime": attachment.get("mime_type"),
        "isPending": attachment.get("state") == "pending",
    }


def _statuses(message: MessageView) -> list[StatusShape]:
    if message.traffic == "incoming":
        return []
    told = [
        StatusShape(value=each["value"], timestamp=each["at"], message=(each["content"] or {}).get("error"))
        for each in message.effects
        if each["kind"] == "status"
    ]
    return [StatusShape(value="pending", timestamp=seconds(message.accepted_at) or 0), *told]


def _sender(message: MessageView, content: dict[str, Any]) -> SenderShape:
    if message.traffic == "incoming":
        return SenderShape(source="contact")
    sender = content.get("sender") or {}
    return SenderShape(
        source=SENDER_SOURCES.get(message.source, message.source),
        user_id=sender.get("user_id"),
        team_id=sender.get("team_id"),
        workflow_id=sender.get("workflow_id"),
    )
