"""WhatsApp through Twilio: the form of an SMS with prefixed addresses and more kinds of message.

Source: Twilio, "Incoming message webhook" (WhatsApp parameters), "WhatsApp message types" and the business-scoped user ids.
"""

from dataclasses import replace

from ingest.channels import twilio
from ingest.channels.base import Adapter, Setting, Webhook
from ingest.channels.fields import text_in
from ingest.channels.sms import phone_in
from ingest.domain.events import JSON, Attachment, InboundEvent, Message, MessageKind, Sender

PREFIX = "whatsapp:"

# Kinds that the fields themselves tell apart; any other MessageType is one that we do not know yet.
_READABLE = {
    "",
    "text",
    "image",
    "audio",
    "video",
    "document",
    "sticker",
    "location",
    "contacts",
    "button",
    "interactive",
}
_FORWARDS = {"Forwarded": "forwarded", "FrequentlyForwarded": "frequently_forwarded"}
_REFERRAL = {
    "ReferralBody": "body",
    "ReferralHeadline": "headline",
    "ReferralSourceType": "source_type",
    "ReferralSourceId": "source_id",
    "ReferralSourceUrl": "source_url",
    "ReferralMediaUrl": "media_url",
    "ReferralCtwaClid": "ctwa_clid",
}


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the message, or the status of an outgoing one, and an opt_out or opt_in where Twilio says so.

    A text such as "STOP" is only a text here: WhatsApp has no such words. `sent_at` is None for a message. Raises
    BadPayload without message id or address.
    """
    return twilio.parse(hook, _read_message)


def _read_message(fields: twilio.Fields, hook: Webhook) -> list[InboundEvent]:
    event = InboundEvent(
        "message",
        twilio.message_sid(fields),
        twilio.account_in(fields, "To"),
        _sender(fields),
        sent_at=twilio.sent_at(fields, hook.received_at),
        message=_message(fields),
    )
    return twilio.with_opt_out_type(event, fields)


def _sender(fields: twilio.Fields) -> Sender:
    """Return the person, whom Twilio may name by phone, by the id that hides the phone, or by both."""
    address = twilio.address_in(fields, "From")
    user_id = text_in(fields, "ExternalUserId", "ExternalUserIdentifier")
    digits = text_in(fields, "WaId")
    # A sender that serves WhatsApp only may leave the prefix out of From.
    others = [f"{PREFIX}{twilio.bare(address)}", user_id and f"{PREFIX}{twilio.bare(user_id)}", digits]
    return Sender(
        address,
        aliases=tuple(dict.fromkeys(other for other in others if other and other != address)),
        phone=phone_in(twilio.bare(address)) or phone_in(digits or "", plus=False),
        display_name=text_in(fields, "ProfileName"),
    )


def _message(fields: twilio.Fields) -> Message:
    attachments = _attachments(fields)
    kind, payload = _kind(fields)
    return Message(
        twilio.media_message_kind(attachments) if kind == "text" else kind,
        # The label of a tapped button is what the person said.
        text_in(fields, "ButtonText", "ListTitle") or fields.get("Body", ""),
        attachments,
        location=twilio.location_in(fields),
        reply_to=text_in(fields, "OriginalRepliedMessageSid"),
        payload=payload,
        referral=_referral(fields),
        raw_kind=fields["MessageType"] if kind == "unsupported" else None,
        details={ours: True for theirs, ours in _FORWARDS.items() if fields.get(theirs, "").lower() == "true"},
    )


def _attachments(fields: twilio.Fields) -> tuple[Attachment, ...]:
    found = twilio.attachments_in(fields)
    if fields.get("MessageType", "").lower() != "sticker":
        return found
    # By its media type alone a sticker would be a picture.
    return tuple(replace(each, kind="sticker") for each in found)


def _kind(fields: twilio.Fields) -> tuple[MessageKind, str | None]:
    """Return the kind that the fields show, with the machine value behind it; "text" stands for text and media."""
    if "ButtonText" in fields or "ButtonPayload" in fields:
        return "button", text_in(fields, "ButtonPayload")
    if "ListId" in fields:
        return "interactive", text_in(fields, "ListId")
    if "InteractiveData" in fields:
        return "form", text_in(fields, "InteractiveData")
    if twilio.location_in(fields):
        return "location", None
    known = fields.get("MessageType", "").lower() in _READABLE
    return ("text" if known else "unsupported"), None


def _referral(fields: twilio.Fields) -> JSON | None:
    found = {ours: text for theirs, ours in _REFERRAL.items() if (text := text_in(fields, theirs))}
    return found or None


ADAPTER = Adapter(
    "twilio_whatsapp",
    twilio.verify,
    parse,
    settings=(twilio.AUTH_TOKEN, Setting("number", "Our WhatsApp number, +E.164 without prefix", required=False)),
    answer=twilio.ANSWER,
    account_setting="number",
    address_kind="phone",
    startable=True,
    source="twilio_whatsapp",
)
