"""The traffic that all systems are given: WhatsApp text messages, signed, from a fixed population of senders."""

import hmac
import json
import random
import time

SECRET = "benchmark-app-secret"
PHONE_NUMBER_ID = "800100200300400"


def whatsapp_body(sender: int, message_id: str, sent_at: int, text: str) -> bytes:
    """Return the body of one webhook call with one text message."""
    digits = f"4477{sender:08d}"
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


def raw_requests(path: str, host: str, count: int, senders: int, seed: int, run: str) -> list[bytes]:
    """Return whole HTTP requests, ready to be written to a socket. `senders` 0: every message has a sender of its own."""
    random_numbers = random.Random(seed)
    now = int(time.time())
    requests = []
    for number in range(count):
        sender = random_numbers.randrange(senders) if senders else number
        body = whatsapp_body(sender, f"wamid.{run}.{number}", now - random_numbers.randrange(60), f"Message {number}")
        signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"x-hub-signature-256: sha256={signature}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests
