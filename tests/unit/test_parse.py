import json
from datetime import UTC, datetime

import pytest

from ingest.channels.registry import UnknownChannelCode
from ingest.domain.events import Attachment, InboundEvent, Message, Sender, ignored
from ingest.errors import BadShape, BadSignature
from ingest.parse import parse_file, to_json
from tests.recorded import FOLDER

NOW = datetime(2025, 6, 15, 15, 10, tzinfo=UTC)


def recorded(path: str) -> bytes:
    return (FOLDER / f"{path}.http").read_bytes()


def test_given_values_are_settings_and_secrets_alike() -> None:
    [line] = parse_file("telegram", recorded("telegram/text"), {"secret_token": "s3cret-token_1"}, True, NOW)
    assert line["message"]["text"] == "Goedemorgen 👋"


def test_wrong_secret_is_refused_unless_verification_is_off() -> None:
    with pytest.raises(BadSignature):
        parse_file("telegram", recorded("telegram/text"), {"secret_token": "other"}, True, NOW)
    assert len(parse_file("telegram", recorded("telegram/text"), {}, False, NOW)) == 1


def test_set_up_request_has_no_events() -> None:
    raw = recorded("whatsapp_cloud/handshake")
    assert parse_file("whatsapp_cloud", raw, {"verify_token": "verify-me"}, True, NOW) == []
    with pytest.raises(BadSignature):
        parse_file("whatsapp_cloud", raw, {"verify_token": "other"}, True, NOW)


def test_shape_of_our_own_format_is_checked() -> None:
    raw = recorded("custom/bridge_text").replace(b'"mId"', b'"mID"')
    with pytest.raises(BadShape, match="mId"):
        parse_file("custom", raw, {"token": "channel-token-1"}, True, NOW)


def test_unknown_code_is_refused() -> None:
    with pytest.raises(UnknownChannelCode):
        parse_file("pigeon", b"", {}, True, NOW)


def test_message_shows_its_empty_fields() -> None:
    line = to_json(InboundEvent("message", "1", sender=Sender("7"), sent_at=NOW, message=Message("text", "hi")))
    assert set(line) == {"kind", "external_id", "account", "sender", "sent_at", "message"}
    assert set(line["message"]) == {"kind", "text", "attachments", "location", "contacts", "reply_to"}
    assert line["sent_at"] == "2025-06-15T15:10:00Z"
    assert json.loads(json.dumps(line)) == line


def test_removed_reaction_shows_its_empty_emoji() -> None:
    assert to_json(InboundEvent("reaction", "1", target_id="2", emoji=""))["emoji"] == ""


def test_file_carried_along_is_shown_by_size_and_digest() -> None:
    message = Message("file", attachments=(Attachment("file", name="a.txt", content=b"abc"),))
    [shown] = to_json(InboundEvent("message", "1", message=message))["message"]["attachments"]
    assert (shown["size"], shown["sha256"][:8]) == (3, "ba7816bf")
    assert "content" not in shown


def test_ignored_item_says_why() -> None:
    assert to_json(ignored("9", "group")) == {"kind": "ignored", "external_id": "9", "account": "", "reason": "group"}
