"""Access tokens (signed, RFC 9068) and refresh tokens (opaque, only their SHA-256 is stored).

The successor of a refresh token is derived from the token and a stored random salt, so that auth can give the same
successor again. Whoever reads the database has no token and thus no successor.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import orjson
from mesh_common.ids import new_id
from mesh_common.jwt import SigningKey, public_jwk

from mesh_auth.domain import SessionId, User

# 256 bits cannot be guessed, so a plain hash is enough to store the token. SHA-256 derives as many.
_REFRESH_TOKEN_BYTES: Final = 32


class ES256TokenSigner:
    """Signs with the current key. Publishes the previous and the next key to verifiers too."""

    def __init__(
        self, current: SigningKey, *, others: Sequence[SigningKey], issuer: str, audience: str, ttl: timedelta
    ) -> None:
        self._key = current
        self._issuer = issuer
        self._audience = audience
        self._ttl_s = int(ttl.total_seconds())
        by_kid = {key.kid: public_jwk(key.pem) for key in (current, *others)}
        self._jwks_json = orjson.dumps({"keys": list(by_kid.values())}).decode()

    def sign(self, user: User, session_id: SessionId, *, now: datetime) -> str:
        issued_at = int(now.timestamp())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user.id),
            "jti": str(new_id()),
            "sid": str(session_id),
            "org": str(user.subject.organisation_id),
            # RFC 9068: separated by spaces, in any order. This is the order of release 0.1.0.
            "scope": " ".join(sorted(user.subject.scopes, reverse=True)),
            "iat": issued_at,
            "exp": issued_at + self._ttl_s,
        }
        return self._key.sign(claims, "at+jwt")

    def jwks_json(self) -> str:
        return self._jwks_json


def new_refresh_token() -> str:
    return secrets.token_urlsafe(_REFRESH_TOKEN_BYTES)


def new_successor_salt() -> bytes:
    return secrets.token_bytes(_REFRESH_TOKEN_BYTES)


def successor_of(token: str, salt: bytes) -> str:
    """The token that follows. Looks like one of `new_refresh_token` and is as hard to guess without `token`."""
    derived = hmac.digest(token.encode(), salt, "sha256")
    return base64.urlsafe_b64encode(derived).rstrip(b"=").decode()


def refresh_token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
