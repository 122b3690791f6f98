"""Bodies of webhook calls as providers send them, made by small functions. People and numbers in them are made up.

Every function returns the JSON body of one request, but for the `..._item` ones, which return a part of one, so that
several can share a request.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
PHONE_NUMBER_ID = "800100200300400"
PAGE_ID = "500600700800900"
JSON = dict[str, Any]


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after noon of the tests' day."""
    return NOON + timedelta(seconds=seconds)


def encode(body: object) -> bytes:
    """Return the body as it travels."""
    return json.dumps(body).encode()


# WhatsApp


def whatsapp(
    *items: JSON,
    names: Mapping[str, str] | None = None,
    user_ids: Mapping[str, str] | None = None,
    account: str = PHONE_NUMBER_ID,
    part: str = "messages",
) -> JSON:
    """Return a request with these items in one change. `names` and `user_ids` go by the sender's digits."""
    people = {item["from"] for item in items if "from" in item} | {item["to"] for item in items if "to" in item}
    contacts = [
        {
            "wa_id": digits,
            **({"profile": {"name": names[digits]}} if names and digits in names else {}),
            **({"user_id": user_ids[digits]} if user_ids and digits in user_ids else {}),
        }
        for digits in sorted(people)
    ]
    field = "messages" if part in {"messages", "statuses"} else FIELD_OF_PART[part]
    return whatsapp_entries([whatsapp_change({part: list(items), "contacts": contacts}, account, field)])


FIELD_OF_PART = {"message_echoes": "smb_message_echoes", "user_preferences": "user_preferences"}


def whatsapp_change(value: JSON, account: str = PHONE_NUMBER_ID, field: str = "messages") -> JSON:
    """Return one change of an entry."""
    metadata = {"display_phone_number": "447700900123", "phone_number_id": account}
    return {"field": field, "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}


def whatsapp_entries(*entries: Sequence[JSON]) -> JSON:
    """Return a request with these entries, each a list of changes."""
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": "700100200300400", "changes": list(changes)} for changes in entries],
    }


def whatsapp_item(sender: str, message_id: str, text: str = "hello", sent_at: datetime = NOON) -> JSON:
    """Return a text message of the sender, who is named by digits."""
    return {
        "from": sender,
        "id": message_id,
        "timestamp": str(int(sent_at.timestamp())),
        "type": "text",
        "text": {"body": text},
    }


def whatsapp_text(
    sender: str, message_id: str, text: str = "hello", sent_at: datetime = NOON, name: str | None = None
) -> JSON:
    """Return a request with one text message."""
    return whatsapp(whatsapp_item(sender, message_id, text, sent_at), names={sender: name} if name else None)


def whatsapp_scoped_text(user_id: str, message_id: str, digits: str | None = None, sent_at: datetime = NOON) -> JSON:
    """Return a request with a text of a person who goes by a business-scoped id, and perhaps by digits too."""
    item = {**whatsapp_item(digits or "", message_id, sent_at=sent_at), "from_user_id": user_id}
    if digits is None:
        del item["from"]
    return whatsapp_entries([whatsapp_change({"messages": [item]})])


def whatsapp_echo(recipient: str, message_id: str, text: str = "from our phone", sent_at: datetime = NOON) -> JSON:
    """Return a message that was typed in the business's own phone app."""
    item = {**whatsapp_item("447700900123", message_id, text, sent_at), "to": recipient}
    value = {"message_echoes": [item], "contacts": []}
    return whatsapp_entries([whatsapp_change(value, field="smb_message_echoes")])


def whatsapp_status(recipient: str, message_id: str, status: str, happened_at: datetime = NOON) -> JSON:
    """Return a status of a message that was written to the recipient."""
    item = {
        "id": message_id,
        "status": status,
        "timestamp": str(int(happened_at.timestamp())),
        "recipient_id": recipient,
    }
    return whatsapp_entries([whatsapp_change({"statuses": [item]})])


def whatsapp_edit(sender: str, target: str, text: str, edited_at: datetime = NOON) -> JSON:
    """Return an edit of the sender's message."""
    stamp = str(int(edited_at.timestamp()))
    content = {"type": "text", "text": {"body": text}}
    edit = {"original_message_id": target, "message": content}
    return whatsapp({"from": sender, "id": f"{target}.e{stamp}", "timestamp": stamp, "type": "edit", "edit": edit})


def whatsapp_unsend(sender: str, target: str, unsent_at: datetime = NOON) -> JSON:
    """Return the sender taking a message back."""
    stamp = str(int(unsent_at.timestamp()))
    revoke = {"original_message_id": target}
    return whatsapp(
        {"from": sender, "id": f"{target}.r{stamp}", "timestamp": stamp, "type": "revoke", "revoke": revoke}
    )


def whatsapp_reaction(sender: str, target: str, emoji: str, reacted_at: datetime = NOON) -> JSON:
    """Return the sender's reaction to a message; an empty emoji takes it off."""
    stamp = str(int(reacted_at.timestamp()))
    reaction = {"message_id": target, **({"emoji": emoji} if emoji else {})}
    reaction_id = f"{target}.{sender}.{stamp}"
    return whatsapp({"from": sender, "id": reaction_id, "timestamp": stamp, "type": "reaction", "reaction": reaction})


