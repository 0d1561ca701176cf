"""Whether this replica accepts requests.

Ready means: the keys that verify tokens are known, and the replica is not stopping. Nothing else counts: if Redis, auth
or every agent is unavailable, all replicas are affected alike, and a clear 503 is better than a refused connection.
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
