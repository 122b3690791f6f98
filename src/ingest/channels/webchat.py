"""Web chat: what visitors write in the widget on a customer's site. The format is our own, see `envelope`.

Two proofs. A visitor token, which we issue, says "same browser" and nothing more. A known user is proved by the site's
own back end, which signs the user's id, email and phone; without that, all three are the visitor's claims.
"""

import base64
import binascii
import hmac
import json
from dataclasses import dataclass
from datetime import datetime

from ingest.channels.base import Adapter, BadPayload, BadSignature, Setting, Webhook, decode_json, require_equal
from ingest.channels.envelope import Frame, accepted, check_envelope, read_envelope, require_object, require_words
from ingest.channels.fields import number_in, object_in, objects_in, sender_id, text_in
from ingest.domain.events import JSON, InboundEvent, Sender

BEARER = "Bearer "
MAX_SID = 128
NAME_FIELDS = ("name", "full_name", "first_name")


@dataclass(frozen=True, slots=True)
class ProvedUser:
    """Who a visitor is, as the site signed it."""

    user_id: str
    email: str | None
    phone: str | None


def issue_visitor_token(inbox: str, sid: str, issued_at: datetime, session_key: str) -> str:
    """Return the token that a browser sends with each request: the session it names, signed with the inbox's key."""
    told = {"v": 1, "inbox": inbox, "sid": sid, "iat": int(issued_at.timestamp())}
    claims = _base64url(json.dumps(told, separators=(",", ":")).encode())
    return f"{claims}.{_base64url(hmac.digest(session_key.encode(), claims.encode(), 'sha256'))}"


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the visitor token is ours, is for this inbox, and names the session of the body."""
    claims, _, signature = _token(hook).partition(".")
    keys = hook.accepted("session_key")
    signed = claims.encode("utf-8", "surrogateescape")
    require_equal(signature.rstrip("="), *(_base64url(hmac.digest(key.encode(), signed, "sha256")) for key in keys))
    told = _claims(hook)
    if told.get("v") != 1 or told.get("inbox") != hook.settings.get("inbox_key"):
        raise BadSignature("visitor token is for another inbox")
    if _sid_of_body(hook) not in (None, told.get("sid")):
        raise BadSignature("visitor token is for another session")


def check(hook: Webhook) -> None:
    """Raise BadShape naming the field unless the body is an envelope of a visitor's session."""
    body = check_envelope(hook)
    require_words(body, "sid", "", MAX_SID)
    for name in ("context", "identity"):
        if body.get(name) is not None:
            require_object(body, name, "")


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the envelope's events. Raises BadPayload for a body that is no envelope.

    Names, emails and phones from the identity and from forms are facts about the sender of every event in the envelope:
    `verified` where the site signed email and phone, else the visitor's claims.
    """
    told = _claims(hook)

    def frame_of(body: JSON, event: JSON) -> Frame:
        sid = sender_id(told or body, "sid")
        return Frame(_visitor(hook, body, sid), f"{sid}:", hook.received_at)

    return read_envelope(hook, frame_of)


def _visitor(hook: Webhook, body: JSON, sid: str) -> Sender:
    form = _form_fields(body)
    identity = object_in(body, "identity")
    proved = _proved(hook, identity)
    email = (proved and proved.email) or text_in(identity, "email") or form.get("email")
    phone = (proved and proved.phone) or text_in(identity, "phone") or form.get("phone")
    name = next((form[each] for each in NAME_FIELDS if each in form), None)
    return Sender(
        sid,
        aliases=(f"user:{proved.user_id}",) if proved else (),
        email=email,
        phone=phone,
        display_name=name or text_in(identity, "name"),
        first_name=form.get("first_name"),
        last_name=form.get("last_name"),
        language=text_in(object_in(body, "context"), "locale"),
        # A proved user may still have typed an email that the site knows nothing of.
        verified=proved is not None and (email, phone) == (proved.email, proved.phone),
    )


def _form_fields(body: JSON) -> dict[str, str]:
    """Return what the envelope's forms say, by lower-case field name."""
    fields: dict[str, str] = {}
    for event in objects_in(body, "events"):
        given = object_in(object_in(event, "form"), "fields")
        fields |= {name.strip().lower(): text for name in given if (text := text_in(given, name))}
    return fields


def _proved(hook: Webhook, identity: JSON) -> ProvedUser | None:
    """Return the user that the site vouches for, until the time it says; None without such a proof."""
    user_id, given = text_in(identity, "user_id"), text_in(identity, "proof")
    expires_at = number_in(identity, "exp")
    secrets = [each for each in hook.secrets.get("identity_secret", ()) if each]
    if user_id is None or given is None or expires_at is None or expires_at < hook.received_at.timestamp():
        return None
    email, phone = text_in(identity, "email"), text_in(identity, "phone")
    signed = "\n".join((user_id, email or "", phone or "", text_in(identity, "exp") or "")).encode()
    try:
        require_equal(given.lower(), *(hmac.digest(secret.encode(), signed, "sha256").hex() for secret in secrets))
    except BadSignature:
        return None
    return ProvedUser(user_id, email, phone)


def _token(hook: Webhook) -> str:
    given = hook.header("authorization")
    return given[len(BEARER) :].strip() if given.startswith(BEARER) else ""


def _claims(hook: Webhook) -> JSON:
    """Return what the visitor token says; nothing where it cannot be read."""
    part = _token(hook).partition(".")[0]
    try:
        told = decode_json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (BadPayload, binascii.Error, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _sid_of_body(hook: Webhook) -> object:
    try:
        body = hook.json()
    except BadPayload:
        return None
    return body.get("sid") if isinstance(body, dict) else None


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


ADAPTER = Adapter(
    "webchat",
    verify,
    parse,
    settings=(
        Setting("inbox_key", "Public key of the inbox, as the widget sends it"),
        Setting("session_key", "Signs visitor tokens: any long random text", secret=True),
        Setting(
            "identity_secret",
            "Shared with the site's back end, which signs its users with it",
            secret=True,
            required=False,
        ),
        Setting("allowed_origins", "Origins that may open the chat, separated by spaces", required=False),
    ),
    check=check,
    answer=accepted,
    source="webchat",
)
