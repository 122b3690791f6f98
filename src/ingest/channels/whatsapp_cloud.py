"""WhatsApp Cloud API: messages, statuses, echoes of the phone app, preferences and changes of identity.

One request may hold items of several phone numbers; each event names its own. A person has a business-scoped user id,
a phone, or both: the first is the address where there is one, the other an alias.

Source: WhatsApp Cloud API, webhook reference; "Business-scoped user IDs".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from ingest.channels import meta
from ingest.channels.base import Adapter, Setting, Webhook, moment
from ingest.channels.fields import as_object, as_text, list_in, object_in, objects_in, read_each, required, text_in
from ingest.channels.ids import derived_id, is_junk_id
from ingest.channels.whatsapp_content import read_content, shared_own_phone
from ingest.channels.whatsapp_plain import read_plain
from ingest.domain.events import JSON, EventKind, InboundEvent, Message, Sender, StatusValue, ignored
from ingest.errors import BadPayload

OBJECT = "whatsapp_business_account"
LIVE_FIELDS = frozenset({"messages", "standby", "smb_message_echoes", "user_preferences"})
# Address book and backlog come after onboarding, the rest is about the account: nothing of it is a new message.
OTHER_FIELDS = frozenset(
    {
        *("history", "smb_app_state_sync", "messaging_handovers", "calls", "flows", "security", "automatic_events"),
        *("account_alerts", "account_review_update", "account_settings_update", "account_update"),
        *("business_capability_update", "business_status_update", "partner_solutions"),
        *("message_template_components_update", "message_template_quality_update", "message_template_status_update"),
        *("payment_configuration_update", "phone_number_name_update", "phone_number_quality_update"),
        *("group_lifecycle_update", "group_participants_update", "group_settings_update", "group_status_update"),
        *("template_category_update", "tracking_events"),
    }
)
SCOPED_ID = re.compile(r"[A-Z]{2}\.[0-9A-Za-z.]+")
PHONE_DIGITS = re.compile(r"[1-9][0-9]{5,14}", re.ASCII)
STATUSES: dict[str, StatusValue] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "played": "read",
    "failed": "failed",
}
PREFERENCES: dict[str, EventKind] = {"stop": "opt_out", "resume": "opt_in", "signup": "opt_in"}
MOVES = frozenset({"user_changed_number", "customer_changed_number", "user_changed_user_id"})


@dataclass(frozen=True, slots=True)
class _Change:
    """What the items of one change share. `contacts` holds the people it names, by each of their ids."""

    account: str
    received_at: datetime
    elsewhere: bool
    contacts: Mapping[str, JSON]


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the events of all changes of all entries. Raises BadPayload for a body without any frame we know.

    Bodies without `entry`, as older clients of the same format send them, are read as one change.
    """
    plain = read_plain(hook.body, hook.received_at)
    return read_any(hook) if plain is None else plain


def read_any(hook: Webhook) -> list[InboundEvent]:
    """Return the same as `parse` by the general way, which reads whatever a request may hold."""
    body = meta.read_body(hook)
    if body.get("object", OBJECT) != OBJECT:
        return [ignored(derived_id("request", body), "other_object")]
    if "entry" not in body and ("messages" in body or "statuses" in body):
        return _read_live("messages", body, hook)
    return read_each(meta.entries_of(body), lambda entry: _read_entry(entry, hook))


def _read_entry(entry: JSON, hook: Webhook) -> list[InboundEvent]:
    changes = entry.get("changes")
    if not isinstance(changes, list):
        raise BadPayload("entry without changes")
    return read_each(changes, lambda change: _read_change(change, hook))


def _read_change(change: JSON, hook: Webhook) -> list[InboundEvent]:
    field, value = text_in(change, "field") or "", change.get("value")
    if field not in LIVE_FIELDS:
        return [meta.ignored_change(change, _account(value), OTHER_FIELDS)]
    return _read_live(field, as_object(value), hook)


