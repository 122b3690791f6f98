"""Whether a port is free: the web server shares its port with others of its kind, and so would not notice a stranger."""

import socket

from ingest.errors import BadSetting


def require_free_port(host: str, port: int) -> None:
    """Raise BadSetting when somebody listens there already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as taken:
            raise BadSetting(
                f"cannot listen on {host} port {port} ({taken.strerror}): stop who listens there (`ss -ltnp` tells), or "
                "choose another port with --port or INGEST_PORT"
            ) from taken
