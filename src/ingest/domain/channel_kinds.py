"""What a channel of the workspace means for one contact."""

from typing import Literal

ChannelKind = Literal["active", "inactive", "unavailable"]


def channel_kind(
    is_connected: bool, is_startable: bool, address_kind: str, phone: str | None, email: str | None
) -> ChannelKind:
    """Return active for a connected channel; inactive for one that a user may start, because the contact has the phone
    or email it needs; unavailable for one that only the contact can start.
    """
    if is_connected:
        return "active"
    address = {"phone": phone, "email": email}.get(address_kind)
    return "inactive" if is_startable and address else "unavailable"