def whatsapp_preference(sender: str, wish: str, at_: datetime = NOON) -> JSON:
    """Return the sender's wish about marketing messages: stop or resume."""
    item = {"wa_id": sender, "category": "marketing_messages", "value": wish, "timestamp": int(at_.timestamp())}
    return whatsapp_entries([whatsapp_change({"user_preferences": [item]}, field="user_preferences")])


# Messenger


def messenger(*items: JSON, page: str = PAGE_ID) -> JSON:
    """Return a request with these items in one entry."""
    return {"object": "page", "entry": [{"id": page, "time": int(NOON.timestamp() * 1000), "messaging": list(items)}]}


def messenger_item(sender: str, sent_at: datetime, content: JSON, page: str = PAGE_ID) -> JSON:
    """Return one item that the sender caused."""
    return {
        "sender": {"id": sender},
        "recipient": {"id": page},
        "timestamp": int(sent_at.timestamp() * 1000),
        **content,
    }


def messenger_text(sender: str, message_id: str, text: str = "hello", sent_at: datetime = NOON) -> JSON:
    """Return a request with one text message."""
    return messenger(messenger_item(sender, sent_at, {"message": {"mid": message_id, "text": text}}))


def messenger_echo(recipient: str, message_id: str, text: str = "from the page", sent_at: datetime = NOON) -> JSON:
    """Return a message that was written in the page's own inbox."""
    item = messenger_item(PAGE_ID, sent_at, {"message": {"mid": message_id, "text": text, "is_echo": True}}, recipient)
    return messenger(item)


def messenger_read(sender: str, up_to: datetime) -> JSON:
    """Return that the sender has read everything up to then."""
    return messenger(messenger_item(sender, up_to, {"read": {"watermark": int(up_to.timestamp() * 1000)}}))


def messenger_unsend(sender: str, target: str, unsent_at: datetime = NOON) -> JSON:
    """Return the sender taking a message back."""
    return messenger(messenger_item(sender, unsent_at, {"message": {"mid": target, "is_deleted": True}}))


# Telegram


def telegram_text(  # noqa: PLR0917 - what a message is made of
    sender: int,
    number: int,
    text: str = "hello",
    sent_at: datetime = NOON,
    first_name: str = "Testperson",
    language: str | None = None,
) -> JSON:
    """Return an update with one text message."""
    return {
        "update_id": 10_000 + number,
        "message": _telegram_message(sender, number, text, sent_at, first_name, language),
    }


def telegram_edit(sender: int, number: int, text: str, sent_at: datetime, edited_at: datetime) -> JSON:
    """Return an update that edits a message."""
    message = _telegram_message(sender, number, text, sent_at, "Testperson", None)
    return {"update_id": 20_000 + number, "edited_message": {**message, "edit_date": int(edited_at.timestamp())}}


def telegram_shared_phone(sender: int, number: int, phone: str, sent_at: datetime = NOON) -> JSON:
    """Return an update in which the sender shares its own phone number."""
    message = _telegram_message(sender, number, "", sent_at, "Testperson", None)
    del message["text"]
    card = {"phone_number": phone, "first_name": "Testperson", "user_id": sender}
    return {"update_id": 30_000 + number, "message": {**message, "contact": card}}


def telegram_membership(sender: int, number: int, status: str, at_: datetime = NOON) -> JSON:
    """Return that the sender stopped ("kicked") or started again ("member") the bot."""
    person = {"id": sender, "is_bot": False, "first_name": "Testperson"}
    return {
        "update_id": 40_000 + number,
        "my_chat_member": {
            "chat": {"id": sender, "type": "private"},
            "from": person,
            "date": int(at_.timestamp()),
            "new_chat_member": {"status": status, "user": {"id": 1, "is_bot": True, "first_name": "Bot"}},
        },
    }


def telegram_group_text(number: int) -> JSON:
    """Return an update with a message of a group."""
    message = _telegram_message(7, number, "to all", NOON, "Testperson", None)
    return {"update_id": 50_000 + number, "message": {**message, "chat": {"id": -100123456789, "type": "supergroup"}}}


def _telegram_message(  # noqa: PLR0917 - what a message is made of
    sender: int, number: int, text: str, sent_at: datetime, first_name: str, language: str | None
) -> JSON:
    return {
        "message_id": number,
        "from": {
            "id": sender,
            "is_bot": False,
            "first_name": first_name,
            **({"language_code": language} if language else {}),
        },
        "chat": {"id": sender, "type": "private"},
        "date": int(sent_at.timestamp()),
        "text": text,
    }


# Custom channel, in our own envelope


def envelope(key: str, *events: JSON, **contact: str) -> JSON:
    """Return a request with these events of one person."""
    return {"v": 1, "events": [{**event, "contact": {"key": key, **contact}} for event in events]}


def envelope_text(key: str, message_id: str, text: str = "hello", sent_at: datetime = NOON, **contact: str) -> JSON:
    """Return a request with one text message; `contact` holds name, phone, email, language."""
    event = {
        "id": message_id,
        "type": "message",
        "at": int(sent_at.timestamp() * 1000),
        "message": {"text": text},
    }
    return envelope(key, event, **contact)


# SMS by Twilio: a form, not JSON


def twilio_sms(sender: str, sid: str, text: str = "hello") -> dict[str, str]:
    """Return the fields of a text message's form."""
    return {
        "AccountSid": f"AC{'0' * 32}",
        "MessageSid": sid,
        "From": sender,
        "To": "+15550199",
        "Body": text,
        "NumMedia": "0",
    }
