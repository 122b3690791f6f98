"""Unit tests cannot even open a socket."""

import socket

import pytest


def test_no_socket_can_be_opened() -> None:
    # The block itself warns first, and a warning is an error here.
    with pytest.raises(UserWarning, match="tried to use socket"):
        socket.socket()
