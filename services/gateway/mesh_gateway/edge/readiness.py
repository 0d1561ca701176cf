"""Whether this replica takes requests.

Ready: the keys that verify tokens are known, and the replica is not stopping. Nothing else: when Redis, auth or
every agent is away, all replicas are struck alike, and a clear 503 from here is worth more than a refused connection.
"""

from mesh_gateway.identity.signing_keys import SigningKeys


class Readiness:
    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys
        self._is_draining = False

    def drain(self) -> None:
        self._is_draining = True

    def reason(self) -> str | None:
        """None when ready, else why not."""
        if self._is_draining:
            return "draining"
        return None if self._keys.is_known else "the signing keys of auth are not known"
