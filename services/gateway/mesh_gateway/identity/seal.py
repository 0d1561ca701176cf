"""Values in Redis by which the gateway decides who somebody is, with a MAC.

Without it, whoever can write to Redis could add a key that verifies tokens, or store a ticket for another user. The
secret is derived from the gateway's service key, which all replicas share and which is not in Redis. While that key is
rotated, replicas refuse each other's values: they fetch the keys from auth, and clients ask for another ticket.
"""

import hashlib
import hmac
from typing import Final

from mesh_common.clock import Clock
from mesh_common.jwt import SigningKey

_PURPOSE: Final = b"mesh_gateway values in redis 1"
_MAC_BYTES: Final = 32
_TIME_BYTES: Final = 8


class Seal:
    """The MAC covers the name and the time: a value can be neither moved nor kept for longer than it was made for.

    It cannot prevent that somebody restores a deleted value within that time.
    """

    def __init__(self, key: SigningKey, clock: Clock) -> None:
        self._key = key.derived(_PURPOSE)
        self._clock = clock

    def sealed(self, name: str, content: bytes, *, ttl_s: int) -> bytes:
        """The value to store under the key `name`."""
        until = (int(self._clock.now().timestamp()) + ttl_s).to_bytes(_TIME_BYTES, "big")
        return self._mac(name, until + content) + until + content

    def opened(self, name: str, value: bytes | str) -> bytes | None:
        """The content of a value. None if no gateway made it for this name, or if its time is over."""
        stored = value.encode() if isinstance(value, str) else value
        mac, rest = stored[:_MAC_BYTES], stored[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(name, rest)):
            return None
        until_s = int.from_bytes(rest[:_TIME_BYTES], "big")
        return rest[_TIME_BYTES:] if self._clock.now().timestamp() < until_s else None

    def _mac(self, name: str, rest: bytes) -> bytes:
        encoded = name.encode()
        return hmac.digest(self._key, len(encoded).to_bytes(4, "big") + encoded + rest, hashlib.sha256)
