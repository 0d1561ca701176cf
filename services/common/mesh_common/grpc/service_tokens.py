"""Service tokens: each service signs its own and verifies others with a file of public keys, without any call."""

import time

from mesh_common.grpc.edges import SERVICES
from mesh_common.ids import new_id
from mesh_common.jwt import JWTVerifier, SigningKey, TokenType

TTL_S = 300
_REFRESH_S = TTL_S / 2
_TOKEN_TYPE: TokenType = "service+jwt"  # noqa: S105 - a type, not a secret


class ServiceTokenSigner:
    """Signs tokens for callees, and replaces each after half of its 5 minutes."""

    def __init__(self, service: str, key: SigningKey) -> None:
        self._service = service
        self._key = key
        self._tokens: dict[str, tuple[str, float]] = {}

    def token_for(self, audience: str) -> str:
        token, signed_at_s = self._tokens.get(audience, ("", 0.0))
        if not token or time.monotonic() - signed_at_s > _REFRESH_S:
            token, signed_at_s = self._sign(audience), time.monotonic()
            self._tokens[audience] = (token, signed_at_s)
        return token

    def _sign(self, audience: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self._service,
            "sub": self._service,
            "aud": audience,
            "iat": now,
            "exp": now + TTL_S,
            "jti": str(new_id()),
        }
        return self._key.sign(claims, _TOKEN_TYPE)


class ServiceTokenVerifier:
    """Identifies the service that signed a token, with the public keys of all services."""

    def __init__(self, keys: dict[str, dict[str, str]], *, service: str) -> None:
        own_keys_only = {kid: key for kid, key in keys.items() if key.get("mesh_service") in SERVICES}
        self._verifier = JWTVerifier(own_keys_only, token_type=_TOKEN_TYPE, audience=service)

    def service_of(self, token: str) -> str:
        """Raises Unauthenticated."""
        return str(self._verifier.verify(token)["iss"])
