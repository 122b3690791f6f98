import pytest

from ingest.channels import messenger
from ingest.domain.events import InboundEvent
from tests.unit.channels.conftest import MakeWebhook

PAGE, PERSON = "500600700800900", "6100000000000042"


def read(webhook: MakeWebhook, name: str) -> list[InboundEvent]:
    return messenger.parse(webhook(f"messenger/{name}"))


def test_entries_of_several_pages_are_read_each_for_its_own(webhook: MakeWebhook) -> None:
    """T41, T56."""
    events = read(webhook, "several")
    assert [event.account for event in events] == [PAGE] * 3 + ["500600700800901"] * 3


def test_sticker_that_comes_twice_is_one_attachment(webhook: MakeWebhook) -> None:
    [event] = read(webhook, "sticker_twice")
    assert event.message is not None
    assert [file.kind for file in event.message.attachments] == ["sticker"]


def test_reel_under_two_names_is_one_attachment(webhook: MakeWebhook) -> None:
    [event] = read(webhook, "reel")
    assert event.message is not None
    assert len(event.message.attachments) == 1


@pytest.mark.parametrize(
    ("name", "raw_kind"), [("empty", "empty"), ("unknown_attachment", "hologram"), ("template", "template")]
)
def test_message_without_content_is_kept_as_unsupported(webhook: MakeWebhook, name: str, raw_kind: str) -> None:
    """T53."""
    [event] = read(webhook, name)
    assert event.message is not None
    assert (event.message.kind, event.message.raw_kind) == ("unsupported", raw_kind)


def test_echo_is_about_the_person_written_to(webhook: MakeWebhook) -> None:
    """T47."""
    [event] = read(webhook, "echo")
    assert event.kind == "echo"
    assert event.sender is not None
    assert (event.sender.external_id, event.account) == (PERSON, PAGE)


def test_page_writing_to_itself_makes_no_contact(webhook: MakeWebhook) -> None:
    """T47."""
    [event] = read(webhook, "own_page")
    assert (event.kind, event.reason) == ("ignored", "own_event")


def test_time_as_text_of_seconds_is_read(webhook: MakeWebhook) -> None:
    [event] = read(webhook, "postback_without_mid")
    assert event.sent_at is not None
    assert event.sent_at.timestamp() == 1750000000
    assert event.external_id.startswith("postback:")


def test_two_taps_on_a_button_without_mid_are_two_messages(webhook: MakeWebhook) -> None:
    hook = webhook("messenger/postback_without_mid")
    [first] = messenger.parse(hook)
    later = type(hook)(hook.method, hook.url, hook.headers, hook.body.replace(b"1750000000", b"1750000009"))
    [second] = messenger.parse(later)
    assert first.external_id != second.external_id


def test_watermark_moves_all_messages_before_it(webhook: MakeWebhook) -> None:
    [event] = read(webhook, "read")
    assert (event.status, event.target_id) == ("read", None)
    assert event.up_to is not None
    assert event.up_to.timestamp() == 1750000000.4


def test_reaction_taken_off_has_no_emoji(webhook: MakeWebhook) -> None:
    """T51."""
    [put], [taken] = read(webhook, "reaction"), read(webhook, "reaction_removed")
    assert (put.emoji, taken.emoji, taken.target_id) == ("❤️", "", "m_FakeMid-0")


def test_unsent_message_is_a_delete_under_an_id_of_its_own(webhook: MakeWebhook) -> None:
    """T52: not under the message's id, or it would pass for a redelivery."""
    [event] = read(webhook, "deleted")
    assert (event.kind, event.target_id, event.external_id) == ("delete", "m_FakeMid-3", "m_FakeMid-3:delete")


def test_stop_of_notifications_is_an_opt_out(webhook: MakeWebhook) -> None:
    [stop], [start] = read(webhook, "optout"), read(webhook, "optin")
    assert (stop.kind, start.kind) == ("opt_out", "opt_in")


def test_person_of_the_checkbox_plugin_is_not_known_yet(webhook: MakeWebhook) -> None:
    [event] = read(webhook, "checkbox_plugin")
    assert (event.kind, event.reason) == ("ignored", "user_ref")


def test_standby_is_marked_as_handled_elsewhere(webhook: MakeWebhook) -> None:
    assert [event.elsewhere for event in read(webhook, "standby")] == [True, True]


def test_unreadable_items_do_not_sink_their_neighbours(webhook: MakeWebhook) -> None:
    kinds = [event.kind for event in read(webhook, "one_unreadable")]
    assert kinds == ["message", "ignored", "ignored", "ignored", "message", "ignored"]
