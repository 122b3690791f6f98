"""What a contact is shown as: its name, the avatar that stands in for a picture."""

from dataclasses import dataclass
from hashlib import blake2b

# Dark enough for white letters.
AVATAR_COLORS = ("#b4441f", "#8a5a00", "#52711e", "#1d7a4f", "#14748a", "#2f5fb3", "#6a4bb8", "#a03a86")


@dataclass(frozen=True, slots=True)
class Avatar:
    """What stands in for a picture: one or two letters on a colour, the same for the contact every time."""

    initials: str
    color: str


def shown_name(
    contact_id: int,
    *,
    first_name: str,
    last_name: str | None,
    display_name: str | None,
    phone: str | None,
    email: str | None,
) -> str:
    """Return the name to show: the contact's own, else the channel's, else phone, else email, else "Contact <id>"."""
    own = " ".join(part for part in (first_name, last_name) if part).strip()
    return own or display_name or phone or email or f"Contact {contact_id}"


def generated_avatar(contact_id: int, name: str) -> Avatar:
    """Return the avatar for a contact without a picture."""
    words = [word for word in name.split() if word[0].isalnum()]
    letters = [words[0][0], words[-1][0]] if len(words) > 1 else [word[0] for word in words]
    place = blake2b(str(contact_id).encode(), digest_size=2).digest()[0] % len(AVATAR_COLORS)
    return Avatar("".join(letters).upper() or "#", AVATAR_COLORS[place])
