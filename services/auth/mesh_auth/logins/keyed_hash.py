"""Keyed hashes of what must not be stored in plain text: client addresses, and names that nobody registered.

A plain hash of an IPv4 address is reversed by trying all 2³². The keys are derived from the keys that sign access
tokens, so every replica has them and there is no further secret.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from mesh_common.jwt import SigningKey

# Separates these keys from any other use of the signing key.
_PURPOSE: Final = b"mesh_auth login limits 1"


class KeyedHashes:
    def __init__(self, keys: Sequence[bytes]) -> None:
        """The first key makes hashes. The others, from before and after a rotation, only recognise them."""
        self._keys = tuple(keys)

    def of(self, *parts: str) -> bytes:
        """32 bytes. Different sequences of parts have different hashes."""
        return _hash(self._keys[0], parts)

    def all_of(self, *parts: str) -> list[bytes]:
        """What `of` gives under each key."""
        return [_hash(key, parts) for key in self._keys]


def keyed_hashes(signing_keys: Sequence[SigningKey]) -> KeyedHashes:
    return KeyedHashes([key.derived(_PURPOSE) for key in signing_keys])


def _hash(key: bytes, parts: Sequence[str]) -> bytes:
    encoded = [part.encode() for part in parts]
    return hmac.digest(key, b"".join(len(part).to_bytes(4, "big") + part for part in encoded), hashlib.sha256)
