"""The items that Messenger and Instagram share: messages, postbacks, reactions, edits, reads, opt-ins.

Source: Meta for Developers, "Messenger Platform: Webhook Events Reference" and "Instagram Messaging: Webhooks".
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from ingest.channels import meta
from ingest.channels.base import BadPayload, Webhook, moment
from ingest.channels.fields import as_object, as_text, list_in, object_in, read_each, required, text_in, words_in
from ingest.channels.ids import derived_id, is_junk_id
from ingest.channels.meta_content import read_content
from ingest.domain.events import JSON, EventKind, InboundEvent, Message, Sender, StatusValue, ignored

# Comments, page news and the like; only a dashboard sample has a message in a change.
OTHER_FIELDS = frozenset(
    {"feed", "leadgen", "mention", "mentions", "comments", "live_comments", "story_insights", "ratings"}
)
# Who may reply, account linking, games: nothing of it is written by the contact.
OTHER_ITEMS = (
    "account_linking",
    "policy_enforcement",
    "pass_thread_control",
    "take_thread_control",
    "request_thread_control",
    "app_roles",
    "game_play",
    "response_feedback",
)

# Given the entry's id and the business's id in the item ("" where it is not named), the account of the event.
AccountOf = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the items of one entry share. `sent_at` stands in for items without a time."""

    id: str
    sent_at: object
    received_at: datetime
    account_of: AccountOf


@dataclass(frozen=True, slots=True)
class _Item:
    """One item in its frame. `contact_id` is the person's id, whoever of the two wrote."""

    json: JSON
    account: str
    contact_id: str
    at: datetime | None
    received_at: datetime
    elsewhere: bool

    def key(self, prefix: str, *parts: object) -> str:
        """Return an id for an item that has none of its own."""
        return derived_id(prefix, self.account, self.contact_id, as_text(self.json.get("timestamp")), *parts)

    def event(self, kind: EventKind, external_id: str, message: Message | None = None) -> InboundEvent:
        """Return the event that all readers start from."""
        person = Sender(self.contact_id)
        return InboundEvent(kind, external_id, self.account, person, self.at, message, elsewhere=self.elsewhere)


def parse_messaging(hook: Webhook, object_: str, account_of: AccountOf) -> list[InboundEvent]:
    """Return the events of all items of all entries, those in standby and dashboard samples among them.

    Raises BadPayload for a body without entries.
    """
    body = meta.read_body(hook)
    if body.get("object", object_) != object_:
        return [ignored(derived_id("request", body), "other_object")]
    return read_each(meta.entries_of(body), lambda entry: _read_entry(entry, hook.received_at, account_of))


def _read_entry(entry: JSON, received_at: datetime, account_of: AccountOf) -> list[InboundEvent]:
    frame = _Entry(text_in(entry, "id") or "", entry.get("time"), received_at, account_of)
    account = account_of(frame.id, "")
    events = read_each(list_in(entry, "messaging"), partial(_read_item, frame, False), account)
    events += read_each(list_in(entry, "standby"), partial(_read_item, frame, True), account)
    events += read_each(list_in(entry, "changes"), partial(_read_change, frame), account)
    if not events:
        raise BadPayload("entry without items")
    return events


def _read_change(entry: _Entry, change: JSON) -> list[InboundEvent]:
    value = change.get("value")
    if isinstance(value, dict) and "sender" in value:
        return _read_item(entry, False, value)
    return [meta.ignored_change(change, entry.account_of(entry.id, ""), OTHER_FIELDS)]


def _read_item(entry: _Entry, elsewhere: bool, item: JSON) -> list[InboundEvent]:
    # An echo is the business writing: there the contact is the recipient.
    echo = object_in(item, "message").get("is_echo") is True
    contact, business = ("recipient", "sender") if echo else ("sender", "recipient")
    contact_id = text_in(object_in(item, contact), "id") or ""
    account = entry.account_of(entry.id, text_in(object_in(item, business), "id") or "")
    at = moment(item.get("timestamp", entry.sent_at), entry.received_at)
    framed = _Item(item, account, contact_id, at, entry.received_at, elsewhere)
    name = next((each for each in READERS if each in item), None)
    if name is None:
        return [_other(framed)]
    if is_junk_id(contact_id):
        return [_without_contact(framed)]
    if contact_id == entry.id or entry.account_of("", contact_id) == account:
        # Nothing that the business does to its own account makes a contact of it.
        return [ignored(framed.key("own", item), "own_event", account)]
    return READERS[name](framed, as_object(item[name]))


