"""User and service tokens: valid ones are accepted, and every kind of forgery is rejected."""

import base64
import time
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from mesh_admin.secrets import make_secrets
from mesh_common.errors import Unauthenticated
from mesh_common.grpc.service_tokens import TTL_S, ServiceTokenSigner, ServiceTokenVerifier
from mesh_common.jwt import JWTVerifier, SigningKey, new_private_key_pem, parse_jwks, public_jwk

SECRETS = make_secrets()
KEYS = {service: SigningKey.from_pem(pem) for service, pem in SECRETS.service_keys.items()}
JWKS = parse_jwks(SECRETS.service_jwks())
ISSUER, AUDIENCE = "https://mesh.example", "mesh"
USER_KEY = SigningKey.from_pem(SECRETS.signing_key)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    fields = {"iss": "agent", "sub": "agent", "aud": "memory", "iat": now, "exp": now + 300, "jti": "1"}
    return {name: value for name, value in (fields | changes).items() if value is not None}


@pytest.fixture
def verifier() -> ServiceTokenVerifier:
    return ServiceTokenVerifier(JWKS, service="memory")


@pytest.fixture
def users() -> JWTVerifier:
    """Verifies access tokens as the gateway does."""
    jwk = public_jwk(SECRETS.signing_key)
    return JWTVerifier({jwk["kid"]: jwk}, token_type="at+jwt", audience=AUDIENCE, issuer=ISSUER)


def test_a_service_is_identified_by_its_token(verifier: ServiceTokenVerifier) -> None:
    token = ServiceTokenSigner("agent", KEYS["agent"]).token_for("memory")

    assert [verifier.service_of(token), verifier.service_of(token)] == ["agent", "agent"]


def test_a_signer_uses_a_token_until_half_of_its_life_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    signer, now_s = ServiceTokenSigner("agent", KEYS["agent"]), time.monotonic()
    first = signer.token_for("memory")

    again = signer.token_for("memory")
    other = signer.token_for("eval")
    monkeypatch.setattr("mesh_common.grpc.service_tokens.time.monotonic", lambda: now_s + TTL_S / 2 + 1)
    later = signer.token_for("memory")

    assert again == first
    assert len({first, other, later}) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "eval"},
        {"aud": None},
        {"exp": int(time.time()) - 10},
        {"exp": None},
        {"exp": "soon"},
        {"iss": "gateway"},
        {"iss": None},
        # Far in the future, because a whole test run may pass between collecting this and running it.
        {"nbf": int(time.time()) + 86_400},
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(verifier: ServiceTokenVerifier, changes: dict[str, Any]) -> None:
    token = KEYS["agent"].sign(claims(**changes), "service+jwt")

    with pytest.raises(Unauthenticated) as raised:
        verifier.service_of(token)

    assert raised.value.reason == "INVALID_TOKEN"


def test_a_service_cannot_speak_for_another(verifier: ServiceTokenVerifier) -> None:
    token = ServiceTokenSigner("agent", KEYS["eval"]).token_for("memory")

    with pytest.raises(Unauthenticated):
        verifier.service_of(token)


def test_the_key_of_an_unknown_service_is_refused(verifier: ServiceTokenVerifier) -> None:
    token = ServiceTokenSigner("billing", SigningKey.from_pem(new_private_key_pem())).token_for("memory")

    with pytest.raises(Unauthenticated):
        verifier.service_of(token)


def test_a_key_that_names_no_service_of_the_mesh_is_not_taken_from_the_file() -> None:
    pem = new_private_key_pem()
    jwk = public_jwk(pem)
    strangers = {jwk["kid"]: {**jwk, "mesh_service": "billing"}}

    token = ServiceTokenSigner("billing", SigningKey.from_pem(pem)).token_for("memory")

    with pytest.raises(Unauthenticated):
        ServiceTokenVerifier(strangers, service="memory").service_of(token)


