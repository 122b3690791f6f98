import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.channels.mail_quotes import strip_reply


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("Yes.\n\nOn Mon, 2 Jun 2025 at 10:00, Help <help@in.example.net> wrote:\n> Question?", "Yes."),
        ("Yes.\n\nOn Mon, 2 Jun 2025 at 10:00, Help\n<help@in.example.net>\nwrote:\n\n> Question?", "Yes."),
        ("Ja.\n\nAm 02.06.2025 um 10:00 schrieb Help <help@in.example.net>:\n> Frage?", "Ja."),
        ("Oui.\n\nLe lun. 2 juin 2025 à 10:00, Help <help@in.example.net> a écrit :\n> Question ?", "Oui."),
        ("Ja.\n\nDen mån 2 juni 2025 kl 10:00 skrev Help <help@in.example.net>:\n> Fråga?", "Ja."),
        ("Yes.\n\n-----Original Message-----\nFrom: Help\nSent: Monday\n\nQuestion?", "Yes."),
        ("Yes.\n\nFrom: Help <help@in.example.net>\nSent: Monday, June 2\nTo: Tomas\nSubject: Q\n\nQuestion?", "Yes."),
        ("Ja.\n\n________________________________\nVon: Help\nGesendet: Montag\n\nFrage?", "Ja."),
        ("Yes.\n-- \nTomas Berg\nBerg Ltd", "Yes."),
        ("Yes.\n--\nTomas", "Yes."),
        ("Yes.\n\nSent from my phone", "Yes."),
        ("On X wrote:\n> One?\nFirst.\n> Two?\nSecond.", "First.\nSecond."),
        ("> Question?\nAnswer below.", "Answer below."),
        (
            "On Monday I wrote: nothing happened\nOn Tuesday too.",
            "On Monday I wrote: nothing happened\nOn Tuesday too.",
        ),
        ("From: the bottom of my heart\nthank you", "From: the bottom of my heart\nthank you"),
        ("> only a quote", "> only a quote"),
        ("-- \nonly a signature", "-- \nonly a signature"),
        ("", ""),
    ],
)
def test_reply_is_stripped_of_what_it_answers(text: str, own: str) -> None:
    assert strip_reply(text) == own


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["On x wrote:", "> q", "-- ", "", "From: a", "Sent: b", "own", "____________________"]))
)
def test_stripping_adds_nothing_and_leaves_something(lines: list[str]) -> None:
    own = strip_reply("\n".join(lines))
    assert {line.strip() for line in own.splitlines()} <= {line.strip() for line in lines} | {""}
    assert bool(own) == bool("".join(lines).strip())
