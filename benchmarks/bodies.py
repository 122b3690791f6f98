"""The traffic that all systems are given: signed WhatsApp text messages, and Telegram updates for the merge suggestions."""

import hmac
import json
import random
import time
from collections.abc import Iterator

SECRET = "benchmark-app-secret"
TELEGRAM_SECRET = "benchmark-telegram-secret"
PHONE_NUMBER_ID = "800100200300400"


def digits_of(sender: int) -> str:
    """Return the sender's number as WhatsApp writes it."""
    return f"4477{sender:08d}"


def whatsapp_body(sender: int, message_id: str, sent_at: int, text: str) -> bytes:
    """Return the body of one webhook call with one text message."""
    digits = digits_of(sender)
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "+44 7700 900123", "phone_number_id": PHONE_NUMBER_ID},
        "contacts": [{"profile": {"name": f"Sender {sender}"}, "wa_id": digits}],
        "messages": [
            {"from": digits, "id": message_id, "timestamp": str(sent_at), "type": "text", "text": {"body": text}}
        ],
    }
    change = {"field": "messages", "value": value}
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "700100200300400", "changes": [change]}]}
    ).encode()


def whatsapp_headers(body: bytes) -> dict[str, str]:
    """Return the headers that prove the body."""
    signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
    return {"content-type": "application/json", "x-hub-signature-256": f"sha256={signature}"}


def telegram_body(sender: int, sent_at: int) -> bytes:
    """Return the body of an update in which somebody shares their own number: the one `sender` has on WhatsApp."""
    user_id = 7_000_000_000 + sender
    person = {"id": user_id, "first_name": "Sender", "last_name": str(sender)}
    message = {
        "message_id": sender,
        "from": {**person, "is_bot": False},
        "chat": {**person, "type": "private"},
        "date": sent_at,
        "contact": {"phone_number": digits_of(sender), "first_name": "Sender", "user_id": user_id},
    }
    return json.dumps({"update_id": sender, "message": message}).encode()


def telegram_headers() -> dict[str, str]:
    """Return the headers that prove an update."""
    return {"content-type": "application/json", "x-telegram-bot-api-secret-token": TELEGRAM_SECRET}


def raw_requests(path: str, host: str, *, count: int, senders: int, first: int, seed: int, run: str) -> Iterator[bytes]:
    """Give whole HTTP requests, ready to be written to a socket.

    They are from `senders` people, numbered from `first` on; 0: every message has a sender of its own.
    """
    random_numbers = random.Random(seed)
    for number in range(count):
        sender = first + (random_numbers.randrange(senders) if senders else number)
        sent_at = int(time.time()) - random_numbers.randrange(60)
        body = whatsapp_body(sender, f"wamid.{run}.{number}", sent_at, f"Message {number}")
        headers = "".join(f"{name}: {value}\r\n" for name, value in whatsapp_headers(body).items())
        head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {len(body)}\r\n\r\n"
        yield head.encode() + body
