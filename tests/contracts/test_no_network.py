"""The tests are offline: nothing they do reaches beyond this machine."""

import socket

import pytest


def test_other_machines_cannot_be_reached() -> None:
    # The block itself warns first, and a warning is an error here.
    with socket.socket() as outside, pytest.raises(UserWarning, match="tried to use socket"):
        outside.connect(("192.0.2.1", 443))
