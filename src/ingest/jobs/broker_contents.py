"""What the broker holds, for proofs of erasure: every key of ours on Redis or Valkey, with all that is in it.

Values are read by their type, not as a dump, which would be compressed. RabbitMQ has no way to look into a queue without
taking messages out; the same publisher fills both.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery
from redis import Redis

_BASE64 = re.compile(rb"[A-Za-z0-9+/=]{16,}")

READERS: dict[bytes, Callable[[Redis, bytes], Any]] = {
    b"string": lambda client, key: client.get(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"stream": lambda client, key: client.xrange(key),
}


def can_be_read(app: Celery) -> bool:
    """Return whether there is a way to look into this broker."""
    return bool(app.connection_for_read().transport.driver_type == "redis")


def list_contents(app: Celery, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Give each key under the prefix with all that is in it as bytes, the bodies of messages decoded.

    Only for brokers that can be read. Raises the client's own errors when the broker is away.
    """
    with app.connection_for_read() as connection:
        # The transport's own client would put the prefix before some keys once more.
        channel: Any = connection.default_channel
        client = Redis(connection_pool=channel.client.connection_pool)
        for key in client.scan_iter(match=f"{prefix}:*", count=1000):
            kind = client.type(key)
            value = READERS[kind](client, key) if kind in READERS else b""
            yield key.decode(errors="replace"), key + b"\n" + _decoded(_flat(value))


def _flat(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return b"\n".join(_flat(key) + b"\n" + _flat(each) for key, each in value.items())
    if isinstance(value, list | tuple | set):
        return b"\n".join(map(_flat, value))
    return b"" if value is None else str(value).encode()


def _decoded(value: bytes) -> bytes:
    """Return the value, followed by what its base64 says: that is how kombu packs bodies."""
    parts = [value]
    for run in _BASE64.findall(value):
        try:
            parts.append(base64.b64decode(run, validate=True))
        except binascii.Error:
            continue
    return b"\n".join(parts)
