"""The `webhook` fixture: a recorded request, with other headers where a test wants them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ingest.channels.base import Webhook
from tests.recorded import read_recording

MakeWebhook = Callable[..., Webhook]


@pytest.fixture
def webhook() -> MakeWebhook:
    """Return a function: `webhook("telegram/text", x_some_header="other", authorization=None)`.

    Underscores in header names stand for dashes; None takes the header away.
    """

    def make(path: str, **header_overrides: str | None) -> Webhook:
        hook = read_recording(path).hook
        given = {name.replace("_", "-"): value for name, value in header_overrides.items()}
        headers = {name: value for name, value in ({**hook.headers, **given}).items() if value is not None}
        return replace(hook, headers=headers)

    return make
