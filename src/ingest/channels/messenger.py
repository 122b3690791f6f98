"""Facebook Messenger: messages to a Facebook page. People are known by an id that is good for that page only.

Source: Meta for Developers, "Messenger Platform: Webhooks".
"""

from ingest.channels import meta
from ingest.channels.base import Adapter, Setting, Webhook
from ingest.channels.meta_messaging import parse_messaging
from ingest.domain.events import InboundEvent


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the events of all entries, each with the page it was for. Raises BadPayload for a body without entries."""
    return parse_messaging(hook, "page", lambda entry_id, business_id: business_id or entry_id)


ADAPTER = Adapter(
    "messenger",
    meta.verify,
    parse,
    settings=(Setting("page_id", "Id of the Facebook page, under Page > About"), *meta.SETTINGS),
    handshake=meta.handshake,
    account_setting="page_id",
    source="facebook",
    max_body=meta.MAX_BODY,
)
