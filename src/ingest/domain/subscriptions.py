"""What a subscriber may ask for: event types by the names of automation tools, and the filters of each."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ingest.domain.refusals import Invalid

# The n8n node's names. Ended calls are taken and never sent: there are no calls here.
EVENT_TYPES = {
    "newIncomingMessage": "message.received",
    "newOutgoingMessage": "message.sent",
    "newContact": "contact.created",
    "contactUpdated": "contact.updated",
    "contactTagUpdated": "contact.tag.updated",
    "contactAssigneeUpdated": "contact.assignee.updated",
    "lifecycleUpdated": "contact.lifecycle.updated",
    "conversationOpened": "conversation.opened",
    "conversationClosed": "conversation.closed",
    "newComment": "comment.created",
    "callEnded": "call.ended",
}
LISTS = {"source": "sources", "messageType": "message_types", "fields": "fields"}
MAX_VALUES = 200
MAX_URL = 2048


def read_event_type(name: str) -> str:
    """Return our name of the event. Raises Invalid for one that we do not know."""
    try:
        return EVENT_TYPES[name]
    except KeyError:
        raise Invalid(f"no event type {name[:50]!r}: use one of {', '.join(EVENT_TYPES)}", field="type") from None


def read_filters(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters that a subscriber gives; an absent one lets everything through.

    An older node writes `sources`. The language field is called `lang` there.
    """
    given = {**bundle, "source": bundle.get("source") or bundle.get("sources")}
    filters: dict[str, Any] = {}
    for name, ours in LISTS.items():
        values = given.get(name)
        if not values:
            continue
        if not isinstance(values, list) or len(values) > MAX_VALUES:
            raise Invalid(f"a list of at most {MAX_VALUES} values", field=f"bundle.{name}")
        filters[ours] = ["language" if each == "lang" else str(each)[:255] for each in values]
    kind = given.get("contactFieldType")
    if kind:
        if kind not in {"standard_field", "custom_field"}:
            raise Invalid("standard_field or custom_field", field="bundle.contactFieldType")
        filters["field_kind"] = kind
    return filters


def read_url(url: str) -> str:
    """Return the URL to send to. Raises Invalid for one that is no http or https URL. Whether it may be called is
    decided when it is: names can come to mean other addresses.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or len(url) > MAX_URL:
        raise Invalid("an http or https URL", field="url")
    return url.strip()


def is_same_url(stored: str, given: str | None) -> bool:
    """Return whether a removal may go on: no URL is given, it is the stored one, or it cannot be read as one."""
    if not given:
        return True
    try:
        read_url(given)
    except Invalid:
        return True
    return given.strip() == stored