def test_a_token_that_ends_while_it_is_remembered_is_refused(
    verifier: ServiceTokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, now_s = KEYS["agent"].sign(claims(), "service+jwt"), time.time()
    assert verifier.service_of(token) == "agent"

    monkeypatch.setattr("mesh_common.jwt.time.time", lambda: now_s + 306)

    with pytest.raises(Unauthenticated):
        verifier.service_of(token)


def test_an_access_token_is_taken_and_is_no_service_token(users: JWTVerifier, verifier: ServiceTokenVerifier) -> None:
    token = USER_KEY.sign(claims(iss=ISSUER, sub="user-1", aud=AUDIENCE), "at+jwt")

    assert users.verify(token)["sub"] == "user-1"
    with pytest.raises(Unauthenticated):
        verifier.service_of(token)


def test_a_service_token_is_no_access_token(users: JWTVerifier) -> None:
    token = USER_KEY.sign(claims(iss=ISSUER, aud=AUDIENCE), "service+jwt")

    with pytest.raises(Unauthenticated):
        users.verify(token)


def test_a_services_key_signs_no_access_token(users: JWTVerifier) -> None:
    token = KEYS["agent"].sign(claims(iss=ISSUER, aud=AUDIENCE), "at+jwt")

    with pytest.raises(Unauthenticated):
        users.verify(token)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS256", "ES384", "RS256"])
def test_another_algorithm_in_the_header_is_refused(users: JWTVerifier, algorithm: str) -> None:
    token = USER_KEY.sign(claims(iss=ISSUER, aud=AUDIENCE), "at+jwt")
    _, payload, signature = token.split(".")

    for forged_signature in (signature, ""):
        forged = f"{_encoded({'alg': algorithm, 'typ': 'at+jwt', 'kid': USER_KEY.kid})}.{payload}.{forged_signature}"
        with pytest.raises(Unauthenticated):
            users.verify(forged)


@pytest.mark.parametrize("secret", ["pem", "jwk"])
def test_an_hs256_token_made_with_our_public_key_is_refused(users: JWTVerifier, secret: str) -> None:
    """python-jose accepts it if `algorithms` is omitted (CVE-2026-85394)."""
    header = {"alg": "HS256", "typ": "at+jwt", "kid": USER_KEY.kid}
    signed = f"{_encoded(header)}.{_encoded(claims(iss=ISSUER, aud=AUDIENCE))}"
    key = _public_pem() if secret == "pem" else orjson.dumps(public_jwk(SECRETS.signing_key))
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(signed.encode())

    with pytest.raises(Unauthenticated):
        users.verify(f"{signed}.{_base64(mac.finalize())}")


def test_a_changed_payload_is_refused(users: JWTVerifier) -> None:
    header, _, signature = USER_KEY.sign(claims(iss=ISSUER, aud=AUDIENCE), "at+jwt").split(".")

    with pytest.raises(Unauthenticated):
        users.verify(f"{header}.{_encoded(claims(iss=ISSUER, aud=AUDIENCE, sub='admin'))}.{signature}")


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "....", "é.é.é", "\ud800", "x" * 10_000, "e30.e30.e30"])
def test_what_is_no_token_is_refused(users: JWTVerifier, token: str) -> None:
    with pytest.raises(Unauthenticated):
        users.verify(token)


def test_a_key_that_is_taken_away_takes_its_remembered_tokens_along(users: JWTVerifier) -> None:
    token = USER_KEY.sign(claims(iss=ISSUER, aud=AUDIENCE), "at+jwt")
    users.verify(token)
    other = public_jwk(new_private_key_pem())

    users.replace_keys({other["kid"]: other})

    assert not users.knows_key_of(token)
    with pytest.raises(Unauthenticated):
        users.verify(token)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "1"}]}',
        '{"keys": [{"kty": "EC", "crv": "P-384", "kid": "1"}]}',
        '{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "d": "private"}]}',
        '{"keys": [{"kty": "EC", "crv": "P-256"}]}',
        '{"keys": ["EC"]}',
        "no json",
    ],
)
def test_a_key_file_with_anything_but_public_p256_keys_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - settings report any ValueError
        parse_jwks(text)


def _encoded(part: dict[str, Any]) -> str:
    return _base64(orjson.dumps(part))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _public_pem() -> bytes:
    private = serialization.load_pem_private_key(SECRETS.signing_key.encode(), password=None)
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize("kid", [["a"], {"a": 1}, 7, None])
def test_a_kid_that_is_no_text_is_refused_like_any_other_token(kid: object) -> None:
    token = f"{_encoded({'alg': 'ES256', 'typ': 'at+jwt', 'kid': kid})}.e30.c2ln"
    verifier = JWTVerifier({}, token_type="at+jwt", audience=AUDIENCE, issuer=ISSUER)

    with pytest.raises(Unauthenticated):
        verifier.knows_key_of(token)
    with pytest.raises(Unauthenticated):
        verifier.verify(token)


@pytest.mark.parametrize("exp", [10**18, 10**400, "9999999999", [9999999999], float("inf")])
def test_an_expiry_that_is_no_time_is_refused_like_any_other_token(exp: object) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "exp": exp}
    token = USER_KEY.sign(claims, "at+jwt")
    jwk = public_jwk(USER_KEY.pem)
    verifier = JWTVerifier({jwk["kid"]: jwk}, token_type="at+jwt", audience=AUDIENCE, issuer=ISSUER)

    with pytest.raises(Unauthenticated):
        verifier.verify(token)