def _other(item: _Item) -> InboundEvent:
    reason = next((each for each in OTHER_ITEMS if each in item.json), "unknown_event")
    return ignored(item.key("item", item.json), reason, item.account)


def _without_contact(item: _Item) -> InboundEvent:
    """Return the event for the checkbox plugin's person, whose id is not known yet. Raises BadPayload for others."""
    if "user_ref" in object_in(item.json, "sender"):
        return ignored(item.key("item", item.json), "user_ref", item.account)
    raise BadPayload("item without a person")


def _read_message(item: _Item, message: JSON) -> list[InboundEvent]:
    mid = text_in(message, "mid")
    if message.get("is_deleted") is True:
        target = required(message, "mid")
        return [replace(item.event("delete", f"{target}:delete"), target_id=target)]
    external_id = mid or item.key("message", message)
    if message.get("is_self") is True:
        return [ignored(external_id, "self", item.account)]
    kind: EventKind = "echo" if message.get("is_echo") is True else "message"
    return [item.event(kind, external_id, read_content(message))]


def _read_postback(item: _Item, postback: JSON) -> list[InboundEvent]:
    message = Message(
        "postback",
        words_in(postback, "title").strip(),
        payload=text_in(postback, "payload"),
        referral=object_in(postback, "referral") or None,
    )
    return [item.event("message", text_in(postback, "mid") or item.key("postback", postback), message)]


def _read_referral(item: _Item, referral: JSON) -> list[InboundEvent]:
    return [item.event("started", item.key("referral", referral), Message("text", referral=referral))]


def _read_optin(item: _Item, optin: JSON) -> list[InboundEvent]:
    stops = (text_in(optin, "notification_messages_status") or "").upper().startswith("STOP")
    event = item.event("opt_out" if stops else "opt_in", item.key("optin", optin))
    return [replace(event, reason=text_in(optin, "type", "ref") or "optin")]


def _read_reaction(item: _Item, reaction: JSON) -> list[InboundEvent]:
    target = required(reaction, "mid")
    emoji = "" if reaction.get("action") == "unreact" else text_in(reaction, "emoji", "reaction") or ""
    event = item.event("reaction", item.key("reaction", target, emoji))
    return [replace(event, target_id=target, emoji=emoji)]


def _read_edit(item: _Item, edit: JSON) -> list[InboundEvent]:
    target = required(edit, "mid")
    event_id = f"{target}:edit:{text_in(edit, 'num_edit') or item.key('edit', edit)}"
    return [replace(item.event("edit", event_id, read_content(edit)), target_id=target)]


def _read_delivery(item: _Item, delivery: JSON) -> list[InboundEvent]:
    targets = [target for target in map(as_text, list_in(delivery, "mids")) if target]
    if not targets:
        return [_up_to(item, "delivered", delivery)]
    started = item.event("status", "")
    return [
        replace(started, external_id=f"{target}:delivered", target_id=target, status="delivered") for target in targets
    ]


def _read_read(item: _Item, read: JSON) -> list[InboundEvent]:
    target = text_in(read, "mid")
    if target is None:
        return [_up_to(item, "read", read)]
    return [replace(item.event("status", f"{target}:read"), target_id=target, status="read")]


def _up_to(item: _Item, status: StatusValue, body: JSON) -> InboundEvent:
    """Return the status of all messages up to the watermark."""
    watermark = moment(body.get("watermark"), item.received_at)
    if watermark is None:
        raise BadPayload("status without a watermark")
    event_id = derived_id(status, item.account, item.contact_id, as_text(body.get("watermark")))
    return replace(item.event("status", event_id), status=status, up_to=watermark)


READERS: dict[str, Callable[[_Item, JSON], list[InboundEvent]]] = {
    "message": _read_message,
    "postback": _read_postback,
    "reaction": _read_reaction,
    "message_edit": _read_edit,
    "delivery": _read_delivery,
    "read": _read_read,
    "referral": _read_referral,
    "optin": _read_optin,
}
