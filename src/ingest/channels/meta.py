"""What Meta's products share: the set-up request, the proof of origin, and the frame that holds the items.

Source: Meta for Developers, "Webhooks: Getting Started" and "Validating Payloads".
"""

from ingest.channels.base import (
    MIB,
    Answer,
    BadPayload,
    BadSignature,
    Setting,
    Webhook,
    require_equal,
    require_hmac,
    unhex,
)
from ingest.channels.fields import as_text, object_in, text_in
from ingest.channels.ids import derived_id
from ingest.domain.events import JSON, InboundEvent, ignored

SIGNATURE_HEADER = "x-hub-signature-256"
SIGNATURE_PREFIX = "sha256="
MAX_BODY = 3 * MIB

SETTINGS = (
    Setting("app_secret", "App secret of the Meta app, under App settings > Basic; signs every webhook", secret=True),
    Setting("verify_token", "A word of your own, entered again where the webhook is set up at Meta", secret=True),
    Setting("access_token", "Token for sending and for fetching files", secret=True, required=False),
)


def handshake(hook: Webhook) -> Answer | None:
    """Return the answer to Meta's set-up GET: the challenge for our verify token, else 403. None for other requests."""
    if hook.method != "GET":
        return None
    try:
        require_equal(hook.query.get("hub.verify_token", ""), *hook.accepted("verify_token"))
    except BadSignature:
        return Answer(403)
    if hook.query.get("hub.mode") != "subscribe":
        return Answer(403)
    return Answer(body=hook.query.get("hub.challenge", "").encode())


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the body is signed with the app secret."""
    verify_with(hook, *hook.accepted("app_secret"))


def verify_with(hook: Webhook, *app_secrets: str) -> None:
    """Raise BadSignature unless the body is signed with one of the secrets, over the bytes that arrived."""
    given = hook.header(SIGNATURE_HEADER)
    if not given.startswith(SIGNATURE_PREFIX):
        raise BadSignature("signature missing or wrong")
    require_hmac(unhex(given[len(SIGNATURE_PREFIX) :]), hook.body, "sha256", *app_secrets)


def read_body(hook: Webhook) -> JSON:
    """Return the request's JSON object. Raises BadPayload for anything else."""
    body = hook.json()
    if not isinstance(body, dict):
        raise BadPayload("body is not an object")
    return body


def entries_of(body: JSON) -> list[object]:
    """Return the request's entries. Raises BadPayload where there are none to read.

    A test sample of the app dashboard comes without them: a bare `field` and `value`, which is one change.
    """
    entries = body.get("entry")
    if isinstance(entries, list):
        return entries
    if "field" in body and "value" in body:
        return [{"changes": [body]}]
    raise BadPayload("body without entry")


def ignored_change(change: JSON, account: str, known: frozenset[str]) -> InboundEvent:
    """Return the event for a change that holds no message; its reason is the field where that is a known one."""
    field = text_in(change, "field") or ""
    return ignored(derived_id("change", account, change), field if field in known else "unknown_event", account)


def error_text(errors: object) -> str | None:
    """Return Meta's first error as "code: title", None where there is none."""
    first = object_in({"error": errors[0]}, "error") if isinstance(errors, list) and errors else {}
    words = [as_text(first.get("code")), as_text(first.get("title")) or as_text(first.get("message"))]
    return ": ".join(word for word in words if word) or None
