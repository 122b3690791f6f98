"""Instagram Direct, by Facebook login and by Instagram login: one format, two app secrets, two ids of one account.

Source: Meta for Developers, "Instagram Messaging: Webhooks" and "Instagram API with Instagram Login".
"""

from ingest.channels import meta
from ingest.channels.base import Adapter, BadSignature, Setting, Webhook
from ingest.channels.meta_messaging import parse_messaging
from ingest.domain.events import InboundEvent


def verify(hook: Webhook) -> None:
    """Raise BadSignature unless the body is signed with the Meta app's secret or the Instagram app's."""
    secrets = [
        value for name in ("app_secret", "instagram_app_secret") for value in hook.secrets.get(name, ()) if value
    ]
    if not secrets:
        raise BadSignature("channel has no app_secret")
    meta.verify_with(hook, *secrets)


def parse(hook: Webhook) -> list[InboundEvent]:
    """Return the events of all entries, each with the account it was for. Raises BadPayload for a body without entries.

    An account that goes by one of the channel's `account_aliases` is named by its `account_id`.
    """
    own = hook.settings.get("account_id", "")
    ours = {own, *hook.settings.get("account_aliases", "").replace(",", " ").split()} - {""}

    def account_of(entry_id: str, business_id: str) -> str:
        return own if ours & {entry_id, business_id} else entry_id or business_id

    return parse_messaging(hook, "instagram", account_of)


ADAPTER = Adapter(
    "instagram",
    verify,
    parse,
    settings=(
        Setting("account_id", "Id of the professional account, as it stands in `entry.id` of its webhooks"),
        Setting("account_aliases", "Further ids of the same account, separated by spaces", required=False),
        *meta.SETTINGS,
        Setting(
            "instagram_app_secret", "Secret of the Instagram app, for Instagram login", secret=True, required=False
        ),
    ),
    handshake=meta.handshake,
    account_setting="account_id",
    source="instagram",
    max_body=meta.MAX_BODY,
)
