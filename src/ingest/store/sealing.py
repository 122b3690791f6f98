"""Channel secrets at rest: sealed with the operator's keys and bound to the row they belong to.

What is stored is a key's id, a dot, and a Fernet token of the owner and the secrets. The id says which key opens it, and
after a rotation whether any row still needs a former one. Rows written before ids were kept begin with the token.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ingest.errors import BadSetting

Secrets = Mapping[str, tuple[str, ...]]
KEY_ID_LENGTH = 8


def channel_owner(workspace_id: int, channel_id: int) -> str:
    """Return what a channel's secrets are sealed for."""
    return f"workspace:{workspace_id}/channel:{channel_id}"


def app_owner(workspace_id: int, app_id: int) -> str:
    """Return what an app's secrets are sealed for."""
    return f"workspace:{workspace_id}/app:{app_id}"


class Sealer:
    """Seals and opens secrets. The first key seals; all keys open, so that keys can be rotated."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernets = {_key_id(key): Fernet(key) for key in keys}
            self._any = MultiFernet(list(self._fernets.values()))
        except ValueError as broken:
            raise BadSetting(
                "INGEST_SECRET_KEY must hold one or more Fernet keys (32 bytes, url-safe base64), newest first, "
                "with commas between them"
            ) from broken
        self.key_id = next(iter(self._fernets))
        """The id of the key that seals."""

    def seal(self, owner: str, secrets: Secrets) -> bytes:
        """Return the secrets sealed for `owner` (see `channel_owner`): nobody else's row can open them."""
        token = self._fernets[self.key_id].encrypt(msgspec.json.encode({"owner": owner, "secrets": secrets}))
        return f"{self.key_id}.".encode() + token

    def open(self, owner: str, sealed: bytes | None) -> dict[str, tuple[str, ...]]:
        """Return the secrets, {} where none are sealed. Raises BadSetting when the keys or the owner do not fit."""
        if not sealed:
            return {}
        try:
            opened = msgspec.json.decode(self._decrypt(bytes(sealed)))
        except InvalidToken as wrong:
            raise BadSetting(f"INGEST_SECRET_KEY does not open the secrets of {owner}: was a key removed?") from wrong
        # Without the workspace: as it was sealed before the workspace was part of the name.
        if opened["owner"] not in {owner, owner.partition("/")[2]}:
            raise BadSetting(f"the secrets of {owner} were sealed for {opened['owner']}")
        return {name: tuple(values) for name, values in opened["secrets"].items()}

    def is_current(self, sealed: bytes | None) -> bool:
        """Return whether only the newest key is needed to open this."""
        return not sealed or bytes(sealed).startswith(f"{self.key_id}.".encode())

    def _decrypt(self, sealed: bytes) -> bytes:
        key_id, dot, token = sealed.partition(b".")
        if not dot:
            return self._any.decrypt(sealed)
        fernet = self._fernets.get(key_id.decode("ascii", "replace"))
        if fernet is None:
            raise InvalidToken
        return fernet.decrypt(token)


def _key_id(key: str) -> str:
    """Return the key's id: of a hash, so that it tells nothing about the key."""
    return hashlib.sha256(b"key-id:" + key.encode()).hexdigest()[:KEY_ID_LENGTH]
