"""Channel secrets at rest: sealed with the operator's keys and bound to the row they belong to."""

from collections.abc import Mapping, Sequence

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ingest.errors import BadSetting

Secrets = Mapping[str, tuple[str, ...]]


class Sealer:
    """Seals and opens secrets. The first key seals; all keys open, so that keys can be rotated."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as broken:
            raise BadSetting(
                "INGEST_SECRET_KEY must hold one or more Fernet keys (32 bytes, url-safe base64), newest first, "
                "with commas between them"
            ) from broken

    def seal(self, owner: str, secrets: Secrets) -> bytes:
        """Return the secrets sealed for `owner`, such as "channel:7": nobody else's row can open them."""
        return self._fernet.encrypt(msgspec.json.encode({"owner": owner, "secrets": secrets}))

    def open(self, owner: str, sealed: bytes | None) -> dict[str, tuple[str, ...]]:
        """Return the secrets, {} where none are sealed. Raises BadSetting when the keys or the owner do not fit."""
        if not sealed:
            return {}
        try:
            opened = msgspec.json.decode(self._fernet.decrypt(bytes(sealed)))
        except InvalidToken as wrong:
            raise BadSetting(f"INGEST_SECRET_KEY does not open the secrets of {owner}: was a key removed?") from wrong
        if opened["owner"] != owner:
            raise BadSetting(f"the secrets of {owner} were sealed for {opened['owner']}")
        return {name: tuple(values) for name, values in opened["secrets"].items()}

    def reseal(self, sealed: bytes) -> bytes:
        """Return the same secrets sealed with the newest key."""
        return self._fernet.rotate(bytes(sealed))
