"""What every simulator promises: its requests are proved and read like the provider's own."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from ingest.channels.base import Webhook
from ingest.channels.registry import get_adapter
from ingest.domain.events import InboundEvent
from ingest.simulators.base import Draft
from ingest.simulators.drafts import make_draft
from ingest.simulators.registry import CODES, get_simulator

URL = "https://hooks.example.org/webhooks/1"
NOW = datetime.now(UTC).replace(microsecond=0)


def secret_settings(code: str) -> dict[str, str]:
    """Return a value for each setting that the channel must have, and for custom its token."""
    names = [each.name for each in get_adapter(code).settings if each.required and not each.default]
    return dict.fromkeys([*names, "token"], "given-value-0123456789")


def received(code: str, draft: Draft, settings: Mapping[str, str]) -> Webhook:
    request = get_simulator(code)(draft, settings, URL)
    secrets = {each.name for each in get_adapter(code).settings if each.secret}
    return Webhook(
        method=request.method,
        url=URL + (f"?{request.query}" if request.query else ""),
        headers=request.headers,
        body=request.body,
        settings={name: value for name, value in settings.items() if name not in secrets},
        secrets={name: (value,) for name, value in settings.items() if name in secrets},
        received_at=datetime.now(UTC),
    )


def message(code: str, draft: Draft) -> InboundEvent:
    """Return the message that the adapter reads from the simulated request, proof and shape checked."""
    adapter = get_adapter(code)
    hook = received(code, draft, secret_settings(code))
    adapter.verify(hook)
    if adapter.check is not None:
        adapter.check(hook)
    return next(
        event
        for event in adapter.parse(hook)
        if event.kind == "message" and event.message is not None and draft.text in event.message.text
    )


@pytest.mark.parametrize("code", CODES)
def test_simulated_message_is_proved_and_read(code: str) -> None:
    event = message(code, make_draft(42, "run.1", "Hello (1) é 🙂", NOW))
    assert event.sender is not None
    # Some providers send no time at all.
    assert event.sent_at is None or abs(event.sent_at - NOW) < timedelta(seconds=1)


@pytest.mark.parametrize("code", CODES)
def test_same_person_has_the_same_address_and_each_message_its_own_id(code: str) -> None:
    first = message(code, make_draft(42, "run.1", "Hello (1)", NOW))
    second = message(code, make_draft(42, "run.2", "Hello (2)", NOW))
    other = message(code, make_draft(43, "run.3", "Hello (3)", NOW))
    assert first.sender is not None
    assert second.sender is not None
    assert other.sender is not None
    assert first.sender.external_id == second.sender.external_id != other.sender.external_id
    assert len({first.external_id, second.external_id, other.external_id}) == 3


@pytest.mark.parametrize("code", CODES)
def test_simulated_request_sent_twice_is_one_message(code: str) -> None:
    draft = make_draft(42, "run.1", "Hello (1)", NOW)
    assert message(code, draft).external_id == message(code, draft).external_id
