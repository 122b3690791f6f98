"""Recorded requests under `tests/fixtures/channels/`, read as the webhooks they were. The layout is told in its README."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ingest.channels.base import Webhook
from ingest.requests import read_request

FOLDER = Path(__file__).parent / "fixtures" / "channels"


@dataclass(frozen=True)
class Recording:
    """One recorded request: the webhook, the events expected of it (as `to_json` gives them), where its proof is."""

    code: str
    name: str
    hook: Webhook
    events: list[dict[str, Any]]
    proof: Mapping[str, Any] = field(default_factory=dict)
    batches: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.code}/{self.name}"


def recorded_codes() -> list[str]:
    """Return the channel codes that have recordings, in order."""
    return sorted({path.parent.name for path in FOLDER.glob("*/*.http")})


def recordings(code: str) -> list[Recording]:
    """Return the channel's recordings, in order of name."""
    return [read_recording(f"{code}/{path.stem}") for path in sorted((FOLDER / code).glob("*.http"))]


def read_recording(path: str) -> Recording:
    """Return the recording at "code/name"."""
    code, name = path.split("/")
    given = read_settings(code, name)
    request = read_request((FOLDER / code / f"{name}.http").read_bytes())
    hook = Webhook(
        method=request.method,
        url=request.url(given["url"]),
        headers=request.headers,
        body=request.body,
        settings=given["settings"],
        secrets={each: tuple(values) for each, values in given["secrets"].items()},
        received_at=datetime.fromisoformat(given["received_at"]),
    )
    lines = (FOLDER / code / f"{name}.events.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines if line]
    return Recording(code, name, hook, events, given.get("proof", {}), tuple(given.get("batches", ())))


def read_settings(code: str, name: str) -> dict[str, Any]:
    """Return the channel's settings.json, with what `<name>.settings.json` says instead."""
    given: dict[str, Any] = json.loads((FOLDER / code / "settings.json").read_text("utf-8"))
    own = FOLDER / code / f"{name}.settings.json"
    return given | json.loads(own.read_text("utf-8")) if own.exists() else given
