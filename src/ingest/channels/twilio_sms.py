"""Twilio SMS and MMS: one message per form POST, proved by a signature over the URL and the fields.

Source: Twilio, "Incoming message webhook", "Advanced Opt-Out", "Message status callbacks".
"""

import binascii

from ingest.channels import twilio
from ingest.channels.base import Adapter, Setting, Webhook
from ingest.channels.fields import text_in
from ingest.channels.sms import WORD_SETTINGS, phone_in, with_opt_event
from ingest.domain.events import InboundEvent, Message, Sender

# "A few dozen": shorter texts that happen to be base64 are somebody's words.
SHORTEST_BASE64 = 48


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the message, or the status of an outgoing one, and an opt_out or opt_in where the text or Twilio says so.

    `sent_at` is None for a message: Twilio sends no time. Raises BadPayload without message id or address.
    """
    return twilio.parse(hook, _read_message)


def _read_message(fields: twilio.Fields, hook: Webhook) -> list[InboundEvent]:
    event = _message(fields, hook)
    # Where Advanced Opt-Out is on, Twilio decides which words count, and has answered them already.
    if "OptOutType" in fields:
        return twilio.with_opt_out_type(event, fields)
    return with_opt_event(event, hook.settings)


def _message(fields: twilio.Fields, hook: Webhook) -> InboundEvent:
    address = twilio.address_in(fields, "From")
    attachments = twilio.attachments_in(fields)
    body = fields.get("Body", "")
    phone = phone_in(twilio.bare(address))
    text = _decoded(body)
    return InboundEvent(
        "message",
        twilio.message_sid(fields),
        twilio.account_in(fields, "To"),
        # The country is that of the number plan, so it says nothing of a sender who is no number.
        Sender(address, phone=phone, country_code=text_in(fields, "FromCountry") if phone else None),
        sent_at=twilio.sent_at(fields, hook.received_at),
        message=Message(
            twilio.media_message_kind(attachments),
            text,
            attachments,
            details={} if text == body else {"raw_text": body},
        ),
    )


def _decoded(body: str) -> str:
    """Return the text of a body that arrived as base64, which some long messages do; any other body as it is."""
    if len(body) < SHORTEST_BASE64 or not body.isascii():
        return body
    try:
        text = binascii.a2b_base64(body, strict_mode=True).decode()
    except ValueError:
        return body
    return text if all(each.isprintable() or each in "\r\n\t" for each in text) else body


ADAPTER = Adapter(
    "twilio_sms",
    twilio.verify,
    parse,
    settings=(
        twilio.AUTH_TOKEN,
        Setting("number", "Our number, +E.164; leave empty for a messaging service with several", required=False),
        *WORD_SETTINGS,
    ),
    answer=twilio.ANSWER,
    account_setting="number",
    address_kind="phone",
    startable=True,
    source="twilio",
)
