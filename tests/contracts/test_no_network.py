"""The tests are offline: nothing they do reaches beyond this machine."""

import socket
from pathlib import Path

import pytest

from tests.contracts.test_no_calls_under_locks import imported

ROOT = Path(__file__).parents[2]


def test_other_machines_cannot_be_reached() -> None:
    # The block itself warns first, and a warning is an error here.
    with socket.socket() as outside, pytest.raises(UserWarning, match="tried to use socket"):
        outside.connect(("192.0.2.1", 443))


# Who may open connections, and to whom. Adapters fetch nothing: a URL in a message is text.
DOORS = {
    "src/ingest/egress.py": {"httpcore2", "socket"},  # the only way out
    "src/ingest/cli/ports.py": {"socket"},  # is a port of this machine free?
    "src/ingest/cli/processes.py": {"socket"},  # this machine's name
    "src/ingest/cli/up.py": {"urllib.request", "http.client"},  # this machine's own /readyz
    "src/ingest/simulators/http.py": {"ssl"},  # traffic that an operator asks for
    "src/ingest/lmtp.py": {"aiosmtpd"},  # a server: it is called
}
CLIENTS = {
    *("httpx2", "httpcore2", "httpx", "httpcore", "requests", "aiohttp", "urllib3", "urllib.request", "http.client"),
    *(
        "socket",
        "ssl",
        "smtplib",
        "ftplib",
        "imaplib",
        "poplib",
        "telnetlib",
        "xmlrpc",
        "websockets",
        "pycurl",
        "aiosmtpd",
    ),
}


def test_nothing_opens_connections_but_the_listed_modules() -> None:
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]:
        names = imported(path)
        used = {each for each in CLIENTS if any(name == each or name.startswith(f"{each}.") for name in names)}
        if used:
            found[str(path.relative_to(ROOT))] = used
    assert found == DOORS