def _read_live(field: str, value: JSON, hook: Webhook) -> list[InboundEvent]:
    change = _Change(_account(value), hook.received_at, field == "standby", _contacts_by_id(value))
    events: list[InboundEvent] = []
    for name, read in ITEMS:
        if name in value:
            events += read_each(list_in(value, name), partial(read, change), change.account, "id")
    if not events and "errors" in value:
        events.append(ignored(derived_id("errors", value), "provider_error", change.account))
    return events


def _account(value: object) -> str:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    return (text_in(metadata, "phone_number_id") or "") if isinstance(metadata, dict) else ""


def _contacts_by_id(value: JSON) -> dict[str, JSON]:
    by_id: dict[str, JSON] = {}
    for contact in objects_in(value, "contacts"):
        for name in ("wa_id", "user_id"):
            if (known_as := as_text(contact.get(name))) is not None:
                by_id[known_as] = contact
    return by_id


def _read_message(change: _Change, item: JSON) -> list[InboundEvent]:
    person = _person(change, item.get("from"), item.get("from_user_id"), item.get("from_parent_user_id"))
    return [_read_item("message", change, item, person)]


def _read_echo(change: _Change, item: JSON) -> list[InboundEvent]:
    if item.get("type") in ("reaction", "system", "request_welcome"):
        return [ignored(required(item, "id"), "own_event", change.account)]
    person = _person(change, item.get("to"), item.get("to_user_id"), item.get("to_parent_user_id"))
    return [_read_item("echo", change, item, person)]


def _read_item(kind: EventKind, change: _Change, item: JSON, person: Sender | None) -> InboundEvent:
    """Return the event of one message, or of what WhatsApp sends in the shape of one."""
    item_id, type_ = required(item, "id"), as_text(item.get("type")) or ""
    if "group_id" in item or item.get("recipient_type") == "group":
        return ignored(item_id, "group", change.account)
    if type_ == "system":
        return _read_system(change, item, item_id)
    if person is None:
        raise BadPayload("item without a person")
    special = SPECIAL.get(type_)
    message = read_content(type_, item) if special is None else None
    if type_ == "contacts" and person.phone is None and kind == "message":
        person = replace(person, phone=shared_own_phone(item))
    at = moment(item.get("timestamp"), change.received_at)
    event = InboundEvent(kind, item_id, change.account, person, at, message, elsewhere=change.elsewhere)
    return event if special is None else special(event, item)


def _read_reaction(event: InboundEvent, item: JSON) -> InboundEvent:
    reaction = object_in(item, "reaction")
    return replace(
        event, kind="reaction", target_id=required(reaction, "message_id"), emoji=text_in(reaction, "emoji") or ""
    )


def _read_edit(event: InboundEvent, item: JSON) -> InboundEvent:
    edit = object_in(item, "edit")
    content = object_in(edit, "message")
    message = read_content(text_in(content, "type") or "", content)
    return replace(event, kind="edit", target_id=required(edit, "original_message_id"), message=message)


def _read_revoke(event: InboundEvent, item: JSON) -> InboundEvent:
    return replace(event, kind="delete", target_id=required(object_in(item, "revoke"), "original_message_id"))


def _read_welcome(event: InboundEvent, item: JSON) -> InboundEvent:
    referral = object_in(item, "referral")
    return replace(event, kind="started", message=Message("text", referral=referral) if referral else None)


def _read_system(change: _Change, item: JSON, item_id: str) -> InboundEvent:
    system = object_in(item, "system")
    if text_in(system, "type") not in MOVES:
        # The phone's encryption key changed, or something yet unknown: the addresses did not.
        return ignored(item_id, "system", change.account)
    new_phone = text_in(system, "wa_id", "new_wa_id")
    old = (text_in(item, "from"), text_in(system, "previous_user_id"), text_in(system, "previous_parent_user_id"))
    if system.get("type") == "user_changed_user_id" and new_phone is None:
        new_phone = text_in(item, "from")
    person = _person(change, new_phone, text_in(system, "user_id"), text_in(system, "parent_user_id"))
    if person is None:
        raise BadPayload("change of identity without the new one")
    return InboundEvent(
        "identity_change",
        item_id,
        change.account,
        person,
        moment(item.get("timestamp"), change.received_at),
        former=tuple(each for each in old if each and each not in (person.external_id, *person.aliases)),
    )


