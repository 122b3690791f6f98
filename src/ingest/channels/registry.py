"""Every channel there is: its code and the module that reads it. A new channel adds one line here."""

from functools import cache
from importlib import import_module

from ingest.channels.base import Adapter
from ingest.errors import Rejected

CODES = (
    "whatsapp_cloud",
    "messenger",
    "instagram",
    "telegram",
    "twilio_sms",
    "twilio_whatsapp",
    "vonage_sms",
    "messagebird_sms",
    "line",
    "viber",
    "wechat",
    "tiktok",
    "email_mailgun",
    "email_sendgrid",
    "email_postmark",
    "email_ses",
    "email_mime",
    "webchat",
    "custom",
)


class UnknownChannelCode(Rejected):
    """There is no adapter of that code."""


@cache
def get_adapter(code: str) -> Adapter:
    """Return the adapter, imported at its first use. Raises UnknownChannelCode, listing the codes there are."""
    if code not in CODES:
        raise UnknownChannelCode(f"no channel code {code!r}: use one of {', '.join(CODES)}")
    adapter: Adapter = import_module(f"ingest.channels.{code}").ADAPTER
    return adapter
