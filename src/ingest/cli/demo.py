"""The demo workspace: one channel of each main kind, with invented credentials, and what to try on it."""

import json
import os
import secrets
import shlex
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ingest.channels.base import Adapter, Setting
from ingest.channels.registry import get_adapter
from ingest.embedded.places import places
from ingest.pipeline.administer import add_channel, create_token, create_workspace, list_channels
from ingest.runtime import Runtime
from ingest.simulators.drafts import make_draft
from ingest.simulators.registry import CODES, get_simulator
from ingest.store.call_rates import set_call_rate
from ingest.store.channels import list_endpoints
from ingest.store.unit_of_work import Transaction

NAMES = {
    "whatsapp_cloud": "WhatsApp",
    "messenger": "Messenger",
    "instagram": "Instagram",
    "telegram": "Telegram",
    "twilio_sms": "SMS",
    "line": "LINE",
    "viber": "Viber",
    "email_mailgun": "Email",
    "webchat": "Website chat",
    "custom": "Custom channel",
}
# Demos are tried out with loops and scripts.
CALLS_PER_SECOND = 50
CURL_CHANNEL = "whatsapp_cloud"
# A person that the simulated traffic never writes as.
CURL_SENDER = 9_999_999


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo workspace, its owner's token, and an example request."""

    workspace_id: int
    token: str


def ensure_demo(runtime: Runtime) -> Demo:
    """Return the demo workspace of this data directory, made at the first time and used again after that."""
    kept = places(runtime.settings.data_dir).data / "demo.json"
    with runtime.begin() as tx:
        if kept.exists():
            demo = Demo(**json.loads(kept.read_text(encoding="utf-8")))
            if list_channels(tx, demo.workspace_id, runtime.sealer):
                return demo
        demo = _make(tx, runtime)
    _keep(kept, demo)
    return demo


def _make(tx: Transaction, runtime: Runtime) -> Demo:
    workspace_id = create_workspace(tx, "Demo")
    set_call_rate(tx, workspace_id, CALLS_PER_SECOND)
    for code in CODES:
        plain, sealed = _invented(get_adapter(code))
        add_channel(tx, workspace_id, code, NAMES[code], plain, sealed, runtime.sealer)
    return Demo(workspace_id, create_token(tx, workspace_id, "owner", "demo", runtime.settings.secret_keys[0]))


def _invented(adapter: Adapter) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return settings and secrets with which the channel's simulator works."""
    wanted = [each for each in adapter.settings if each.secret and each.required]
    # Where no secret is required, one of several is: then all are given.
    secret_settings = wanted or [each for each in adapter.settings if each.secret]
    plain = {each.name: _invented_value(each) for each in adapter.settings if each.required and not each.secret}
    return plain, {each.name: (secrets.token_hex(24),) for each in secret_settings}


def _invented_value(setting: Setting) -> str:
    if setting.default:
        return setting.default
    if setting.name == "mailbox":
        return "hello@demo.example.com"
    # Accounts at providers are mostly numbers, and a number is a good name too.
    return str(100_000_000 + secrets.randbelow(900_000_000))


def _keep(path: Path, demo: Demo) -> None:
    """Write the demo's token where only we can read it: its hash alone is in the database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(demo), file)
    fresh.replace(path)


def describe_demo(runtime: Runtime, demo: Demo) -> str:
    """Return what to open and what to try, with a correctly signed message as a curl command."""
    url = runtime.settings.public_url
    contact = make_draft(CURL_SENDER, "", "", datetime.now(UTC)).phone
    authorization = shlex.quote(f"Authorization: Bearer {demo.token}")
    return f"""
  API          {url}/api/v2/   described in {url}/api/v2/openapi.json
  Metrics      {url}/metrics
  Workspace    {demo.workspace_id}
  Token        {demo.token}

Send a signed WhatsApp message:

{example_curl(runtime, demo)}

See who wrote it, and what:

  curl -sS -H {authorization} {url}/api/v2/contact/phone:{contact}
  curl -sS -H {authorization} {url}/api/v2/contact/phone:{contact}/message/list
"""


def example_curl(runtime: Runtime, demo: Demo) -> str:
    """Return a curl command that posts a message as WhatsApp would: signed, dated now, never sent before."""
    with runtime.begin() as tx:
        channel = next(
            each for each in list_channels(tx, demo.workspace_id, runtime.sealer) if each.code == CURL_CHANNEL
        )
        (endpoint,) = list_endpoints(tx, runtime.sealer, [channel.id], []).values()
    webhook_url = f"{runtime.settings.public_url}/webhooks/{channel.id}"
    values = {**endpoint.settings, **{name: each[0] for name, each in endpoint.secrets.items()}}
    draft = make_draft(CURL_SENDER, f"curl.{time.time_ns()}", "Hello from curl", datetime.now(UTC))
    request = get_simulator(CURL_CHANNEL)(draft, values, webhook_url)
    headers = "".join(f" \\\n    -H {shlex.quote(f'{name}: {value}')}" for name, value in request.headers.items())
    return f"  curl -sS -i {webhook_url}{headers} \\\n    --data-binary {shlex.quote(request.body.decode())}"
