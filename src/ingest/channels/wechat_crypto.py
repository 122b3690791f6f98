"""WeChat's proofs of origin and its safe mode: signed queries, and bodies under AES.

Source: WeChat, "Message encryption and decryption" of Official Accounts.
"""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from defusedxml import DefusedXmlException  # type: ignore[import-untyped] # it ships no types
from defusedxml.ElementTree import ParseError, fromstring  # type: ignore[import-untyped] # as above

from ingest.errors import BadPayload

KEY_BYTES = 32
IV_BYTES = 16
# PKCS#7 with twice the cipher's own block.
PADDING_BLOCK = 32
RANDOM_BYTES = 16
LENGTH_BYTES = 4


def read_xml(body: bytes) -> dict[str, str]:
    """Return the root's children as text by tag. Raises BadPayload for anything but plain XML without DTD and entities."""
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as broken:
        raise BadPayload("body is not XML that we can read") from broken
    return {child.tag: child.text or "" for child in root}


def signature_of(token: str, *parts: str) -> str:
    """Return the lower hex SHA-1 of the token and the parts in order of their text."""
    joined = "".join(sorted((token, *parts)))
    return hashlib.sha1(joined.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def open_message(encrypted: str, encoding_key: str, app_id: str) -> bytes | None:
    """Return the message inside an Encrypt field; None where this key does not open it or it is for another app."""
    try:
        key = base64.b64decode(f"{encoding_key}=", validate=True)
        sealed = base64.b64decode(encrypted, validate=True)
    except ValueError:
        return None
    if len(key) != KEY_BYTES or not sealed or len(sealed) % IV_BYTES:
        return None
    cipher = Cipher(algorithms.AES256(key), modes.CBC(key[:IV_BYTES])).decryptor()
    plain = _unpadded(cipher.update(sealed) + cipher.finalize())
    start = RANDOM_BYTES + LENGTH_BYTES
    end = start + int.from_bytes(plain[RANDOM_BYTES:start], "big")
    if len(plain) < start or end > len(plain) or not hmac.compare_digest(plain[end:], app_id.encode()):
        return None
    return plain[start:end]


def _unpadded(padded: bytes) -> bytes:
    count = padded[-1]
    return padded[:-count] if 1 <= count <= PADDING_BLOCK else b""
