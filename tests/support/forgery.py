"""Access tokens that are invalid in exactly one way."""

import base64
import hashlib
import hmac
import time
from typing import Any

import orjson
from cryptography.hazmat.primitives import serialization
from mesh_admin.secrets import SecretSet
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.ids import new_id
from mesh_common.jwt import SigningKey, new_private_key_pem


class Forger:
    """Has a real access token and, unlike any attacker, every key of the mesh."""

    def __init__(self, secrets: SecretSet, access_token: str, refresh_token: str) -> None:
        self._secrets = secrets
        self._refresh_token = refresh_token
        self._key = SigningKey.from_pem(secrets.signing_key)
        self._token = access_token
        self._header, self._claims = (_decoded(part) for part in access_token.split(".")[:2])

    def genuine(self) -> str:
        """Signed again without a change: shows that the forgeries fail only because of their change."""
        return self._signed()

    def expired(self) -> str:
        return self._signed(exp=int(time.time()) - 60)

    def expiry_beyond_all_dates(self) -> str:
        return self._signed(exp=10**18)

    def expiry_beyond_all_numbers(self) -> str:
        return self._signed(exp=10**400)

    def key_id_is_a_list(self) -> str:
        return self._with_key_id([self._key.kid])

    def key_id_is_an_object(self) -> str:
        return self._with_key_id({})

    def not_yet_ours(self) -> str:
        """Signed by another key under our key's id."""
        return SigningKey(self._key.kid, new_private_key_pem()).sign(self._claims, "at+jwt")

    def unknown_key(self) -> str:
        return SigningKey.from_pem(new_private_key_pem()).sign(self._claims, "at+jwt")

    def changed_claims(self) -> str:
        header, _, signature = self._token.split(".")
        return f"{header}.{_encoded({**self._claims, 'sub': str(new_id())})}.{signature}"

    def no_algorithm(self) -> str:
        return f"{_encoded({**self._header, 'alg': 'none'})}.{_encoded(self._claims)}."

    def hmac_with_public_key(self) -> str:
        """Signed with the public key as if it were a shared secret (CVE-2026-85394)."""
        private = serialization.load_pem_private_key(self._secrets.signing_key.encode(), password=None)
        public_pem = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        body = f"{_encoded({**self._header, 'alg': 'HS256'})}.{_encoded(self._claims)}"
        mac = hmac.new(public_pem, body.encode(), hashlib.sha256).digest()
        return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    def other_issuer(self) -> str:
        return self._signed(iss="https://elsewhere.example")

    def other_audience(self) -> str:
        return self._signed(aud="elsewhere")

    def other_type(self) -> str:
        return self._key.sign(self._claims, "service+jwt")

    def refresh_token(self) -> str:
        return self._refresh_token

    def service_token(self) -> str:
        key = SigningKey.from_pem(self._secrets.service_keys["agent"])
        return ServiceTokenSigner("agent", key).token_for("gateway")

    def no_token_at_all(self) -> str:
        return "nonsense"

    def _with_key_id(self, key_id: Any) -> str:
        return SigningKey(key_id, self._key.pem).sign(self._claims, "at+jwt")

    def _signed(self, **changed: Any) -> str:
        return self._key.sign({**self._claims, **changed}, "at+jwt")


def _decoded(part: str) -> dict[str, Any]:
    claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def _encoded(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(claims)).rstrip(b"=").decode()
