"""JSON Web Tokens, ES256 only. The only module that imports python-jose.

If `algorithms` is omitted, python-jose accepts an HS256 token forged with our public key (CVE-2026-85394). It is
therefore called only here, always with `["ES256"]`, and only after `alg` and `typ` have been checked.
"""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jose import jwk as jose_jwk
from jose import jwt as jose_jwt
from jose.exceptions import JOSEError

from mesh_common.errors import Unauthenticated

ALGORITHM: Final = "ES256"
TokenType = Literal["at+jwt", "service+jwt"]
Claims = Mapping[str, Any]

# Our tokens are smaller than 1 kB; longer ones are rejected without hashing.
_MAX_TOKEN_CHARS = 8_192
_MAX_CACHED = 10_000
# Maximum clock difference between nodes; a customary value.
_LEEWAY_S = 5
# The end of the year 9999, the last one that datetime supports.
_MAX_EXP_S = 253_402_300_799


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An EC P-256 private key and its id (RFC 7638 thumbprint)."""

    kid: str
    pem: str
    _key: Any = field(init=False, repr=False, compare=False)
    """python-jose's key object, parsed from the PEM once because parsing takes as long as signing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", jose_jwk.construct(self.pem, ALGORITHM))

    @classmethod
    def from_pem(cls, pem: str) -> "SigningKey":
        """Raises ValueError for anything but an unencrypted EC P-256 private key."""
        return cls(kid=str(public_jwk(pem)["kid"]), pem=pem)

    def derived(self, purpose: bytes) -> bytes:
        """A symmetric key for one purpose, 32 bytes: the same wherever this key is, however its PEM is written."""
        private = serialization.load_pem_private_key(self.pem.encode(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise TypeError("a signing key is an EC key")
        scalar = private.private_numbers().private_value.to_bytes(32, "big")
        return hmac.digest(scalar, purpose, hashlib.sha256)

    def sign(self, claims: Claims, token_type: TokenType) -> str:
        headers = {"kid": self.kid, "typ": token_type}
        return jose_jwt.encode(dict(claims), self._key, algorithm=ALGORITHM, headers=headers)


def new_private_key_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_jwk(pem: str) -> dict[str, str]:
    """The public part of a private key as a JWK with `kid`, `alg` and `use`."""
    try:
        private = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Encrypted keys raise TypeError. Without a cause, so that no part of a private key is ever repeated.
        raise ValueError("is not an unencrypted private key in PEM") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ValueError("is not an EC P-256 private key")  # noqa: TRY004 - settings report ValueError
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = jose_jwk.construct(public_pem.decode(), ALGORITHM).to_dict()
    fields = {name: _text(key[name]) for name in ("crv", "kty", "x", "y")}
    thumbprint = hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    return {**fields, "kid": thumbprint, "alg": ALGORITHM, "use": "sig"}


class JWTVerifier:
    """Verifies tokens of one type against a set of public keys, and caches verified tokens.

    A key whose JWK has `mesh_service` authenticates only that service, so a service whose key leaked cannot impersonate
    another one. A key without it authenticates `issuer`.

    A cache hit costs a SHA-256 (0.6 µs), a verification by ES256 120-200 µs. Entries live until the token's `exp`. The
    cache holds at most 10,000; the oldest are evicted first. The caller checks revocation, by the returned claims.
    """

    def __init__(
        self,
        keys: Mapping[str, Mapping[str, str]],
        *,
        token_type: TokenType,
        audience: str,
        issuer: str | None = None,
    ) -> None:
        self._keys = dict(keys)
        self._token_type = token_type
        self._audience = audience
        self._issuer = issuer
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()

    def replace_keys(self, keys: Mapping[str, Mapping[str, str]]) -> None:
        """Replaces the key set. If a key was removed, clears the cache of verified tokens."""
        if any(kid not in keys for kid in self._keys):
            self._verified.clear()
        self._keys = dict(keys)

    def knows_key_of(self, token: str) -> bool:
        """Whether the token names a key of the set. A cached token is not parsed again."""
        return _digest(token) in self._verified or _kid(_header(token)) in self._keys

    def has_verified(self, token: str) -> bool:
        """Whether the token is cached, so that `verify` costs little. It may have expired since."""
        return _digest(token) in self._verified

    def verify(self, token: str) -> Claims:
        """The token's claims. Raises Unauthenticated, which never says which check failed."""
        if len(token) > _MAX_TOKEN_CHARS:
            raise invalid_token()
        digest = _digest(token)
        claims = self._verified.get(digest)
        if claims is None:
            claims = self._verify_uncached(token)
            self._remember(digest, claims)
        if claims["exp"] + _LEEWAY_S <= time.time():
            self._verified.pop(digest, None)
            raise invalid_token()
        return claims

    def _verify_uncached(self, token: str) -> Claims:
        header = _header(token)
        if header.get("alg") != ALGORITHM or header.get("typ") != self._token_type:
            raise invalid_token()
        key = self._keys.get(_kid(header))
        if key is None:
            raise invalid_token()
        try:
            claims = jose_jwt.decode(
                token,
                dict(key),
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=key.get("mesh_service") or self._issuer,
                options={"leeway": _LEEWAY_S, "require_exp": True, "require_aud": True, "require_iss": True},
            )
        except (JOSEError, TypeError, OverflowError) as error:
            # A correctly signed token may still be malformed: python-jose computes with `exp` before checking its type.
            raise invalid_token() from error
        if type(claims["exp"]) is not int or claims["exp"] > _MAX_EXP_S:
            # python-jose accepts numbers in quotes and times beyond the year 9999.
            raise invalid_token()
        return claims

    def _remember(self, digest: bytes, claims: Claims) -> None:
        self._verified[digest] = claims
        if len(self._verified) > _MAX_CACHED:
            self._verified.popitem(last=False)


def parse_jwks(text: str | bytes) -> dict[str, dict[str, str]]:
    """Keys by `kid`. Raises ValueError unless every key is a public EC P-256 key with a `kid`."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError("is not JSON") from error
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("is not a JWKS document")  # noqa: TRY004 - settings report ValueError
    if not all(_is_public_p256(key) for key in keys):
        raise ValueError("contains something other than public EC P-256 keys with a kid")
    return {key["kid"]: key for key in keys}


def _is_public_p256(key: object) -> bool:
    if not isinstance(key, dict):
        return False
    return key.get("kty") == "EC" and key.get("crv") == "P-256" and isinstance(key.get("kid"), str) and "d" not in key


def _header(token: str) -> Mapping[str, Any]:
    try:
        return jose_jwt.get_unverified_header(token)
    except (JOSEError, ValueError) as error:
        raise invalid_token() from error


def _kid(header: Mapping[str, Any]) -> str:
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise invalid_token()
    return kid


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def invalid_token() -> Unauthenticated:
    """The error for every rejected token, which never says which check failed."""
    return Unauthenticated("The token is missing, expired or not valid. Log in again.", reason="INVALID_TOKEN")