def _read_status(change: _Change, item: JSON) -> list[InboundEvent]:
    target, word = required(item, "id"), required(item, "status")
    status_id = f"{target}:{word}"
    if item.get("recipient_type") == "group":
        return [ignored(status_id, "group", change.account)]
    if word not in STATUSES:
        return [ignored(status_id, "unknown_status", change.account)]
    person = _person(
        change, item.get("recipient_id"), item.get("recipient_user_id"), item.get("recipient_parent_user_id")
    )
    return [
        InboundEvent(
            "status",
            status_id,
            change.account,
            person,
            moment(item.get("timestamp"), change.received_at),
            target_id=target,
            status=STATUSES[word],
            error=meta.error_text(item.get("errors")),
        )
    ]


def _read_preference(change: _Change, item: JSON) -> list[InboundEvent]:
    person = _person(change, item.get("wa_id"), item.get("user_id"), item.get("parent_user_id"))
    if person is None:
        raise BadPayload("preference without a person")
    wish, category = text_in(item, "value") or "", text_in(item, "category") or ""
    event_id = derived_id("preference", person.external_id, category, wish, as_text(item.get("timestamp")))
    if wish not in PREFERENCES:
        return [ignored(event_id, "unknown_event", change.account)]
    at = moment(item.get("timestamp"), change.received_at)
    return [InboundEvent(PREFERENCES[wish], event_id, change.account, person, at, reason=category or wish)]


def _person(change: _Change, phone: object, user_id: object, parent_id: object) -> Sender | None:
    """Return the person of these ids, with what the change's contacts add; None where no id is usable."""
    digits, scoped, parent = as_text(phone), as_text(user_id), as_text(parent_id)
    if digits is not None and "." in digits:
        # Some traffic has the business-scoped id in the phone's place.
        digits, scoped = None, scoped or digits
    contact = change.contacts.get(digits or "") or change.contacts.get(scoped or "") or {}
    digits = digits or as_text(contact.get("wa_id"))
    scoped = scoped or as_text(contact.get("user_id"))
    parent = parent or as_text(contact.get("parent_user_id"))
    ids = [each for each in (scoped, digits, parent) if each is not None and not is_junk_id(each)]
    if not ids:
        return None
    has_phone = digits is not None and PHONE_DIGITS.fullmatch(digits) is not None
    return Sender(
        ids[0],
        tuple(ids[1:]),
        phone=f"+{digits}" if has_phone else None,
        display_name=text_in(object_in(contact, "profile"), "name", "username"),
        country_code=scoped[:2] if scoped and not has_phone and SCOPED_ID.fullmatch(scoped) else None,
    )


ITEMS = (
    ("messages", _read_message),
    ("message_echoes", _read_echo),
    ("statuses", _read_status),
    ("user_preferences", _read_preference),
)
SPECIAL: dict[str, Callable[[InboundEvent, JSON], InboundEvent]] = {
    "reaction": _read_reaction,
    "edit": _read_edit,
    "revoke": _read_revoke,
    "request_welcome": _read_welcome,
}

ADAPTER = Adapter(
    "whatsapp_cloud",
    meta.verify,
    parse,
    settings=(
        Setting("phone_number_id", "Phone number ID, under WhatsApp > API Setup"),
        *meta.SETTINGS,
    ),
    handshake=meta.handshake,
    account_setting="phone_number_id",
    address_kind="phone",
    startable=True,
    source="whatsapp_cloud",
    max_body=meta.MAX_BODY,
)
